//! Makes what `plan` says, many requests at a time; keeps the fake nodes alive; lets pods flip their readiness.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use topology_tests::topology::ClusterPlan;

use crate::api::Api;
use crate::plan::{self, NODES, Pod};

/// Requests under way.
const AT_ONCE: usize = 16;
/// Each lease is renewed so often: as kubelets do.
const RENEWED: Duration = Duration::from_secs(10);
/// A pod that became unready is ready again so many turns later: about a second.
const APART: usize = 21;

/// Fake nodes that are alive for as long as this lives.
pub(crate) struct Heartbeats {
    _task: JoinSet<()>,
}

/// The nodes with their leases; call it on a runtime, which the renewals stay on.
pub(crate) async fn nodes(api: &Arc<Api>, cluster: &ClusterPlan) -> Result<Heartbeats> {
    each("fake nodes", 0..NODES, |node| async move {
        api.create(plan::LEASES, &plan::lease(node)).await?;
        api.create(plan::ALL_NODES, &plan::node(cluster, node)).await?;
        let status = format!("{}/{}/status", plan::ALL_NODES, plan::node_name(node));
        api.patch(&status, &plan::node_status(cluster, node)).await
    })
    .await?;
    let mut task = JoinSet::new();
    task.spawn(renew(Arc::clone(api)));
    Ok(Heartbeats { _task: task })
}

/// One lease after the other, all of them in [`RENEWED`].
async fn renew(api: Arc<Api>) {
    let mut next = interval(RENEWED / u32::try_from(NODES).unwrap_or(1));
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for node in (0..NODES).cycle() {
        next.tick().await;
        let lease = format!("{}/{}", plan::LEASES, plan::node_name(node));
        // The API server may be down for a moment: a lease outlives some renewals.
        drop(api.patch(&lease, &plan::renewal()).await);
    }
}

pub(crate) async fn pods(api: &Api, cluster: &ClusterPlan, services: usize) -> Result<()> {
    each("fake pods", plan::pods(services), |pod| async move {
        api.create(plan::PODS, &pod.object()).await?;
        set_ready(api, cluster, pod, true).await
    })
    .await
}

/// Gives their addresses.
pub(crate) async fn services(api: &Api, services: usize) -> Result<Vec<Ipv4Addr>> {
    let made = Mutex::new(Vec::new());
    each("Services", 0..services, |service| {
        let made = &made;
        async move {
            let object = api.create(plan::SERVICES, &plan::service(service)).await?;
            let ip = object["spec"]["clusterIP"].as_str().context("a Service has an address")?;
            let address = ip.parse().with_context(|| format!("{ip} is no IPv4 address"))?;
            made.lock().push((service, address));
            Ok(())
        }
    })
    .await?;
    let mut made: Vec<(usize, Ipv4Addr)> = made.into_inner();
    made.sort_unstable();
    Ok(made.into_iter().map(|(_, address)| address).collect())
}

/// Calls for each thing, [`AT_ONCE`] at a time, and shows how far it is.
async fn each<T, W>(what: &str, things: impl Iterator<Item = T>, make: impl Fn(T) -> W) -> Result<()>
where
    W: Future<Output = Result<()>>,
{
    let (begun, mut shown) = (Instant::now(), Instant::now());
    let mut made = futures::stream::iter(things.map(make)).buffer_unordered(AT_ONCE);
    let mut count = 0_usize;
    while made.try_next().await.with_context(|| format!("make {what}"))?.is_some() {
        count += 1;
        if shown.elapsed() >= Duration::from_secs(5) {
            shown = Instant::now();
            eprintln!("  {count} {what} ...");
        }
    }
    eprintln!("  {count} {what} in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn set_ready(api: &Api, cluster: &ClusterPlan, pod: Pod, is_ready: bool) -> Result<()> {
    api.patch(&format!("{}/{}/status", plan::PODS, pod.name()), &pod.status(cluster, is_ready)).await
}

/// One more endpoint for a Service.
pub(crate) async fn one_more(api: &Api, cluster: &ClusterPlan, pod: Pod) -> Result<()> {
    api.create(plan::PODS, &pod.object()).await?;
    set_ready(api, cluster, pod, true).await
}

/// Waits until Kubernetes' own controller has written all endpoints as ready into slices. When that was.
pub(crate) async fn sliced(api: &Api, endpoints: usize) -> Result<Instant> {
    let mut lines = api.watch(&format!("{}?watch=1", plan::SLICES)).await?;
    let mut ready = BTreeMap::new();
    loop {
        let event = lines.next().await?;
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let all = event["object"]["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
        ready.insert(name, all.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count());
        if ready.values().sum::<usize>() >= endpoints {
            return Ok(Instant::now());
        }
    }
}

/// Pods of one Service after the other become unready and, a second later, ready again: `rate` flips a second in all. At the
/// end all are ready. Gives how many flips there were.
pub(crate) async fn flip(
    api: &Api,
    cluster: &ClusterPlan,
    services: usize,
    rate: u32,
    time: Duration,
) -> Result<usize> {
    // One pod of every Service, then the next one of every Service.
    let nth = |n: usize| Pod { service: n % services, index: n / services % plan::ENDPOINTS_OF_A_SERVICE };
    let mut next = interval(Duration::from_secs(1) / rate);
    next.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut ticks) = (Instant::now(), 0);
    let (mut away, mut back) = (0, 0);
    while begun.elapsed() < time {
        next.tick().await;
        if ticks % 2 == 0 {
            set_ready(api, cluster, nth(away), false).await?;
            away += 1;
        } else if ticks >= APART {
            set_ready(api, cluster, nth(back), true).await?;
            back += 1;
        }
        ticks += 1;
    }
    for n in back..away {
        set_ready(api, cluster, nth(n), true).await?;
    }
    Ok(2 * away)
}
