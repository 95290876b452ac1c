//! Who sends the demo's load, and to whom. In all: 200 new requests a second and 20 long-lived connections, one request in
//! fifty with 1 MiB both ways.

use anyhow::{Context, Result};

use crate::control_plane::PodRecord;
use crate::lab::Lab;
use crate::load::running::Running;
use crate::load::{Plan, Target};

/// The service that both clusters have.
pub(super) const GLOBAL: &str = "catalog";
/// The service that only cluster-b has.
pub(super) const REMOTE: &str = "ledger";
/// A pod of cluster-b by its own address.
pub(super) const DIRECT: &str = "pod";

const LARGE_EVERY: u32 = 50;

#[derive(Debug)]
pub(super) struct Clients {
    pods: Vec<PodRecord>,
    global: Target,
    remote: Target,
    direct: Target,
}

impl Clients {
    pub(super) fn find(lab: &Lab) -> Result<Self> {
        let pods: Vec<PodRecord> = lab.pods().into_iter().filter(|pod| pod.owner.1 == "frontend").collect();
        let service = |cluster: &str, namespace: &str, name: &str| -> Result<Target> {
            Ok(Target { name: name.to_owned(), address: (lab.cluster_ip(cluster, namespace, name)?, 80).into() })
        };
        let member = lab.pod("cluster-b/ledger-1")?.ip.context("ledger-1 has no address")?;
        Ok(Self {
            pods,
            global: service("cluster-a", "shop", GLOBAL)?,
            remote: service("cluster-b", "books", REMOTE)?,
            direct: Target { name: DIRECT.to_owned(), address: (member, 8080).into() },
        })
    }

    pub(super) fn pods(&self) -> &[PodRecord] {
        &self.pods
    }

    /// The clients that ask the global service; the label tells two runs of them apart.
    pub(super) fn start_global(&self, lab: &Lab, label: &str) -> Result<Vec<Running>> {
        let plan = Plan { targets: vec![self.global.clone()], rate: 40, long: 4, large_every: LARGE_EVERY };
        self.pods.iter().map(|pod| lab.start_load(pod, &format!("{GLOBAL}-{label}"), &plan)).collect()
    }

    /// The clients that ask what only the other cluster has.
    pub(super) fn start_remote(&self, lab: &Lab) -> Result<Vec<Running>> {
        let targets = vec![self.remote.clone(), self.direct.clone()];
        let plan = Plan { targets, rate: 60, long: 6, large_every: LARGE_EVERY };
        self.pods.iter().map(|pod| lab.start_load(pod, REMOTE, &plan)).collect()
    }
}
