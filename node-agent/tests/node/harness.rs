//! A node: a thread in its own namespaces with a runtime whose threads are all born there.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

/// For what must happen; long, because the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    handle: Handle,
    /// Path of its network namespace.
    pub(crate) netns: PathBuf,
    folder: TempDir,
    /// Dropped to let the thread end.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// `Err` says why this machine or user cannot run the test.
    pub(crate) fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| format!("no folder: {e}"))?;
        let (started, wait) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let bpffs = folder.path().to_owned();
        let thread = std::thread::spawn(move || match enter(&bpffs) {
            Err(why) => started.send(Err(why)).expect("the test waits"),
            Ok((runtime, netns)) => {
                started.send(Ok((runtime.handle().clone(), netns))).expect("the test waits");
                stopped.recv().ok();
                runtime.shutdown_timeout(Duration::from_secs(5));
            }
        });
        let (handle, netns) = wait.recv().map_err(|e| e.to_string())??;
        let node = Self { handle, netns, folder, stop: Some(stop), thread: Some(thread) };
        node.ip("link set lo up");
        Ok(node)
    }

    pub(crate) fn bpffs(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Runs on a thread of the node.
    pub(crate) fn run<F>(&self, work: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        self.handle.spawn(async move {
            sender.send(work.await).ok();
        });
        receiver.recv_timeout(SOON * 3).expect("the work ends")
    }

    /// `ip ARGS` on the node; its output.
    pub(crate) fn ip(&self, args: &str) -> String {
        let (ok, text) = self.try_ip(args);
        assert!(ok, "ip {args}: {text}");
        text
    }

    pub(crate) fn try_ip(&self, args: &str) -> (bool, String) {
        let words: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        self.run(async move {
            let output = tokio::task::spawn_blocking(move || Command::new("ip").args(words).output());
            let output = output.await.unwrap().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), text)
        })
    }

    pub(crate) fn sysctl(&self, name: &'static str, value: &'static str) {
        self.run(async move { std::fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value).unwrap() });
    }

    /// A process on the node, killed when dropped.
    pub(crate) fn spawn(&self, program: &'static str, args: &'static [&'static str]) -> Process {
        self.run(async move {
            let spawned = tokio::task::spawn_blocking(move || Command::new(program).args(args).spawn());
            Process(spawned.await.unwrap().unwrap())
        })
    }

    /// A veth pair between two nodes, both ends named `eth0`, each the other's default route; strict reverse-path checks.
    pub(crate) fn connect(&self, other: &Self, own: Ipv4Addr, far: Ipv4Addr) {
        self.ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.netns.display()));
        for (node, address, gateway) in [(self, own, far), (other, far, own)] {
            node.sysctl("net.ipv4.conf.all.rp_filter", "1");
            node.sysctl("net.ipv4.conf.default.rp_filter", "1");
            node.ip(&format!("addr add {address}/24 dev eth0"));
            node.ip("link set eth0 up");
            node.ip(&format!("route add default via {gateway}"));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn enter(bpffs: &Path) -> Result<(Runtime, PathBuf), String> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(|e| format!("no namespaces: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| format!("no mounts: {e}"))?;
    mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), none).map_err(|e| format!("no bpf file system: {e}"))?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).map_err(|e| format!("no tmpfs: {e}"))?;
    std::fs::create_dir_all("/run/wireguard").map_err(|e| e.to_string())?;
    let netns = PathBuf::from(format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    Ok((runtime.map_err(|e| e.to_string())?, netns))
}

/// A cgroup for a test, which goes with it.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().map(PathBuf::from);
        let root = root.into_iter().find(|p| p.join("cgroup.procs").exists()).ok_or("no cgroup2 is mounted")?;
        let path = root.join(format!("isthmus-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| format!("no cgroup: {e}"))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).ok();
    }
}

pub(crate) struct Process(Child);

impl Process {
    /// SIGKILL, and wait for the end.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn end(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks again and again until `condition`; how long it took.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// Nodes for a test, or `None` after saying why not.
pub(crate) fn nodes<const N: usize>() -> Option<[Node; N]> {
    let nodes: Result<Vec<Node>, String> = (0..N).map(|_| Node::new()).collect();
    match nodes {
        Ok(nodes) => nodes.try_into().ok(),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}
