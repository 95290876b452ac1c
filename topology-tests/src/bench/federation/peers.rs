//! The process that is all the peers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use federation::PeerRecord;

use super::server::{NAME, Server};
use crate::mock::Shape;
use crate::mock::control::Answer;
use crate::nursery;

/// Ends with this value.
pub struct Peers {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    records: PathBuf,
}

impl Peers {
    /// Starts so many clusters; returns when all are served.
    pub fn start(program: &Path, folder: &Path, server: &Server, clusters: u32, shape: Shape) -> Result<Self> {
        let records = folder.join(format!("peers-{clusters}.json"));
        let mut command = Command::new(program);
        command
            .args(["--clusters", &clusters.to_string(), "--reader", NAME, "--reader-ca"])
            .arg(server.ca_file())
            .arg("--records")
            .arg(&records)
            .args(["--nodes", &shape.nodes.to_string(), "--identities", &shape.identities.to_string()])
            .args(["--endpoints", &shape.endpoints.to_string(), "--backends", &shape.backends.to_string()])
            .args(shape.cached.then_some("--cached"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = nursery::spawn(command).context("start mesh-mock")?;
        let commands = child.stdin.take().context("mesh-mock's input")?;
        let answers = BufReader::new(child.stdout.take().context("mesh-mock's output")?);
        let mut peers = Self { child, commands, answers, records };
        let first = peers.line().context("mesh-mock did not start")?;
        anyhow::ensure!(first.contains("serving"), "mesh-mock said {first:?}");
        Ok(peers)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).context("read mesh-mock's answer")?;
        anyhow::ensure!(read > 0, "mesh-mock has ended");
        Ok(line)
    }

    /// One command of `mesh-mock`; when its change was written, in Unix nanoseconds.
    pub fn tell(&mut self, command: &str) -> Result<u64> {
        writeln!(self.commands, "{command}").and_then(|()| self.commands.flush()).context("tell mesh-mock")?;
        let line = self.line()?;
        match serde_json::from_str(&line).with_context(|| format!("mesh-mock answered {line:?}"))? {
            Answer::Done { unix_nanos } => Ok(unix_nanos),
            Answer::Failed { error } => bail!("mesh-mock: {command}: {error}"),
        }
    }

    /// What joins the clusters.
    pub fn records(&self) -> Result<Vec<PeerRecord>> {
        let text = std::fs::read(&self.records).with_context(|| format!("read {}", self.records.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} holds no records", self.records.display()))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
