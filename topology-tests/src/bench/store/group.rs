//! A group of replicas, as processes: how to reach, kill and start each, and what they use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use super::figures::{self, Figures};

pub(super) const REPLICAS: usize = 3;
const START_WITHIN: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What clients show and verify.
pub(super) struct Files {
    pub(super) ca: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

pub(super) struct Member {
    pub(super) command: Command,
    pub(super) log: PathBuf,
    pub(super) endpoint: String,
    pub(super) metrics: String,
    pub(super) child: Option<Child>,
}

/// The processes end with this value.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) members: Vec<Member>,
    pub(super) files: Files,
}

impl Group {
    /// A connection of its own to one member.
    pub(super) async fn connect(&self, member: usize) -> Result<Client> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let Files { ca, certificate, key } = &self.files;
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(ca)?))
            .identity(Identity::from_pem(read(certificate)?, read(key)?))
            .domain_name("localhost");
        let options = ConnectOptions::new().with_tls(tls).with_connect_timeout(Duration::from_secs(2));
        let endpoint = &self.members[member].endpoint;
        Client::connect([endpoint], Some(options)).await.with_context(|| format!("connect to {endpoint}"))
    }

    /// Connections that are spread over all members.
    pub(super) async fn connections(&self, count: usize, first: usize) -> Result<Vec<Client>> {
        let mut connections = Vec::with_capacity(count);
        for n in 0..count {
            connections.push(self.connect((first + n) % REPLICAS).await?);
        }
        Ok(connections)
    }

    pub(super) async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            for member in 0..REPLICAS {
                let Ok(mut client) = self.connect(member).await else { continue };
                let Ok(status) = client.status().await else { continue };
                if status.leader() != 0 && status.header().is_some_and(|header| header.member_id() == status.leader()) {
                    return Ok(member);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("no member of {} leads after {START_WITHIN:?}", self.name)
    }

    /// Returns when every member has answered a linearizable read.
    pub(super) async fn wait_until_serving(&self) -> Result<()> {
        for member in 0..REPLICAS {
            self.wait_until_member_serves(member).await?;
        }
        Ok(())
    }

    pub(super) async fn wait_until_member_serves(&self, member: usize) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let outcome = match self.connect(member).await {
                Ok(mut client) => client.get("ready?", None).await.map(drop).map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(&self.members[member].log).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(5).collect();
                    return Err(error.context(format!("{} {member} does not serve: {}", self.name, tail.join(" | "))));
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// As `kill -9` does.
    pub(super) fn kill(&mut self, member: usize) -> Result<()> {
        self.members[member].end()
    }

    /// Starts a killed member on the data it had.
    pub(super) fn spawn(&mut self, member: usize) -> Result<()> {
        self.members[member].spawn()
    }

    pub(super) async fn figures(&self) -> Result<Figures> {
        let mut figures = Figures::default();
        for member in &self.members {
            figures.add_metrics(&member.metrics).await?;
            figures.cpu_seconds += figures::cpu_seconds(member.pid()?)?;
        }
        Ok(figures)
    }

    /// MiB in use by all members together.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        let mut bytes = 0.0;
        for member in &self.members {
            bytes += figures::resident_bytes(member.pid()?)?;
        }
        Ok(bytes / f64::from(1 << 20))
    }
}

impl Member {
    pub(super) fn spawn(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(&self.log).context("open a member's log")?;
        let program = self.command.get_program().to_owned();
        let child = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("start {}", program.display()))?);
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().with_context(|| format!("{} does not run", self.endpoint))?.id())
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("end a member")?;
        child.wait().context("wait for a member")?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.endpoint);
        }
    }
}
