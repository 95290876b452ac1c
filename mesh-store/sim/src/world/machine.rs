//! A machine: its disk, and the replica that runs on it or does not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_store::backend::Member;
use mesh_store::{Embedded, Metrics, Options, Start};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use super::disk::SimDisk;
use super::net::Wire;
use super::{World, clients};
use crate::check::Promise;

pub(super) struct Machine {
    pub(super) disk: SimDisk,
    pub(super) running: Option<Running>,
    pub(super) start: Start,
}

pub(super) struct Running {
    pub(super) store: Arc<Embedded>,
    /// Set when the replica is not there any more.
    pub(super) dead: CancellationToken,
}

/// A recovered group answers within this; by the simulated clock.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("replica-{id}"),
        peer_urls: vec![format!("https://replica-{id}:2380")],
        client_urls: vec![format!("https://replica-{id}:2379")],
        is_learner: false,
    }
}

impl World {
    pub(super) async fn found(self: &Arc<Self>, size: u64) -> Result<(), String> {
        let mut random = self.random(1);
        for id in 1..=size {
            let start = Start::Together { members: (1..=size).map(member).collect() };
            self.machines.lock().insert(id, Machine { disk: SimDisk::default(), running: None, start });
            self.start(id, &mut random).await;
        }
        let stores: Vec<_> =
            self.machines.lock().values().filter_map(|m| Some(Arc::clone(&m.running.as_ref()?.store))).collect();
        for store in stores {
            store.ready(PATIENCE).await.map_err(|error| error.to_string())?;
            self.note_cluster(&store);
        }
        Ok(())
    }

    /// Starts the replica of a machine, if it does not run.
    pub(super) async fn start(self: &Arc<Self>, id: u64, random: &mut StdRng) {
        let (disk, start) = match self.machines.lock().get(&id) {
            Some(machine) if machine.running.is_none() => (machine.disk.clone(), machine.start.clone()),
            _ => return,
        };
        let options = Options {
            disk: Arc::new(disk.clone()),
            member: member(id),
            start,
            seed: Some(random.random()),
            progress_interval: Duration::from_millis(500),
            snapshot_log_bytes: self.snapshot_bytes,
            segment_bytes: 16 << 10,
            ..Options::new(PathBuf::from("/store"))
        };
        let dead = disk.dead();
        let wire = Wire { net: Arc::clone(&self.net), from: id, dead: dead.clone() };
        self.trace.note(format_args!("start {id}"));
        match Embedded::start(options, Arc::new(wire), Metrics::detached()).await {
            Ok(store) => {
                self.net.attach(id, store.receiver());
                self.clients.spawn(clients::greet(
                    Arc::clone(self),
                    (id, Arc::clone(&store), dead.clone()),
                    random.random(),
                ));
                if let Some(machine) = self.machines.lock().get_mut(&id) {
                    machine.running = Some(Running { store, dead });
                }
            }
            // The crash that was set to come has come during the start.
            Err(_) if dead.is_cancelled() => {}
            Err(error) => {
                self.violation(Promise::Recovers, format!("replica {id} cannot start: {error}: {error:?}"));
            }
        }
    }

    /// From one moment to the next the machine is gone, with what was not synced.
    pub(super) fn crash(&self, id: u64, random: &mut StdRng) {
        let running = {
            let mut machines = self.machines.lock();
            let Some(machine) = machines.get_mut(&id) else { return };
            machine.disk = machine.disk.crash(random);
            machine.running.take()
        };
        self.net.detach(id);
        let Some(running) = running else { return };
        self.count("crashes");
        self.trace.note(format_args!("crash {id}"));
        self.bury(running.store);
    }

    /// The replica is told to stop, and does so in its own time.
    pub(super) async fn stop(&self, id: u64) {
        let store = {
            let machines = self.machines.lock();
            let Some(running) = machines.get(&id).and_then(|machine| machine.running.as_ref()) else { return };
            Arc::clone(&running.store)
        };
        self.trace.note(format_args!("stop {id}"));
        self.count("stops");
        store.shutdown().await;
        self.net.detach(id);
        let mut machines = self.machines.lock();
        let Some(machine) = machines.get_mut(&id) else { return };
        machine.running = None;
        machine.disk = machine.disk.handed_over();
    }

    /// A replica that the group has removed, or never admitted, learns nothing any more: whoever runs it takes it away.
    pub(super) fn take_away(&self, id: u64) {
        self.net.detach(id);
        let Some(machine) = self.machines.lock().remove(&id) else { return };
        machine.disk.dead().cancel();
        self.trace.note(format_args!("{id} taken away"));
        if let Some(running) = machine.running {
            self.bury(running.store);
        }
    }

    /// What is left of a replica whose machine is gone still runs in this process: it hears nothing, says nothing, has no
    /// disk, and is ended in the background.
    fn bury(&self, store: Arc<Embedded>) {
        self.net.background(async move { store.shutdown().await });
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.machines.lock().keys().copied().collect()
    }

    /// Everything runs, and every line works.
    pub(super) async fn heal(self: &Arc<Self>) {
        let mut random = self.random(2);
        self.net.mend();
        self.net.set_weather(super::net::Weather::FAIR);
        self.trace.note(format_args!("heal"));
        for id in self.ids() {
            let is_dead = self.machines.lock().get(&id).is_some_and(|machine| machine.disk.dead().is_cancelled());
            if is_dead {
                self.crash(id, &mut random);
            }
            if let Some(machine) = self.machines.lock().get(&id) {
                machine.disk.pinch_fuse();
            }
            self.start(id, &mut random).await;
        }
    }
}
