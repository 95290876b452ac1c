//! A real node: its mounts, containerd, kubelet, kube-proxy and network, and all its pods. It can lose power and boot again;
//! its disk stays.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use k8s_tools::Tools;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::certs::{Pki, Subject};
use super::cni::{FLANNEL_USER, Flannel, Network};
use super::component::Component;
use super::kube_proxy::{self, ProxyMode};
use super::{containerd, kubelet};
use crate::cgroup;
use crate::names::{LabName, cgroup_mount};
use crate::netns;
use crate::nursery;
use crate::place::Place;
use crate::topology::{ClusterPlan, NodePlan};

/// What a node is made of; enough to boot it.
pub struct Options {
    pub lab: LabName,
    pub launcher: PathBuf,
    pub tools: Tools,
    pub cluster: ClusterPlan,
    pub plan: NodePlan,
    pub network: Network,
    pub proxy: ProxyMode,
    /// Where the API server is, for the node.
    pub url: String,
    pub images: Vec<PathBuf>,
    pub logs: PathBuf,
}

pub struct Node {
    options: Options,
    /// Folder of its configuration, its credentials and its disk.
    folder: PathBuf,
    running: Mutex<Option<Running>>,
}

/// Parts of a node that can be killed by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePart {
    Containerd,
    Kubelet,
    KubeProxy,
}

struct Running {
    place: Place,
    containerd: Component,
    kubelet: Component,
    kube_proxy: Component,
    /// Where the network is flannel's; it ends with the node only.
    _flanneld: Option<Component>,
    // Last: the others have its mounts.
    _holder: Holder,
}

/// The process that keeps the node's mounts; they go with the last process that has them.
struct Holder(Child);

impl Node {
    /// Prepares its credentials and boots it. Its `Node` object must be there.
    pub fn start(options: Options, pki: &Pki) -> Result<Self> {
        let folder = options.lab.state_dir().join(&options.cluster.name).join(&options.plan.name);
        let node = Self { options, folder, running: Mutex::new(None) };
        node.write_credentials(pki)?;
        node.boot()?;
        Ok(node)
    }

    pub fn name(&self) -> &str {
        &self.options.plan.name
    }

    /// Starts everything that a node starts when it gets power. One that runs is left alone.
    pub fn boot(&self) -> Result<()> {
        let mut running = self.running.lock();
        if running.is_some() {
            return Ok(());
        }
        *running = Some(self.boot_once().with_context(|| format!("boot node {}", self.name()))?);
        Ok(())
    }

    /// Kills every process of the node at once, pods included: a power cut.
    pub fn power_off(&self) -> Result<()> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let killed = self.cgroups().iter().try_for_each(|group| cgroup::kill(group));
        drop(running);
        killed
    }

    /// SIGKILL to one part. Its pods go on.
    pub fn kill(&self, part: NodePart) -> Result<()> {
        self.part(part)?.kill()
    }

    /// Starts a killed part again, and waits until it serves.
    pub fn start_again(&self, part: NodePart) -> Result<()> {
        let place = self.place()?;
        let component = self.part(part)?;
        component.start_again()?;
        match part {
            NodePart::Containerd => containerd::wait_ready(&component, &place),
            NodePart::Kubelet => kubelet::wait_ready(&component, &self.options.lab.netns(self.name())),
            NodePart::KubeProxy => Ok(()),
        }
    }

    /// The process of a part, while it runs.
    pub fn pid(&self, part: NodePart) -> Result<Option<u32>> {
        Ok(self.part(part)?.pid())
    }

    /// Where programs of this node run.
    pub fn place(&self) -> Result<Place> {
        let running = self.running.lock();
        Ok(running.as_ref().with_context(|| format!("node {} has no power", self.name()))?.place.clone())
    }

    pub fn load_image(&self, archive: &Path) -> Result<()> {
        containerd::load_image(&self.place()?, archive).with_context(|| format!("load an image on {}", self.name()))
    }

    fn part(&self, part: NodePart) -> Result<MappedMutexGuard<'_, Component>> {
        let running = MutexGuard::try_map(self.running.lock(), |running| {
            let running = running.as_mut()?;
            Some(match part {
                NodePart::Containerd => &mut running.containerd,
                NodePart::Kubelet => &mut running.kubelet,
                NodePart::KubeProxy => &mut running.kube_proxy,
            })
        });
        running.map_err(|_off| anyhow::anyhow!("node {} has no power", self.name()))
    }

    fn boot_once(&self) -> Result<Running> {
        let Options { lab, launcher, tools, cluster, plan, .. } = &self.options;
        let [pods, system] = self.cgroups();
        cgroup::create(&pods)?;
        cgroup::create(&system)?;
        cgroup::v1::create(&lab.cgroup_path().join(&plan.name))?;
        netns::bridged_packets_pass_rules(&lab.netns(&plan.name))?;
        let net = netns::path(&lab.netns(&plan.name));
        let outside = Place { launcher: launcher.clone(), net, mnt: None, cgroup: Some(system) };
        let holder = Holder::start(&outside, &self.folder.join("disk"), is_hybrid().then_some(&pods))?;
        let place = Place { mnt: Some(holder.mounts()), ..outside };
        // Pods live in the cgroup of containerd where the hierarchy is not the kubelet's to arrange.
        let runtime = if is_hybrid() { place.in_cgroup(&pods) } else { place.clone() };
        let logs = self.options.logs.join(&plan.name);
        std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let containerd = containerd::start(&runtime, &self.folder, &logs)?;
        for image in &self.options.images {
            containerd::load_image(&place, image)?;
        }
        let kubelet = kubelet::start(
            &place,
            &kubelet::Options {
                program: tools.program("kubelet")?,
                node: plan.name.clone(),
                ip: plan.ip,
                kubeconfig: self.folder.join("kubelet.kubeconfig"),
                client_ca: self.folder.join("ca.crt"),
                serving: (self.folder.join("kubelet.crt"), self.folder.join("kubelet.key")),
                dns: super::coredns::address(cluster),
                cgroup: lab.cgroup_path().join(&plan.name),
            },
            &self.folder,
            &logs,
        )?;
        let kube_proxy = kube_proxy::start(
            &place,
            kube_proxy::Options {
                program: tools.program("kube-proxy")?,
                node: plan.name.clone(),
                kubeconfig: self.folder.join("kube-proxy.kubeconfig"),
                mode: self.options.proxy,
                pods: cluster.pod_cidr,
            },
            &logs,
        )?;
        let flannel = Flannel {
            program: tools.program("flanneld")?,
            node: plan.name.clone(),
            node_ip: plan.ip,
            kubeconfig: self.folder.join("flanneld.kubeconfig"),
            folder: self.folder.clone(),
        };
        let flanneld = self.options.network.start(&place, &flannel, &logs)?;
        kubelet::wait_ready(&kubelet, &lab.netns(&plan.name))?;
        Ok(Running { place, containerd, kubelet, kube_proxy, _flanneld: flanneld, _holder: holder })
    }

    /// Of its pods (and its container runtime, see [`is_hybrid`]), and of its other processes.
    fn cgroups(&self) -> [PathBuf; 2] {
        let lab = &self.options.lab;
        [lab.cgroup().join(self.name()), lab.system_cgroup().join(self.name())]
    }

    fn write_credentials(&self, pki: &Pki) -> Result<()> {
        let Options { plan, cluster, url, .. } = &self.options;
        std::fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        let user = format!("system:node:{}", plan.name);
        let kubelet =
            Subject { dns_names: &[&plan.name], addresses: &[plan.ip], ..Subject::of_group(&user, "system:nodes") };
        pki.write_leaf(&self.folder, "kubelet", &kubelet)?;
        std::fs::copy(pki.file("ca.crt"), self.folder.join("ca.crt")).context("copy the CA's certificate")?;
        for (file, subject) in [
            ("kubelet", kubelet),
            ("kube-proxy", Subject::user("system:kube-proxy")),
            ("flanneld", Subject::user(FLANNEL_USER)),
        ] {
            let path = self.folder.join(format!("{file}.kubeconfig"));
            pki.write_kubeconfig(&path, &cluster.name, url, &subject)?;
        }
        Ok(())
    }
}

/// Whether controllers are in the older hierarchies: then the kubelet arranges those, and the unified one is free.
fn is_hybrid() -> bool {
    cgroup_mount() != Path::new("/sys/fs/cgroup")
}

impl Holder {
    fn start(outside: &Place, disk: &Path, cgroup: Option<&PathBuf>) -> Result<Self> {
        std::fs::create_dir_all(disk).with_context(|| format!("make {}", disk.display()))?;
        let mut command = outside.command(&outside.launcher);
        command.arg("hold-machine").arg("--disk").arg(disk).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        let mut holder = Self(nursery::spawn(command).context("start the holder of the node's mounts")?);
        let out = holder.0.stdout.take().context("the holder has no standard output")?;
        let mut said = String::new();
        BufReader::new(out).read_line(&mut said).context("listen to the holder")?;
        if said.trim() != "ready" {
            bail!("the holder of the node's mounts did not get ready");
        }
        Ok(holder)
    }

    fn mounts(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.0.id()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
