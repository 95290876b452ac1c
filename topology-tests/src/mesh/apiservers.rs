//! The replicas of every cluster's mesh-apiserver: start, kill, readiness, and which one holds the controller's role.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Mesh, READY};
use crate::components::{self, APISERVER_METRICS_PORT, ApiserverFiles};
use crate::deadline::wait_for;
use crate::lab::Lab;
use crate::metrics::metric;
use crate::proc::Proc;
use crate::topology::ReplicaPlan;

/// A role finds its next holder within this.
const ELECTED: Duration = Duration::from_secs(10);

/// The cluster's name and the replica's number.
pub(super) type Key = (String, u64);

impl Mesh {
    /// Starts every replica of a cluster that does not run.
    pub fn start_apiservers(&self, lab: &Lab, cluster: &str) -> Result<()> {
        for replica in &lab.cluster_plan(cluster)?.replicas {
            if !self.apiservers.lock().contains_key(&key(cluster, replica.id)) {
                self.start_apiserver(lab, cluster, replica.id)?;
            }
        }
        Ok(())
    }

    /// Waits until every replica of a cluster says that it is ready.
    pub fn wait_apiservers_ready(&self, lab: &Lab, cluster: &str) -> Result<()> {
        let replicas = &lab.cluster_plan(cluster)?.replicas;
        replicas.iter().try_for_each(|replica| self.wait_apiserver_ready(lab, cluster, replica.id))
    }

    /// SIGKILL to every replica of a cluster that runs.
    pub fn kill_apiservers(&self, lab: &Lab, cluster: &str) -> Result<()> {
        for replica in &lab.cluster_plan(cluster)?.replicas {
            if self.apiservers.lock().contains_key(&key(cluster, replica.id)) {
                self.kill_apiserver(cluster, replica.id)?;
            }
        }
        Ok(())
    }

    pub fn start_apiserver(&self, lab: &Lab, cluster: &str, id: u64) -> Result<()> {
        let plan = lab.cluster_plan(cluster)?;
        let replica = replica(lab, cluster, id)?;
        let folder = lab.cluster_dir(cluster);
        let files = ApiserverFiles {
            state: state_dir(lab, cluster, id),
            ca: folder.join("ca"),
            manifests: folder.join("manifests"),
            admin_socket: admin_socket(lab, cluster, id),
        };
        let place = &lab.node(&replica.node)?.place;
        let program = lab.binaries.find("mesh-apiserver")?;
        let (encryption, periods) = (self.options.encryption, &self.options.periods);
        let mut command = components::mesh_apiserver(&program, place, plan, replica, &files, encryption, periods);
        if let Some(etcd) = self.etcds.lock().get(cluster) {
            command.args(etcd.flags(&plan.replicas));
        }
        let name = format!("mesh-apiserver-{cluster}-{id}");
        let proc = Proc::start(&name, command, &lab.logs().join(format!("{name}.log")))?;
        self.apiservers.lock().insert(key(cluster, id), proc);
        Ok(())
    }

    pub fn wait_apiserver_ready(&self, lab: &Lab, cluster: &str, id: u64) -> Result<()> {
        let replica = replica(lab, cluster, id)?;
        let address = SocketAddr::from((replica.ip, APISERVER_METRICS_PORT));
        let socket = admin_socket(lab, cluster, id);
        let apiservers = self.apiservers.lock();
        let proc =
            apiservers.get(&key(cluster, id)).with_context(|| format!("replica {id} of {cluster} was not started"))?;
        proc.wait_ready(&format!("{} is ready", proc.name()), READY, || {
            lab.answers_ok(&replica.node, address, "/readyz")
                && std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
    }

    pub fn kill_apiserver(&self, cluster: &str, id: u64) -> Result<()> {
        let found = self.apiservers.lock().remove(&key(cluster, id));
        found.with_context(|| format!("replica {id} of {cluster} does not run"))?.kill9()
    }

    /// Starts every replica again that has ended by itself, and says which: what a supervisor does.
    pub fn restart_ended(&self, lab: &Lab, cluster: &str) -> Result<Vec<u64>> {
        let ended: Vec<u64> = {
            let mut apiservers = self.apiservers.lock();
            let has_ended = |(of, _): &Key, proc: &mut Proc| of == cluster && !proc.is_alive();
            apiservers.extract_if(.., has_ended).map(|((_, id), _)| id).collect()
        };
        ended.iter().try_for_each(|id| self.start_apiserver(lab, cluster, *id))?;
        Ok(ended)
    }

    /// A signal to a replica, and to nobody where it does not run.
    pub fn signal_apiserver(&self, cluster: &str, id: u64, signal: Signal) -> Result<()> {
        self.apiservers.lock().get(&key(cluster, id)).map_or(Ok(()), |proc| proc.signal(signal))
    }

    /// The process of a replica.
    pub fn apiserver_pid(&self, cluster: &str, id: u64) -> Result<u32> {
        let apiservers = self.apiservers.lock();
        let proc = apiservers.get(&key(cluster, id));
        Ok(proc.with_context(|| format!("replica {id} of {cluster} does not run"))?.pid())
    }

    /// The replica that exports and mirrors for its cluster, and leads its store; waits until there is one.
    pub fn controller(&self, lab: &Lab, cluster: &str) -> Result<u64> {
        wait_for(&format!("a replica of {cluster} that holds the controller's role"), ELECTED, || {
            for id in self.running_apiservers(cluster) {
                if self.apiserver_metric(lab, cluster, id, "isthmus_controller", "")? > 0.5 {
                    return Ok(Some(id));
                }
            }
            bail!("none of them says so")
        })
    }

    /// The replicas of a cluster that were started and not killed.
    pub fn running_apiservers(&self, cluster: &str) -> Vec<u64> {
        self.apiservers.lock().keys().filter(|(of, _)| of == cluster).map(|(_, id)| *id).collect()
    }

    /// A counter or gauge of a replica, summed over the label sets that contain `labels`.
    pub fn apiserver_metric(&self, lab: &Lab, cluster: &str, id: u64, name: &str, labels: &str) -> Result<f64> {
        let replica = replica(lab, cluster, id)?;
        let address = SocketAddr::from((replica.ip, APISERVER_METRICS_PORT));
        metric(lab, &replica.node, address, name, labels)
    }
}

fn replica<'a>(lab: &'a Lab, cluster: &str, id: u64) -> Result<&'a ReplicaPlan> {
    let found = lab.cluster_plan(cluster)?.replicas.iter().find(|replica| replica.id == id);
    found.with_context(|| format!("{cluster} has no replica {id}"))
}

fn key(cluster: &str, id: u64) -> Key {
    (cluster.to_owned(), id)
}

/// Where a replica keeps all that it must not lose.
pub fn state_dir(lab: &Lab, cluster: &str, id: u64) -> PathBuf {
    lab.cluster_dir(cluster).join(format!("apiserver-{id}"))
}

pub(super) fn admin_socket(lab: &Lab, cluster: &str, id: u64) -> PathBuf {
    lab.cluster_dir(cluster).join(format!("admin-{id}.sock"))
}
