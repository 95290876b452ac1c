//! What goes wrong: one fault after the other, every kind once before any comes again, each healed and recovered from
//! before the next. In the midst of one, a replica may die as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use mesh_store_sim::check::Promise;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use strum::IntoEnumIterator as _;
use topology_tests::components::APISERVER_METRICS_PORT;
use topology_tests::deadline::wait_for;
use topology_tests::scenario::Scenario;

use crate::clients::PATIENCE;
use crate::lines::{self, Way, node_of};
use crate::world::{CLUSTER, World, in_network};

/// With everything well again, all replicas are ready and writes go on within this; on a loaded machine, too.
const RECOVERS_WITHIN: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Kind {
    KillLeader,
    KillOne,
    KillTwo,
    KillAll,
    PauseLeader,
    PauseTwo,
    PauseAll,
    /// A node without a network: nobody reaches its replica.
    NodeCutOff,
    /// Clients reach the leader, the other replicas do not.
    LeaderAlone,
    /// One replica alone, and clients reach it.
    ReplicaAlone,
    /// The leader is heard, but hears nothing.
    LeaderDeaf,
    /// A replica hears, but is not heard.
    ReplicaMute,
    /// One replica does not reach one other.
    OneLineOneWay,
    SlowDisk,
    SlowDisks,
    FullDisk,
    FullDisks,
}

impl Kind {
    fn fills_disks(self) -> bool {
        matches!(self, Self::FullDisk | Self::FullDisks)
    }
}

pub(crate) struct Faults<'a> {
    s: &'a Scenario,
    world: Arc<World>,
    random: StdRng,
    deck: Vec<Kind>,
    pub(crate) counts: BTreeMap<Kind, u64>,
    /// Replicas killed beside another fault.
    pub(crate) also_killed: u64,
    /// Replicas that ended by themselves, as one on a full disk may, and were started again.
    pub(crate) ended: u64,
    /// When each fault began, and when it had been recovered from.
    pub(crate) times: Vec<(Kind, Instant, Instant)>,
    left_out: bool,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(s: &'a Scenario, world: Arc<World>, seed: u64) -> Self {
        Self {
            s,
            world,
            random: StdRng::seed_from_u64(seed),
            deck: Vec::new(),
            counts: BTreeMap::new(),
            also_killed: 0,
            ended: 0,
            times: Vec::new(),
            left_out: false,
        }
    }

    /// A moment of peace, then a fault from its beginning to the recovery.
    pub(crate) fn next(&mut self) {
        std::thread::sleep(self.random.random_range(Duration::from_millis(200)..Duration::from_millis(1500)));
        if self.deck.is_empty() {
            self.deck = Kind::iter().collect();
            self.deck.shuffle(&mut self.random);
        }
        let kind = self.deck.pop().expect("just filled");
        let mut replicas: Vec<u64> = self.world.access.replicas().collect();
        replicas.shuffle(&mut self.random);
        let leader = self.leader().unwrap_or(replicas[0]);
        let wants_leader = matches!(kind, Kind::KillLeader | Kind::PauseLeader | Kind::LeaderAlone | Kind::LeaderDeaf);
        if wants_leader {
            replicas.sort_by_key(|replica| *replica != leader);
        }
        let number = match kind {
            Kind::KillTwo | Kind::PauseTwo => 2,
            Kind::KillAll | Kind::PauseAll | Kind::SlowDisks | Kind::FullDisks => 3,
            _ => 1,
        };
        let (hit, others) = replicas.split_at(number);
        let began = Instant::now();
        println!("{:>7.1} s  {kind} {hit:?}, the leader was {leader}", self.world.now().as_secs_f64());
        if !self.begin(kind, hit, others) {
            self.left_out = true;
            return;
        }
        let lasts = self.random.random_range(Duration::from_millis(800)..Duration::from_secs(5));
        std::thread::sleep(lasts / 2);
        let is_killed_too = !kind.to_string().starts_with("kill") && self.random.random_bool(0.25);
        if is_killed_too && let Some(victim) = replicas.choose(&mut self.random).copied() {
            println!("{:>7.1} s    and kill {victim}", self.world.now().as_secs_f64());
            // One that the full disk has ended already cannot be killed.
            drop(self.s.mesh.kill_apiserver(CLUSTER, victim));
            self.s.mesh.start_apiservers(&self.s.lab, CLUSTER).unwrap();
            self.also_killed += 1;
        }
        std::thread::sleep(lasts / 2);
        self.end(kind, hit);
        self.recover(kind);
        *self.counts.entry(kind).or_default() += 1;
        self.times.push((kind, began, Instant::now()));
    }

    /// Whether a kind was asked for that this kernel cannot do.
    pub(crate) fn left_some_out(&self) -> bool {
        self.left_out
    }

    /// False where this machine cannot do it.
    fn begin(&mut self, kind: Kind, hit: &[u64], others: &[u64]) -> bool {
        let s = self.s;
        for replica in hit {
            match kind {
                Kind::KillLeader | Kind::KillOne | Kind::KillTwo | Kind::KillAll => {
                    s.mesh.kill_apiserver(CLUSTER, *replica).unwrap();
                }
                Kind::PauseLeader | Kind::PauseTwo | Kind::PauseAll => {
                    s.mesh.signal_apiserver(CLUSTER, *replica, Signal::SIGSTOP).unwrap();
                }
                Kind::NodeCutOff => s.lab.set_uplink(&node_of(s, *replica), false).unwrap(),
                Kind::LeaderAlone | Kind::ReplicaAlone => lines::cut(s, *replica, others, Way::Both),
                Kind::LeaderDeaf => lines::cut(s, *replica, others, Way::In),
                Kind::ReplicaMute => lines::cut(s, *replica, others, Way::Out),
                Kind::OneLineOneWay => lines::cut(s, *replica, &others[..1], Way::Out),
                Kind::SlowDisk | Kind::SlowDisks => {
                    let pid = s.mesh.apiserver_pid(CLUSTER, *replica).unwrap();
                    let per_second = self.random.random_range(10..60);
                    if !s.disks[replica].slow_down(pid, per_second).unwrap() {
                        return false;
                    }
                }
                Kind::FullDisk | Kind::FullDisks => s.disks[replica].fill().unwrap(),
            }
        }
        true
    }

    fn end(&self, kind: Kind, hit: &[u64]) {
        let s = self.s;
        for replica in hit {
            match kind {
                Kind::KillLeader | Kind::KillOne | Kind::KillTwo | Kind::KillAll => {}
                Kind::PauseLeader | Kind::PauseTwo | Kind::PauseAll => {
                    s.mesh.signal_apiserver(CLUSTER, *replica, Signal::SIGCONT).unwrap();
                }
                Kind::NodeCutOff => s.lab.set_uplink(&node_of(s, *replica), true).unwrap(),
                Kind::LeaderAlone | Kind::ReplicaAlone | Kind::LeaderDeaf | Kind::ReplicaMute | Kind::OneLineOneWay => {
                    lines::mend(s, *replica);
                }
                Kind::SlowDisk | Kind::SlowDisks => s.disks[replica].speed_up().unwrap(),
                Kind::FullDisk | Kind::FullDisks => s.disks[replica].make_room().unwrap(),
            }
        }
        s.mesh.start_apiservers(&s.lab, CLUSTER).unwrap();
    }

    fn recover(&mut self, kind: Kind) {
        let before = self.world.written();
        let mut ended = 0;
        let recovered = wait_for("all replicas to be ready and writes to go on", RECOVERS_WITHIN, || {
            let again = self.s.mesh.restart_ended(&self.s.lab, CLUSTER)?;
            ended += again.len() as u64;
            if kind.fills_disks() {
                // The alarm may be raised after there is room again: it was under way.
                self.disarm();
            } else if !again.is_empty() {
                self.world.violation(Promise::Recovers, format!("replicas {again:?} ended by themselves ({kind})"));
            }
            let unready: Vec<u64> = self.world.access.replicas().filter(|replica| !self.is_ready(*replica)).collect();
            anyhow::ensure!(unready.is_empty(), "not ready: {unready:?}");
            anyhow::ensure!(self.world.written() > before + 5, "no writes");
            Ok(Some(()))
        });
        self.ended += ended;
        if let Err(late) = recovered {
            self.world.violation(Promise::Recovers, format!("after {kind}: {late:#}"));
        }
    }

    fn is_ready(&self, replica: u64) -> bool {
        let plan = self.s.lab.cluster_plan(CLUSTER).unwrap();
        let plan = plan.replicas.iter().find(|plan| plan.id == replica).unwrap();
        self.s.lab.answers_ok(&plan.node, (plan.ip, APISERVER_METRICS_PORT).into(), "/readyz")
    }

    fn leader(&self) -> Option<u64> {
        let leads =
            |replica: &u64| self.s.apiserver_metric(CLUSTER, *replica, "etcd_server_is_leader", "").unwrap_or(0.0);
        self.world.access.replicas().find(|replica| leads(replica) > 0.5)
    }

    /// Disarms what is raised, as the documentation says; failing is for the next try.
    fn disarm(&self) {
        let world = Arc::clone(&self.world);
        let asked = in_network(self.s, async move || {
            for replica in world.access.replicas() {
                let Some(mut etcd) = world.access.client_of(replica).await else { continue };
                let listed = etcd.alarm(AlarmAction::Get, AlarmType::None, None);
                let Ok(Ok(listed)) = tokio::time::timeout(PATIENCE, listed).await else { continue };
                for alarm in listed.alarms() {
                    let mut of = AlarmOptions::new();
                    of.with_member(alarm.member_id());
                    let disarmed = etcd.alarm(AlarmAction::Deactivate, alarm.alarm(), Some(of));
                    drop(tokio::time::timeout(PATIENCE, disarmed).await);
                }
                return;
            }
        });
        asked.join().unwrap();
    }
}
