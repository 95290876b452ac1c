//! The commands of `mesh-mock`: one a line on its standard input, one answer a line, as JSON, on its standard output.

use anyhow::{Context, Result};
use clap::Parser;
use mesh_runtime::clock;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Mock};

#[derive(Debug, Parser)]
#[command(multicall = true, name = "mesh-mock", disable_help_subcommand = true)]
pub enum Command {
    /// So many changes a second among the first clusters, each to one endpoint; 0 ends it
    Churn { per_second: u32, among: u32 },
    /// So many new endpoints of one cluster at once
    Burst { cluster: u32, count: u32 },
    /// A backend of the cluster's Service goes, or comes back
    Backend { cluster: u32 },
    /// How a cluster troubles others from now on
    Behave {
        cluster: u32,
        #[command(subcommand)]
        behaviour: Behaviour,
    },
}

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// When the change was written, in Unix nanoseconds.
    Done {
        unix_nanos: u64,
    },
    Failed {
        error: String,
    },
}

impl Mock {
    /// Obeys one line.
    pub fn obey(&self, line: &str) -> Answer {
        match self.try_obey(line) {
            Ok(unix_nanos) => Answer::Done { unix_nanos },
            Err(error) => Answer::Failed { error: format!("{error:#}") },
        }
    }

    fn try_obey(&self, line: &str) -> Result<u64> {
        let command = Command::try_parse_from(line.split_whitespace()).context("not a command")?;
        let now = clock::unix_nanos();
        match command {
            Command::Churn { per_second, among } => self.churn(per_second, among).map(|()| now),
            Command::Burst { cluster, count } => Ok(self.cluster(cluster)?.burst(count)),
            Command::Backend { cluster } => Ok(self.cluster(cluster)?.move_backend()),
            Command::Behave { cluster, behaviour } => self.behave(cluster, behaviour).map(|()| now),
        }
    }
}

/// The name of a pod that was made at this time.
pub fn stamped_name(unix_nanos: u64) -> String {
    format!("pod-at-{unix_nanos}")
}

/// When the pod of this name was made, in Unix nanoseconds; `None` for other names.
pub fn stamp_of(name: &str) -> Option<u64> {
    name.strip_prefix("pod-at-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command() {
        let parse = |line: &str| Command::try_parse_from(line.split_whitespace());
        let flood = parse("behave 3 flood 1000").unwrap();
        assert!(matches!(flood, Command::Behave { cluster: 3, behaviour: Behaviour::Flood { per_second: 1000 } }));
        assert!(matches!(parse("churn 325 250").unwrap(), Command::Churn { per_second: 325, among: 250 }));
        parse("behave 3 flood").expect_err("how many?");
        assert_eq!(stamp_of(&stamped_name(17)), Some(17));
        assert_eq!(stamp_of("pod-3"), None);
    }
}
