//! Members of one etcd cluster as processes on loopback, with their data in a folder that goes with them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::EtcdPeer;
use crate::ports::free_port;

const ATTEMPTS: u32 = 5;
const START_WITHIN: Duration = Duration::from_mins(1);

/// What differs from a plain cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// 0 counts as 1.
    pub members: usize,
    /// Further flags of every member.
    pub flags: Vec<String>,
    /// Clients connect by mutual TLS; without it in clear.
    pub tls: Option<ClusterTls>,
}

/// Files of PEM for the client port.
#[derive(Debug, Clone)]
pub struct ClusterTls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A running cluster; its processes end with this value.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Member {
    command: Command,
    client_url: String,
    /// `address:port` where `/health` is answered without TLS.
    health: String,
    log: PathBuf,
    data: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts the members and waits until all of them serve.
    pub fn start(peer: &EtcdPeer, options: &Options) -> Result<Self> {
        let mut attempt = 1;
        loop {
            match Self::start_once(peer, options) {
                // Another program may have taken a port between its choice and etcd's start.
                Err(error) if attempt < ATTEMPTS && format!("{error:#}").contains("address already in use") => {
                    attempt += 1;
                }
                started => return started,
            }
        }
    }

    fn start_once(peer: &EtcdPeer, options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for etcd's data")?;
        let count = options.members.max(1);
        let ports = (0..count * 3).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let peer_url = |n: usize| format!("http://127.0.0.1:{}", ports[n * 3 + 1]);
        let all: Vec<String> = (0..count).map(|n| format!("m{n}={}", peer_url(n))).collect();
        let mut cluster = Self { members: Vec::new(), folder };
        for n in 0..count {
            let client_url = format!("{scheme}://127.0.0.1:{}", ports[n * 3]);
            let health = format!("127.0.0.1:{}", ports[n * 3 + 2]);
            let data = cluster.folder.path().join(format!("m{n}"));
            let mut command = Command::new(&peer.etcd);
            command
                .args(["--name", &format!("m{n}"), "--logger", "zap", "--log-level", "warn", "--data-dir"])
                .arg(&data)
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url(n), "--initial-advertise-peer-urls", &peer_url(n)])
                .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
                .args(["--listen-metrics-urls", &format!("http://{health}")])
                .args(&options.flags)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            if let Some(tls) = &options.tls {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
                command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
            }
            let log = cluster.folder.path().join(format!("m{n}.log"));
            cluster.members.push(Member { command, client_url, health, log, data, child: None });
        }
        for member in &mut cluster.members {
            member.spawn()?;
        }
        for member in &mut cluster.members {
            member.wait_until_healthy()?;
        }
        Ok(cluster)
    }

    /// The client URLs, one a member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_url.clone()).collect()
    }

    /// Kills a member as `kill -9` does.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].end()
    }

    /// Starts a killed member on the data it had, and waits until it serves.
    pub fn restart(&mut self, member: usize) -> Result<()> {
        let member = &mut self.members[member];
        member.end()?;
        member.spawn()?;
        member.wait_until_healthy()
    }

    /// Puts an empty store of another cluster at the same address, as each start of a pod of Cilium's does. `token` is
    /// what etcd makes the cluster's number of; for a cluster of one member.
    pub fn replace(&mut self, token: &str) -> Result<()> {
        for member in &mut self.members {
            member.end()?;
            fs::remove_dir_all(&member.data).context("empty a member's folder")?;
            member.command.args(["--initial-cluster-token", token]);
            member.spawn()?;
        }
        self.members.iter_mut().try_for_each(Member::wait_until_healthy)
    }
}

impl Member {
    fn spawn(&mut self) -> Result<()> {
        let log = fs::File::create(&self.log).context("create a member's log")?;
        self.child = Some(self.command.stderr(log).spawn().context("start etcd")?);
        Ok(())
    }

    fn wait_until_healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while !is_healthy(&self.health) {
            let ended = self.child.as_mut().map(Child::try_wait).transpose().context("ask after etcd")?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("etcd at {} does not serve ({ended:?}):\n{log}", self.client_url);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("end etcd")?;
        child.wait().context("wait for etcd")?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.client_url);
        }
    }
}

fn is_healthy(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}
