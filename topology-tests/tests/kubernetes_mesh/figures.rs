//! What the end-to-end test measured, printed and as a file.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use topology_tests::bench::report::Report;
use topology_tests::bench::stats::rounded;
use topology_tests::binaries::Binaries;

use crate::convergence::Convergence;

/// Seconds, but for what says otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) clusters_ready: f64,
    pub(crate) images_loaded: f64,
    pub(crate) install_to_ready: f64,
    pub(crate) connect: f64,
    pub(crate) connect_to_first_answer: f64,
    pub(crate) application: String,
    pub(crate) application_ready: f64,
    /// Pods times Services of the other cluster.
    pub(crate) ways_reached: usize,
    pub(crate) convergence: Convergence,
    pub(crate) uninstall: f64,
    pub(crate) whole_test: f64,
}

pub(crate) fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

impl Figures {
    pub(crate) fn write(self) -> Result<()> {
        let file = Binaries::beside_this_one()?.target_dir().join("bench/kubernetes.json");
        Report::new(self).write(&file)
    }
}
