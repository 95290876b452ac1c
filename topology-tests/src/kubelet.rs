//! The lab's kubelet: one thread per node, inside the node's network namespace, that attaches pods, starts their processes,
//! probes them, restarts them and reports every change to the control plane. Decides nothing about where a pod runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::cgroup;
use crate::cni::Network;
use crate::control_plane::{ControlPlane, ObjectKey};
use crate::names::LabName;
use crate::netns;
use crate::node::Node;
use pod::PodSpec;
use worker::PodOrder;

pub mod pod;
mod probe;
mod sandbox;
mod worker;

/// What a kubelet needs to know.
pub struct Options {
    pub lab: LabName,
    pub node: Arc<Node>,
    pub control: Arc<ControlPlane>,
    /// The `lab-workload` program.
    pub workload: PathBuf,
    pub logs: PathBuf,
}

/// The face of a node's kubelet thread.
#[derive(Debug)]
pub struct Kubelet {
    node: Arc<Node>,
    orders: mpsc::UnboundedSender<Order>,
    /// While true, ended pods are neither reported nor started again: the node is "dead".
    halted: watch::Sender<bool>,
    problems: Arc<Mutex<Vec<String>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

enum Order {
    Start(PodSpec),
    Delete(ObjectKey, oneshot::Sender<()>),
}

/// What all pod workers of a node share.
struct Shared {
    options: Options,
    network: Network,
    halted: watch::Receiver<bool>,
}

impl Kubelet {
    pub fn start(options: Options) -> Result<Self> {
        let (orders, receive) = mpsc::unbounded_channel();
        let (halted, is_halted) = watch::channel(false);
        let problems = Arc::new(Mutex::new(Vec::new()));
        let node = Arc::clone(&options.node);
        let network = Network {
            cni: node.cluster.cni,
            pod_cidr: node.plan.pod_cidr,
            data_dir: options.lab.state_dir().join(&node.cluster.name).join("cni").join(node.name()),
            node: node.place.clone(),
        };
        let namespace = netns::path(&options.lab.netns(node.name()));
        let noted = Arc::clone(&problems);
        let name = format!("kubelet-{}", node.name());
        let body = move || {
            let shared = Rc::new(Shared { options, network, halted: is_halted });
            if let Err(error) = netns::enter(&namespace).and_then(|()| serve(&shared, receive, &noted)) {
                noted.lock().push(format!("{error:#}"));
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(body).context("start a kubelet")?;
        Ok(Self { node, orders, halted, problems, thread: Mutex::new(Some(thread)) })
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Attaches and starts a pod; returns before it runs.
    pub fn start_pod(&self, pod: PodSpec) -> Result<()> {
        self.orders.send(Order::Start(pod)).map_err(|_closed| anyhow!("the kubelet of {} ended", self.node.name()))
    }

    /// Terminates a pod gracefully, and detaches it; returns when it is gone.
    pub fn delete_pod(&self, key: ObjectKey) -> Result<()> {
        let (done, gone) = oneshot::channel();
        let sent = self.orders.send(Order::Delete(key, done));
        sent.map_err(|_closed| anyhow!("the kubelet of {} ended", self.node.name()))?;
        gone.blocking_recv().with_context(|| format!("the kubelet of {} did not delete the pod", self.node.name()))
    }

    /// The node's power is cut: all its pods die, and nobody reports it.
    pub fn halt(&self) -> Result<()> {
        self.halted.send_replace(true);
        cgroup::kill(&self.node.pods_cgroup)
    }

    /// The node is back: all its pods are started again.
    pub fn resume(&self) {
        self.halted.send_replace(false);
    }

    /// What went wrong so far.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    /// Ends the thread, and with it all its pods.
    pub fn stop(self) {
        let Self { orders, thread, .. } = self;
        drop(orders);
        if let Some(thread) = thread.lock().take() {
            // A kubelet that panicked has said so on standard error.
            drop(thread.join());
        }
    }
}

/// The thread's life: hands orders to one worker per pod until the orders end.
fn serve(
    shared: &Rc<Shared>,
    orders: mpsc::UnboundedReceiver<Order>,
    problems: &Arc<Mutex<Vec<String>>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let local = LocalSet::new();
    local.block_on(&runtime, dispatch(shared, orders, problems));
    Ok(())
}

async fn dispatch(shared: &Rc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>, problems: &Arc<Mutex<Vec<String>>>) {
    let mut workers: HashMap<ObjectKey, mpsc::UnboundedSender<PodOrder>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Start(pod) => {
                let (tell, told) = mpsc::unbounded_channel();
                workers.insert((pod.namespace.clone(), pod.name.clone()), tell);
                let (shared, problems) = (Rc::clone(shared), Arc::clone(problems));
                tasks.spawn_local(async move {
                    let name = format!("{}/{}", pod.namespace, pod.name);
                    if let Err(error) = worker::run(&shared, pod, told).await {
                        problems.lock().push(format!("pod {name} on {}: {error:#}", shared.options.node.name()));
                    }
                });
            }
            Order::Delete(key, done) => {
                if let Some(worker) = workers.remove(&key) {
                    // A worker that ended has nothing left to delete: the dropped `done` says so.
                    drop(worker.send(PodOrder::Delete(done)));
                }
            }
        }
    }
    tasks.shutdown().await;
}
