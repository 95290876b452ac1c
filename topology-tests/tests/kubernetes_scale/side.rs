//! One of the two clusters, with the generator's way to its API server and what its mesh says of itself.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::node::Node;
use topology_tests::kubernetes::release::{NAMESPACE, Release};
use topology_tests::metrics::Counters;
use topology_tests::topology::ClusterPlan;

use crate::api::Api;
use crate::plan;

const METRICS: u16 = 9972;
/// Nothing is on its way when nothing was written for so long.
const STILL: Duration = Duration::from_secs(5);
const SEEN: Duration = Duration::from_mins(2);
/// Between two looks at the counters: a look costs the process that is measured.
const POLL: Duration = Duration::from_millis(100);

pub(crate) struct Side<'a> {
    pub(crate) release: Release<'a>,
    pub(crate) api: Arc<Api>,
    runtime: &'a Runtime,
    /// Of the network of the cluster's one node.
    namespace: String,
    metrics: OnceLock<SocketAddr>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(run: &'a Kubernetes, cluster: &str, runtime: &'a Runtime) -> Result<Self> {
        let release = Release::new(run, cluster)?;
        let folder = run.name.state_dir().join(cluster).join("generator");
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let api = Arc::new(Api::of(release.cluster, plan::USER, &folder)?);
        release.kubectl().apply(&plan::preparations())?;
        // Pods are refused before their namespace has an account.
        release.kubectl().wait_exists(&["serviceaccount", "default", "-n", plan::NAMESPACE], SEEN)?;
        let namespace = run.name.netns(release.cluster.nodes[0].name());
        Ok(Self { release, api, runtime, namespace, metrics: OnceLock::new() })
    }

    pub(crate) fn plan(&self) -> &ClusterPlan {
        &self.release.cluster.plan
    }

    /// The only one that is real.
    pub(crate) fn node(&self) -> &Node {
        &self.release.cluster.nodes[0]
    }

    /// What differs from other tests' values: fake nodes and pods come after the clusters are joined, and the other one takes
    /// only what was declared then.
    pub(crate) fn values(&self, id: u32) -> Value {
        let plan = self.plan();
        json!({ "cluster": {
            "name": plan.name, "id": id,
            "serviceCIDRs": [plan.service_cidr], "podCIDRs": [plan.pod_cidr], "nodeCIDRs": [plan.node_subnet],
        } })
    }

    /// Runs requests to their end.
    pub(crate) fn wait_for<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(work)
    }

    /// What kube-apiserver counts.
    pub(crate) fn api_server(&self) -> Result<Counters> {
        self.wait_for(self.api.text("/metrics")).map(Counters::of)
    }

    /// What mesh-apiserver counts.
    pub(crate) fn mesh(&self) -> Result<Counters> {
        Counters::at(&self.namespace, self.metrics_address()?)
    }

    /// Asked for once, while the API server answers.
    fn metrics_address(&self) -> Result<SocketAddr> {
        if let Some(known) = self.metrics.get() {
            return Ok(*known);
        }
        let pod = self.release.kubectl().get(&["pod", "isthmus-mesh-apiserver-1", "-n", NAMESPACE])?;
        let ip = pod["status"]["podIP"].as_str().context("mesh-apiserver's pod has no address")?;
        let address = SocketAddr::new(ip.parse().with_context(|| format!("{ip} is no address"))?, METRICS);
        Ok(*self.metrics.get_or_init(|| address))
    }

    /// Waits until what the mesh counts says something.
    pub(crate) fn until(&self, what: &str, mut fact: impl FnMut(&Counters) -> bool) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let counters = self.mesh()?;
            if fact(&counters) {
                return Ok(Instant::now());
            }
            if begun.elapsed() > SEEN {
                bail!("waited {SEEN:?} for {what} of {}", self.release.name());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until the mesh has had nothing to write for a while.
    pub(crate) fn still(&self) -> Result<()> {
        let (mut last, mut since) = (-1.0, Instant::now());
        let quiet = self.until("nothing to be written", |counters| {
            let now = counters.sum("isthmus_export_keys_total");
            if now > last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= STILL
        });
        quiet.map(drop)
    }
}
