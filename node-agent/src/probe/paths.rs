//! The state machine of all paths. Pure: time comes in as an argument, actions go out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub const INTERVAL: Duration = Duration::from_millis(300);
/// Between probes of a sampled path that answers, and of one that is dead.
const INTERVAL_WHEN_SAMPLED: Duration = Duration::from_secs(3);
const INTERVAL_WHEN_SAMPLED_AND_DOWN: Duration = Duration::from_secs(1);
/// Unanswered probes in a row that make a path dead.
pub const MISSES: u32 = 3;
/// Unanswered probes on a path that never worked, after which a handshake is forced.
const MISSES_WHEN_NEW: u32 = 2;
/// Answers to older probes than this many do not count.
const WINDOW: u32 = 32;
/// Between two forced handshakes of a dead path. A little longer on one side, so that both do not start over together.
const HANDSHAKE: Duration = Duration::from_millis(900);
const HANDSHAKE_OF_THE_OTHER: Duration = Duration::from_millis(1_150);
/// Between any two handshakes of sampled paths: where a whole mesh is away they would be most of the node's work.
const SAMPLED_HANDSHAKES: Duration = Duration::from_millis(50);

/// Why a node is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// It hosts backends.
    Used,
    /// Nothing of its cluster is in use: by it is known whether packets would reach the cluster.
    Sampled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No probe was answered and not enough were lost.
    Presumed {
        up: bool,
    },
    Up,
    Down,
}

/// One node's path.
#[derive(Debug)]
pub struct Path {
    interest: Interest,
    state: State,
    since_unix_nanos: u64,
    next_probe: Instant,
    sequence: u32,
    unanswered: u32,
    sent: BTreeMap<u32, Instant>,
    rtt: Option<Duration>,
    next_handshake: Option<Instant>,
    handshake_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Probe { to: Ipv4Addr, sequence: u32 },
    Handshake { to: Ipv4Addr },
}

/// All paths.
#[derive(Debug, Default)]
pub struct Paths {
    all: BTreeMap<Ipv4Addr, Path>,
    next_sampled_handshake: Option<Instant>,
}

impl Path {
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up | State::Presumed { up: true })
    }

    /// Probes have said so, and it is not presumed.
    pub fn is_known(&self) -> bool {
        !matches!(self.state, State::Presumed { .. })
    }

    pub fn interest(&self) -> Interest {
        self.interest
    }

    pub fn rtt_micros(&self) -> u32 {
        self.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX))
    }

    pub fn since_unix_nanos(&self) -> u64 {
        self.since_unix_nanos
    }

    /// Whether others see a difference.
    fn enter(&mut self, state: State) -> bool {
        let was_up = self.is_up();
        self.state = state;
        let changed = was_up != self.is_up();
        if changed {
            self.since_unix_nanos = mesh_runtime::clock::unix_nanos();
        }
        changed
    }
}

impl Paths {
    /// Keeps the paths that stay, adds the new ones, forgets the others.
    pub fn set_targets(
        &mut self,
        wanted: &BTreeMap<Ipv4Addr, Interest>,
        presume_up: bool,
        own: Ipv4Addr,
        now: Instant,
    ) {
        self.all.retain(|address, _| wanted.contains_key(address));
        for (address, interest) in wanted {
            let path = self.all.entry(*address).or_insert_with(|| Path {
                interest: *interest,
                state: State::Presumed { up: presume_up },
                since_unix_nanos: mesh_runtime::clock::unix_nanos(),
                next_probe: now,
                sequence: 0,
                unanswered: 0,
                sent: BTreeMap::new(),
                rtt: None,
                next_handshake: None,
                handshake_interval: if own < *address { HANDSHAKE } else { HANDSHAKE_OF_THE_OTHER },
            });
            if path.interest != *interest {
                path.interest = *interest;
                path.next_probe = now;
            }
        }
    }

    /// What is to be done now, and whether a path changed.
    pub fn poll(&mut self, now: Instant) -> (Vec<Action>, bool) {
        let (mut actions, mut changed, mut is_alarmed) = (Vec::new(), false, false);
        for (to, path) in &mut self.all {
            if path.next_probe <= now {
                if path.unanswered >= MISSES && path.state != State::Down {
                    changed |= path.enter(State::Down);
                    is_alarmed = true;
                }
                path.sequence = path.sequence.wrapping_add(1);
                path.unanswered = path.unanswered.saturating_add(1);
                path.sent.insert(path.sequence, now);
                while path.sent.len() > WINDOW as usize {
                    path.sent.pop_first();
                }
                actions.push(Action::Probe { to: *to, sequence: path.sequence });
                // From now, not from when it was due: a process that was stopped does not send a burst.
                path.next_probe = now
                    + match (path.interest, path.state) {
                        (Interest::Sampled, State::Down) => INTERVAL_WHEN_SAMPLED_AND_DOWN,
                        _ => INTERVAL,
                    };
            }
            let is_dead = path.state == State::Down || !path.is_up() && path.unanswered > MISSES_WHEN_NEW;
            if is_dead && path.next_handshake.is_none_or(|at| at <= now) {
                if path.interest == Interest::Sampled {
                    if self.next_sampled_handshake.is_some_and(|at| at > now) {
                        continue;
                    }
                    self.next_sampled_handshake = Some(now + SAMPLED_HANDSHAKES);
                }
                path.next_handshake = Some(now + path.handshake_interval);
                actions.push(Action::Handshake { to: *to });
            }
        }
        if is_alarmed {
            self.look_at_samples(now);
        }
        (actions, changed)
    }

    /// A path has died: whether others have, too, must not wait for their turn. By that the own side's loss of everything is
    /// told from the loss of one cluster.
    fn look_at_samples(&mut self, now: Instant) {
        let waiting = |path: &&mut Path| path.interest == Interest::Sampled && path.state == State::Up;
        for path in self.all.values_mut().filter(waiting) {
            path.next_probe = path.next_probe.min(now);
        }
    }

    /// Does not wait for the next probe of the paths that do not work.
    pub fn probe_now(&mut self, now: Instant) {
        for path in self.all.values_mut().filter(|path| path.state != State::Up) {
            path.next_probe = now;
        }
    }

    /// Takes an answer in. Whether the path changed.
    pub fn answered(&mut self, from: Ipv4Addr, sequence: u32, now: Instant) -> bool {
        let Some(path) = self.all.get_mut(&from) else { return false };
        let Some(sent) = path.sent.remove(&sequence) else { return false };
        path.unanswered = 0;
        path.rtt = Some(now.saturating_duration_since(sent));
        path.next_handshake = None;
        if path.interest == Interest::Sampled {
            path.next_probe = now + INTERVAL_WHEN_SAMPLED;
        }
        path.enter(State::Up)
    }

    pub fn next_wakeup(&self) -> Option<Instant> {
        self.all.values().map(|path| path.next_probe).min()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Path)> {
        self.all.iter().map(|(address, path)| (*address, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Ipv4Addr = Ipv4Addr::new(172, 30, 2, 11);
    const HERE: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 11);

    /// Time that moves by hand.
    struct Run {
        paths: Paths,
        now: Instant,
        answers: bool,
        handshakes: usize,
    }

    impl Run {
        fn new(presume_up: bool) -> Self {
            let (mut paths, now) = (Paths::default(), Instant::now());
            paths.set_targets(&BTreeMap::from([(THERE, Interest::Used)]), presume_up, HERE, now);
            Self { paths, now, answers: true, handshakes: 0 }
        }

        fn is_up(&self) -> bool {
            self.paths.all[&THERE].is_up()
        }

        /// Lets time pass in steps of 10 ms; every probe is answered 1 ms later while `answers`.
        fn pass(&mut self, millis: u64) {
            let end = self.now + Duration::from_millis(millis);
            while self.now < end {
                let (actions, _) = self.paths.poll(self.now);
                for action in actions {
                    match action {
                        Action::Probe { to, sequence } if self.answers => {
                            self.paths.answered(to, sequence, self.now + Duration::from_millis(1));
                        }
                        Action::Probe { .. } => {}
                        Action::Handshake { .. } => self.handshakes += 1,
                    }
                }
                self.now += Duration::from_millis(10);
            }
        }
    }

    #[test]
    fn the_first_answer_proves_a_new_path() {
        let mut run = Run::new(false);
        assert!(!run.is_up());
        run.pass(10);
        assert!(run.is_up() && run.paths.all[&THERE].rtt_micros() == 1_000 && run.handshakes == 0);
    }

    #[test]
    fn three_lost_probes_kill_a_path_and_one_answer_brings_it_back() {
        let mut run = Run::new(false);
        run.pass(1_000);
        run.answers = false;
        run.pass(900);
        assert!(run.is_up(), "one or two may be lost");
        run.pass(400);
        assert!(!run.is_up());
        run.answers = true;
        run.pass(310);
        assert!(run.is_up());
    }

    #[test]
    fn a_dead_paths_handshake_is_forced_about_once_a_second() {
        let mut run = Run::new(false);
        run.pass(500);
        run.answers = false;
        run.pass(10_000);
        assert!((8..=11).contains(&run.handshakes), "{}", run.handshakes);
        run.answers = true;
        run.pass(400);
        let so_far = run.handshakes;
        run.pass(5_000);
        assert_eq!(run.handshakes, so_far);
    }

    #[test]
    fn a_restarted_agent_takes_paths_to_be_up_until_probes_are_lost() {
        let mut run = Run::new(true);
        assert!(run.is_up());
        run.answers = false;
        run.pass(600);
        assert!(run.is_up());
        run.pass(700);
        assert!(!run.is_up());
    }

    #[test]
    fn a_late_answer_counts_and_an_unknown_one_does_not() {
        let mut run = Run::new(false);
        run.answers = false;
        run.pass(700);
        assert!(!run.paths.answered(THERE, 99, run.now));
        assert!(!run.paths.answered(HERE, 1, run.now));
        assert!(run.paths.answered(THERE, 1, run.now) && run.is_up());
    }

    #[test]
    fn a_path_keeps_its_state_while_targets_around_it_change() {
        let mut run = Run::new(false);
        run.pass(10);
        let more = [THERE, Ipv4Addr::new(172, 30, 2, 12)].map(|address| (address, Interest::Used));
        run.paths.set_targets(&BTreeMap::from(more), false, HERE, run.now);
        assert!(run.is_up());
        run.paths.set_targets(&BTreeMap::new(), false, HERE, run.now);
        assert_eq!(run.paths.next_wakeup(), None);
    }

    fn sampled() -> BTreeMap<Ipv4Addr, Interest> {
        BTreeMap::from([(THERE, Interest::Sampled)])
    }

    #[test]
    fn a_sampled_path_is_probed_seldom_while_it_answers_and_found_dead_all_the_same() {
        let mut run = Run::new(false);
        run.paths.set_targets(&sampled(), false, HERE, run.now);
        run.pass(10);
        assert!(run.is_up());
        let before = run.paths.all[&THERE].sequence;
        run.pass(30_000);
        assert!(run.paths.all[&THERE].sequence - before <= 10);
        run.answers = false;
        run.pass(3_000 + 1_300);
        assert!(!run.is_up());
        run.answers = true;
        run.pass(1_010);
        assert!(run.is_up());
    }

    #[test]
    fn a_node_whose_backends_are_withdrawn_stays_as_it_was_seen_and_is_looked_at_until_it_is_back() {
        let mut run = Run::new(false);
        run.pass(500);
        run.answers = false;
        run.pass(1_300);
        assert!(!run.is_up());
        run.paths.set_targets(&sampled(), false, HERE, run.now);
        run.pass(60_000);
        assert!(!run.is_up() && run.paths.all[&THERE].is_known());
        run.answers = true;
        run.pass(1_010);
        assert!(run.is_up());
        run.paths.set_targets(&BTreeMap::from([(THERE, Interest::Used)]), false, HERE, run.now);
        assert!(run.is_up(), "used again at once");
    }

    #[test]
    fn when_one_path_dies_the_sampled_ones_are_looked_at_at_once() {
        let mut run = Run::new(false);
        let other = Ipv4Addr::new(172, 30, 3, 11);
        let both = BTreeMap::from([(THERE, Interest::Used), (other, Interest::Sampled)]);
        run.paths.set_targets(&both, false, HERE, run.now);
        run.pass(100);
        assert!(run.paths.all[&other].is_up());
        run.answers = false;
        run.pass(1_300);
        assert!(!run.is_up());
        run.pass(1_300);
        assert!(!run.paths.all[&other].is_up());
    }

    #[test]
    fn handshakes_of_sampled_paths_keep_a_distance_whatever_their_number() {
        let mut run = Run::new(false);
        run.answers = false;
        let all = (1..=200).map(|n| (Ipv4Addr::new(172, 30, 3, n), Interest::Sampled));
        run.paths.set_targets(&all.collect(), false, HERE, run.now);
        run.pass(10_000);
        assert!((100..=201).contains(&run.handshakes), "{}", run.handshakes);
    }
}
