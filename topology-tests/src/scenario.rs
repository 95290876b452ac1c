//! What every scenario starts from: a lab with manifests and the mesh running in it, one at a time on this machine. Reads
//! kernel maps where they are pinned, so that a scenario believes no process about itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_ebpf::Pins;
use agent_ebpf::common::verdict::reason;
use agent_ebpf::common::{CounterKey, CounterValue};
use agent_ebpf::maps::{Access, Counters, IpCache};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::components::{self, Encryption, Periods, Store};
use crate::control_plane::PodRecord;
use crate::deadline::{wait_for, wait_until};
use crate::disk::{self, Disk};
use crate::lab::{self, Lab};
use crate::load::check::{Checked, Question};
use crate::manifest::Manifests;
use crate::mesh::{self, Mesh};
use crate::metrics::metric;
use crate::topology::Topology;

/// How long pods may take to start, and the mesh to tell of them.
const READY: Duration = Duration::from_secs(20);

/// A lab with its mesh. Dropped, it takes both down.
pub struct Scenario {
    // In this order: the mesh's processes end before their namespaces.
    pub mesh: Mesh,
    pub lab: Lab,
    /// Of each replica, where they have disks of their own.
    pub disks: BTreeMap<u64, Disk>,
    _one_at_a_time: Flock<File>,
}

/// How to start.
pub struct Setup {
    pub name: &'static str,
    pub topology: Topology,
    pub manifests: BTreeMap<String, Manifests>,
    pub encryption: Encryption,
    pub periods: Periods,
    /// The store of each replica lies on a disk of its own, of so many MiB.
    pub disk_mib: Option<u32>,
    /// Without agents and tunnels.
    pub only_stores: bool,
    pub store: Store,
}

impl Setup {
    /// The example shop over WireGuard, with default periods.
    pub fn shop(name: &'static str) -> Result<Self> {
        Ok(Self::with(name, shop_of(&["cluster-a", "cluster-b"])?))
    }

    /// The example shop on three clusters.
    pub fn shop_of_three(name: &'static str) -> Result<Self> {
        let manifests = shop_of(&["cluster-a", "cluster-b", "cluster-c"])?;
        Ok(Self { topology: Topology::trio(), ..Self::with(name, manifests) })
    }

    /// These manifests over WireGuard, with default periods, on two clusters of two nodes.
    pub fn with(name: &'static str, manifests: BTreeMap<String, Manifests>) -> Self {
        let topology = Topology::pair();
        Self {
            name,
            topology,
            manifests,
            encryption: Encryption::Wireguard,
            periods: Periods::default(),
            disk_mib: None,
            only_stores: false,
            store: Store::default(),
        }
    }

    /// One cluster of three nodes with nothing but its API servers, the store of each on a disk of its own.
    pub fn stores(name: &'static str, disk_mib: u32) -> Self {
        let topology = Topology::lone();
        Self { topology, disk_mib: Some(disk_mib), only_stores: true, ..Self::with(name, BTreeMap::new()) }
    }

    /// Builds the lab, starts the pods and the mesh. `None`, with the reason on standard output, where no lab can be made.
    #[expect(clippy::print_stdout, reason = "the test runner counts this line")]
    pub fn start(self) -> Result<Option<Scenario>> {
        if let Some(why) = crate::requirements::missing() {
            println!("skipped: {why}");
            return Ok(None);
        }
        let lock = lock()?;
        let options = lab::Options { name: self.name.parse()?, topology: self.topology, manifests: self.manifests };
        let lab = Lab::up(options)?;
        lab.wait_pods_ready(READY)?;
        let disks = match self.disk_mib {
            Some(mib) => disk::for_stores(&lab, mib)?,
            None => BTreeMap::new(),
        };
        let options = mesh::Options { encryption: self.encryption, periods: self.periods, store: self.store };
        let mesh = if self.only_stores { Mesh::start_stores(&lab, options) } else { Mesh::start(&lab, options) }?;
        Ok(Some(Scenario { mesh, lab, disks, _one_at_a_time: lock }))
    }
}

fn shop_of(clusters: &[&str]) -> Result<BTreeMap<String, Manifests>> {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/shop");
    clusters.iter().map(|cluster| Ok(((*cluster).to_owned(), Manifests::load(&shop.join(cluster))?))).collect()
}

impl Scenario {
    pub fn meshctl(&self, args: &[&str]) -> Result<String> {
        self.mesh.meshctl(&self.lab, args)
    }

    /// `meshctl status -o json` of one cluster, which exits with 2 where something is degraded.
    pub fn status(&self, cluster: &str) -> Result<String> {
        const DEGRADED: i32 = 2;
        let program = self.lab.binaries.find("meshctl")?;
        let args = ["--context", cluster, "status", "-o", "json"];
        let output = components::meshctl(&program, self.mesh.config(), &args).output().context("run meshctl status")?;
        match output.status.code() {
            Some(0 | DEGRADED) => String::from_utf8(output.stdout).context("meshctl prints UTF-8"),
            _ => bail!("meshctl status failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Joins every cluster with every other, kills a replica (see [`Self::kill_a_replica`]), and before that waits until
    /// every node's kernel knows the others' pods: until then a packet to one of them is a packet to anywhere, and leaves
    /// in clear.
    pub fn connect(&self) -> Result<()> {
        let clusters: Vec<&str> = self.lab.topology.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        for (n, one) in clusters.iter().enumerate() {
            for other in &clusters[n + 1..] {
                self.meshctl(&["connect", one, other])?;
            }
        }
        let pods = self.lab.pods();
        for node in self.lab.nodes() {
            let known = IpCache::open(&Pins::under(&self.bpffs(node.name())?), Access::ReadOnly)?;
            let remote = pods.iter().filter(|pod| pod.cluster != node.cluster.name);
            for ip in remote.filter_map(|pod| pod.ip.filter(|ip| *ip != pod.host_ip)) {
                wait_until(&format!("{} to know the pod {ip}", node.name()), READY, || {
                    known.get(&IpAddr::from(ip).into()).is_ok_and(|found| found.is_some())
                })?;
            }
        }
        self.kill_a_replica()
    }

    /// Kills the replica that leads cluster-a's store, for the rest of the scenario: the other two must do. Returns when
    /// one of them has its role. Does nothing where one is down already.
    pub fn kill_a_replica(&self) -> Result<()> {
        if self.mesh.running_apiservers("cluster-a").len() < self.lab.cluster_plan("cluster-a")?.replicas.len() {
            return Ok(());
        }
        let leader = self.mesh.controller(&self.lab, "cluster-a")?;
        self.mesh.kill_apiserver("cluster-a", leader)?;
        self.mesh.controller(&self.lab, "cluster-a").map(drop)
    }

    /// Asks once.
    pub fn ask(&self, client: &PodRecord, question: &str, bytes: usize) -> Result<Checked> {
        let question: Question = question.parse()?;
        let mut answers = self.lab.check_from(client, &[question], bytes)?;
        answers.pop().with_context(|| format!("lab-load did not report on {question}"))
    }

    /// Asks until it is answered: for the first request after a change, never under load.
    pub fn ask_until_answered(&self, client: &PodRecord, question: &str, within: Duration) -> Result<Checked> {
        wait_for(&format!("an answer to {question} in {}", client.name), within, || {
            let checked = self.ask(client, question, 100)?;
            match &checked.error {
                None => Ok(Some(checked)),
                Some(error) => bail!("{error}"),
            }
        })
    }

    /// `protocol://cluster-IP:port` of a service.
    pub fn service(&self, protocol: &str, cluster: &str, namespace: &str, name: &str, port: u16) -> Result<String> {
        Ok(format!("{protocol}://{}:{port}", self.lab.cluster_ip(cluster, namespace, name)?))
    }

    /// Every counter of a node's datapath.
    pub fn counters(&self, node: &str) -> Result<Vec<(CounterKey, CounterValue)>> {
        let counters = Counters::open(&Pins::under(&self.bpffs(node)?), Access::ReadOnly)?;
        Ok(counters.read()?)
    }

    /// Packets that a program of a node counted for a reason.
    pub fn counted(&self, node: &str, direction: u8, why: u8) -> Result<u64> {
        let counters = self.counters(node)?;
        let matching = counters.iter().filter(|(key, _)| key.direction == direction && key.reason == why);
        Ok(matching.map(|(_, value)| value.packets).sum())
    }

    /// Waits until a program of a node has counted at least `more` packets over `before` for a reason.
    pub fn wait_counted(&self, node: &str, direction: u8, why: u8, before: u64, more: u64) -> Result<()> {
        let what = format!("{more} packets counted as {} on {node}", reason::name(why));
        wait_for(&what, Duration::from_secs(5), || {
            let now = self.counted(node, direction, why)?;
            if now >= before + more { Ok(Some(())) } else { bail!("{} so far", now - before) }
        })
    }

    /// A counter or gauge of a node's agent, summed over the label sets that contain `labels`.
    pub fn agent_metric(&self, node: &str, name: &str, labels: &str) -> Result<f64> {
        let address = SocketAddr::from((self.lab.node(node)?.plan.ip, components::AGENT_METRICS_PORT));
        metric(&self.lab, node, address, name, labels)
    }

    /// A counter or gauge of one replica of a cluster's API server, summed over the label sets that contain `labels`.
    pub fn apiserver_metric(&self, cluster: &str, replica: u64, name: &str, labels: &str) -> Result<f64> {
        self.mesh.apiserver_metric(&self.lab, cluster, replica, name, labels)
    }

    /// The same summed over all replicas that run.
    pub fn apiserver_metrics(&self, cluster: &str, name: &str, labels: &str) -> Result<f64> {
        let replicas = self.mesh.running_apiservers(cluster);
        replicas.into_iter().map(|replica| self.apiserver_metric(cluster, replica, name, labels)).sum()
    }

    /// Where a node's maps are pinned, seen from the machine.
    fn bpffs(&self, node: &str) -> Result<PathBuf> {
        Ok(self.lab.node(node)?.place.seen_from_outside(Path::new("/sys/fs/bpf")))
    }

    /// Takes everything down; an error when something remains.
    pub fn end(self) -> Result<()> {
        let Self { mesh, lab, disks: _gone_with_their_nodes, _one_at_a_time: _lock } = self;
        drop(mesh);
        let left = lab.down()?;
        if left.is_empty() { Ok(()) } else { bail!("the lab left behind: {}", left.join(", ")) }
    }
}

/// Labs share the machine's two cores: a scenario waits until the one before it is gone.
fn lock() -> Result<Flock<File>> {
    let path = std::env::temp_dir().join("isthmus-lab.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_file, errno)| errno)
        .with_context(|| format!("wait for {}", path.display()))
}
