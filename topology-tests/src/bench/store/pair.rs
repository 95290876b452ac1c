//! The two groups of one workload, started afresh, and the order in which they are measured.

use anyhow::{Context, Result};

use super::group::Group;
use super::{Plan, Workload, start};

pub(super) struct Pair {
    pub(super) isthmus: Group,
    pub(super) etcd: Group,
    pub(super) workload: Workload,
}

/// What was measured of each, in the order of the rounds.
pub(super) struct Both<T> {
    pub(super) isthmus: Vec<T>,
    pub(super) etcd: Vec<T>,
}

impl Pair {
    /// Both run at the same time, so that neither has the machine more to itself; the one not measured is idle.
    pub(super) async fn start(plan: &Plan, workload: Workload) -> Result<Self> {
        let folder = plan.folder.join(workload.to_string());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        let isthmus = start::isthmus(&folder.join("isthmus"), &plan.apiserver)?;
        let etcd = start::etcd(&folder.join("etcd"), &plan.etcd)?;
        isthmus.wait_until_serving().await?;
        etcd.wait_until_serving().await?;
        Ok(Self { isthmus, etcd, workload })
    }

    /// Measures both `rounds` times. Who goes first alternates, so that neither always runs on the warmer machine.
    pub(super) async fn alternate<T>(
        &mut self,
        what: &str,
        rounds: usize,
        mut measure: impl AsyncFnMut(&mut Group, usize) -> Result<T>,
    ) -> Result<Both<T>> {
        let mut both = Both { isthmus: Vec::new(), etcd: Vec::new() };
        for round in 0..rounds {
            for turn in 0..2 {
                let is_ours = (round + turn) % 2 == 0;
                let (group, measured) =
                    if is_ours { (&mut self.isthmus, &mut both.isthmus) } else { (&mut self.etcd, &mut both.etcd) };
                eprintln!("{what}: {}, round {} of {rounds}", group.name, round + 1);
                let result = measure(group, round).await;
                measured.push(result.with_context(|| format!("{what}: {}", group.name))?);
            }
        }
        Ok(both)
    }
}

impl<T> Both<T> {
    /// The same figure of each round of both.
    pub(super) fn map<U>(&self, figure: impl Fn(&T) -> U) -> Both<U> {
        Both { isthmus: self.isthmus.iter().map(&figure).collect(), etcd: self.etcd.iter().map(&figure).collect() }
    }
}
