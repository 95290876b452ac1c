//! One pod's life on its node: sandbox, process, readiness, restart, end. Every change is published before anything else
//! happens: a dead process leaves the endpoint slices within a millisecond of its end.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::pod::PodSpec;
use super::probe::Prober;
use super::sandbox::Sandbox;
use crate::control_plane::{Phase, PodRecord};

const FIRST_BACKOFF: Duration = Duration::from_secs(2);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How long a terminating pod may finish what it has begun.
const GRACE: Duration = Duration::from_secs(3);

pub(super) enum PodOrder {
    Delete(oneshot::Sender<()>),
}

enum End {
    Exited,
    Deleted(oneshot::Sender<()>),
    /// The kubelet stops.
    Abandoned,
}

pub(super) async fn run(shared: &Shared, pod: PodSpec, mut orders: mpsc::UnboundedReceiver<PodOrder>) -> Result<()> {
    let control = &shared.options.control;
    let sandbox = Sandbox::create(shared, &pod).await?;
    let mut record = first_record(shared, &pod, &sandbox);
    let mut backoff = FIRST_BACKOFF;
    loop {
        let mut child = sandbox.start(shared, &pod)?;
        record.phase = Phase::Running;
        record.pid = child.id();
        control.put_pod(record.clone())?;
        let mut end = live(shared, &pod, &mut child, &mut record, &mut orders).await?;
        if matches!(end, End::Exited) {
            let was_halted = *shared.halted.borrow();
            record.is_ready = false;
            record.pid = None;
            if was_halted {
                end = until_resumed(shared, &mut orders).await;
            } else {
                control.put_pod(record.clone())?;
                end = pause(backoff, &mut orders).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
        }
        match end {
            End::Exited => record.restarts += 1,
            End::Abandoned => return Ok(()),
            End::Deleted(done) => {
                terminate(shared, &mut child, &mut record).await?;
                sandbox.remove(shared).await?;
                control.delete_pod(&pod.namespace, &pod.name)?;
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the end of pod {}", pod.name);
                }
                return Ok(());
            }
        }
    }
}

/// While the process lives: follows its readiness.
async fn live(
    shared: &Shared,
    pod: &PodSpec,
    child: &mut Child,
    record: &mut PodRecord,
    orders: &mut mpsc::UnboundedReceiver<PodOrder>,
) -> Result<End> {
    let mut prober = Prober::new(pod, record.ip);
    loop {
        tokio::select! {
            biased;
            exited = child.wait() => {
                exited.context("wait for the pod's process")?;
                return Ok(End::Exited);
            }
            order = orders.recv() => return Ok(deleted_or_abandoned(order)),
            is_ready = prober.next_change() => {
                record.is_ready = is_ready;
                shared.options.control.put_pod(record.clone())?;
            }
        }
    }
}

async fn pause(time: Duration, orders: &mut mpsc::UnboundedReceiver<PodOrder>) -> End {
    tokio::select! {
        () = sleep(time) => End::Exited,
        order = orders.recv() => deleted_or_abandoned(order),
    }
}

async fn until_resumed(shared: &Shared, orders: &mut mpsc::UnboundedReceiver<PodOrder>) -> End {
    let mut halted = shared.halted.clone();
    tokio::select! {
        resumed = halted.wait_for(|halted| !halted) => if resumed.is_ok() { End::Exited } else { End::Abandoned },
        order = orders.recv() => deleted_or_abandoned(order),
    }
}

async fn terminate(shared: &Shared, child: &mut Child, record: &mut PodRecord) -> Result<()> {
    record.phase = Phase::Terminating;
    shared.options.control.put_pod(record.clone())?;
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("end the pod's process")?;
        if timeout(GRACE, child.wait()).await.is_err() {
            child.kill().await.context("kill the pod's process")?;
        }
    }
    Ok(())
}

fn deleted_or_abandoned(order: Option<PodOrder>) -> End {
    match order {
        Some(PodOrder::Delete(done)) => End::Deleted(done),
        None => End::Abandoned,
    }
}

fn first_record(shared: &Shared, pod: &PodSpec, sandbox: &Sandbox) -> PodRecord {
    let node = &shared.options.node;
    PodRecord {
        cluster: node.cluster.name.clone(),
        node: node.name().to_owned(),
        host_ip: node.plan.ip,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: uuid::Uuid::new_v4().to_string(),
        owner: pod.owner.clone(),
        phase: Phase::Pending,
        is_ready: false,
        ip: Some(sandbox.attachment.ip),
        pid: None,
        restarts: 0,
        netns: sandbox.netns.clone(),
        cgroup: sandbox.cgroup.clone(),
        template: pod.template.clone(),
    }
}
