//! The mesh in a lab: starts, kills and restarts the product's processes, and calls `meshctl`. Knows their command lines only
//! through `components`, and their state only through what they serve.

pub mod apiservers;
mod etcd;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_peer::EtcdPeer;
use parking_lot::Mutex;

use self::etcd::Etcd;
use crate::components::{self, AgentFiles, Encryption, Periods, Store};
use crate::lab::Lab;
use crate::netns;
use crate::proc::{self, Proc};

const READY: Duration = Duration::from_secs(20);

/// How to run the mesh.
#[derive(Debug, Clone)]
pub struct Options {
    pub encryption: Encryption,
    pub periods: Periods,
    pub store: Store,
}

/// The running processes of the mesh, by replica or by node. Killed when dropped.
#[derive(Debug)]
pub struct Mesh {
    options: Options,
    config: PathBuf,
    /// Whether the kernel has WireGuard: then there is no mesh-tunnel.
    kernel_wireguard: bool,
    /// The external stores, by cluster.
    etcds: Mutex<BTreeMap<String, Etcd>>,
    apiservers: Mutex<BTreeMap<apiservers::Key, Proc>>,
    agents: Mutex<BTreeMap<String, Proc>>,
    tunnels: Mutex<BTreeMap<String, Proc>>,
}

impl Mesh {
    /// Starts every process of the mesh and waits until each says that it is ready.
    pub fn start(lab: &Lab, options: Options) -> Result<Self> {
        let mesh = Self::start_stores(lab, options)?;
        for node in lab.nodes() {
            mesh.write_token(lab, &node.cluster.name, node.name())?;
        }
        for node in lab.nodes() {
            mesh.start_tunnel(lab, node.name())?;
            mesh.start_agent(lab, node.name())?;
        }
        for node in lab.nodes() {
            mesh.wait_agent_ready(lab, node.name())?;
        }
        Ok(mesh)
    }

    /// Starts the API servers only, and waits until each says that it is ready.
    pub fn start_stores(lab: &Lab, options: Options) -> Result<Self> {
        let first = lab.nodes().next().context("the lab has no node")?;
        let mesh = Self {
            kernel_wireguard: kernel_has_wireguard(&lab.name.netns(first.name())),
            config: write_config(lab)?,
            options,
            etcds: Mutex::default(),
            apiservers: Mutex::default(),
            agents: Mutex::default(),
            tunnels: Mutex::default(),
        };
        if mesh.options.store == Store::External {
            mesh.start_etcds(lab)?;
        }
        for cluster in &lab.topology.clusters {
            mesh.start_apiservers(lab, &cluster.name)?;
        }
        for cluster in &lab.topology.clusters {
            mesh.wait_apiservers_ready(lab, &cluster.name)?;
        }
        Ok(mesh)
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn has_kernel_wireguard(&self) -> bool {
        self.kernel_wireguard
    }

    /// Runs `meshctl` and gives its standard output.
    pub fn meshctl(&self, lab: &Lab, args: &[&str]) -> Result<String> {
        let program = lab.binaries.find("meshctl")?;
        proc::output(&format!("meshctl {}", args.join(" ")), components::meshctl(&program, &self.config, args))
    }

    pub fn start_agent(&self, lab: &Lab, node: &str) -> Result<()> {
        let running = lab.node(node)?;
        let folder = lab.cluster_dir(&running.cluster.name).join(node);
        let files = AgentFiles {
            state: folder.join("agent"),
            enrol_token: token_file(lab, &running.cluster.name, node),
            cgroup_root: running.pods_cgroup.clone(),
        };
        let program = lab.binaries.find("node-agent")?;
        let command = components::node_agent(&program, &running.place, &running.cluster, &running.plan, &files);
        let name = format!("node-agent-{node}");
        let proc = Proc::start(&name, command, &lab.logs().join(format!("{name}.log")))?;
        self.agents.lock().insert(node.to_owned(), proc);
        Ok(())
    }

    pub fn wait_agent_ready(&self, lab: &Lab, node: &str) -> Result<()> {
        let address = SocketAddr::from((lab.node(node)?.plan.ip, components::AGENT_METRICS_PORT));
        let agents = self.agents.lock();
        let proc = agents.get(node).with_context(|| format!("the agent of {node} was not started"))?;
        proc.wait_ready(&format!("{} is ready", proc.name()), READY, || lab.answers_ok(node, address, "/readyz"))
    }

    pub fn kill_agent(&self, node: &str) -> Result<()> {
        kill(&self.agents, node)
    }

    /// Starts the userspace tunnel of a node, where it is needed.
    pub fn start_tunnel(&self, lab: &Lab, node: &str) -> Result<()> {
        if self.kernel_wireguard || self.options.encryption == Encryption::None {
            return Ok(());
        }
        let program = lab.binaries.find("mesh-tunnel")?;
        let name = format!("mesh-tunnel-{node}");
        let command = components::mesh_tunnel(&program, &lab.node(node)?.place);
        let proc = Proc::start(&name, command, &lab.logs().join(format!("{name}.log")))?;
        self.tunnels.lock().insert(node.to_owned(), proc);
        Ok(())
    }

    /// Kills a node's tunnel process; false where the kernel is the tunnel.
    pub fn kill_tunnel(&self, node: &str) -> Result<bool> {
        let has_one = self.tunnels.lock().contains_key(node);
        if has_one {
            kill(&self.tunnels, node)?;
        }
        Ok(has_one)
    }

    /// SIGKILL to every process of a cluster's mesh, and to its external store.
    pub fn kill_cluster(&self, lab: &Lab, cluster: &str) -> Result<()> {
        self.kill_apiservers(lab, cluster)?;
        if let Some(etcd) = self.etcds.lock().get_mut(cluster) {
            etcd.kill()?;
        }
        for node in &lab.cluster_plan(cluster)?.nodes {
            self.kill_agent(&node.name)?;
            self.kill_tunnel(&node.name)?;
        }
        Ok(())
    }

    /// Starts every process of a cluster's mesh again.
    pub fn restart_cluster(&self, lab: &Lab, cluster: &str) -> Result<()> {
        if let Some(etcd) = self.etcds.lock().get_mut(cluster) {
            etcd.start_members(lab)?;
            etcd.wait_healthy(lab)?;
        }
        self.start_apiservers(lab, cluster)?;
        for node in &lab.cluster_plan(cluster)?.nodes {
            self.start_tunnel(lab, &node.name)?;
            self.start_agent(lab, &node.name)?;
        }
        Ok(())
    }

    /// Names and ids of all processes, and whether they live.
    pub fn processes(&self) -> Vec<(String, u32, bool)> {
        let mut all = Vec::new();
        let facts = |proc: &Proc| (proc.name().to_owned(), proc.pid(), proc.is_alive());
        all.extend(self.etcds.lock().values().flat_map(Etcd::members).map(facts));
        all.extend(self.apiservers.lock().values().map(facts));
        for group in [&self.agents, &self.tunnels] {
            all.extend(group.lock().values().map(facts));
        }
        all
    }

    /// All of them at once: a member waits for the others.
    fn start_etcds(&self, lab: &Lab) -> Result<()> {
        let workspace = lab.binaries.target_dir().parent().context("the target folder lies in a workspace")?;
        let peer = EtcdPeer::obtain(workspace).context("an etcd for the external store")?;
        let mut etcds = self.etcds.lock();
        for cluster in &lab.topology.clusters {
            etcds.insert(cluster.name.clone(), Etcd::start(lab, &peer, &cluster.name)?);
        }
        etcds.values().try_for_each(|etcd| etcd.wait_healthy(lab))
    }

    /// A token that lets one node enrol, in a file that only root reads.
    fn write_token(&self, lab: &Lab, cluster: &str, node: &str) -> Result<()> {
        let token = self.meshctl(lab, &["--context", cluster, "token", "create", "--node", node])?;
        let path = token_file(lab, cluster, node);
        let folder = path.parent().context("a token file lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        file.write_all(token.trim().as_bytes()).with_context(|| format!("write {}", path.display()))
    }
}

fn kill(group: &Mutex<BTreeMap<String, Proc>>, name: &str) -> Result<()> {
    let found = group.lock().remove(name);
    found.with_context(|| format!("nothing of {name} runs"))?.kill9()
}

fn token_file(lab: &Lab, cluster: &str, node: &str) -> PathBuf {
    lab.cluster_dir(cluster).join(node).join("enrol.token")
}

/// The configuration of `meshctl`: how each cluster's admin API, and each node's kernel, is reached from the machine.
fn write_config(lab: &Lab) -> Result<PathBuf> {
    let contexts = lab.topology.clusters.iter().map(|cluster| {
        let sockets = cluster.replicas.iter().map(|replica| apiservers::admin_socket(lab, &cluster.name, replica.id));
        let sockets: Vec<String> = sockets.map(|socket| format!("\"{}\"", socket.display())).collect();
        format!("[contexts.{}]\nadmin_socket = [{}]\n", cluster.name, sockets.join(", "))
    });
    let nodes = lab.nodes().map(|node| {
        let words: Vec<String> = node.place.by_hand().split(' ').map(|word| format!("\"{word}\"")).collect();
        format!("[nodes.{}]\nexec = [{}]\n", node.name(), words.join(", "))
    });
    let text = contexts.chain(nodes).collect::<Vec<_>>().join("\n");
    let path = lab.name.state_dir().join("meshctl.toml");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Asks the kernel for a device, in a namespace of the lab: no list of modules says it as surely.
fn kernel_has_wireguard(namespace: &str) -> bool {
    netns::ip(Some(namespace), &["link add probe-wg type wireguard".into(), "link del probe-wg".into()]).is_ok()
}
