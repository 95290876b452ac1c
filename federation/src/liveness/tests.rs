//! The judgement as tables, with a clock that moves by hand.

use mesh_types::WithdrawAfter;

use super::*;

const BEAT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn signs(phase: Phase, has_data: bool, last_heartbeat: Instant) -> Signs {
    Signs { phase, has_data, last_heartbeat, heartbeat_interval: BEAT, unconnected_since: None, paths: Paths::Unknown }
}

#[test]
fn silence_turns_live_into_stale_into_withdrawn() {
    use Phase::{Configuring, Connecting, Following, Syncing};
    use State::{Live, Stale, Withdrawn};
    let start = Instant::now();
    // (what, phase, has data, silence, previous, own side) -> state
    let table = [
        ("first connection", Connecting, false, 60, State::Connecting, false, State::Connecting),
        ("first configuration", Configuring, false, 60, State::Connecting, false, State::Configuring),
        ("first sync", Syncing, false, 60, State::Configuring, false, State::Syncing),
        ("first sync done", Following, true, 0, State::Syncing, false, Live),
        ("beating", Following, true, 14, Live, false, Live),
        ("connection lost for a moment", Connecting, true, 3, Live, false, Live),
        ("silent", Following, true, 15, Live, false, Stale),
        ("silent without connection", Connecting, true, 44, Stale, false, Stale),
        ("silent past the grace", Connecting, true, 45, Stale, false, Withdrawn),
        ("own side: not withdrawn", Connecting, true, 500, Stale, true, Stale),
        ("own side: withdrawn stays so", Connecting, true, 500, Withdrawn, true, Withdrawn),
        ("withdrawn, beat heard, not caught up", Connecting, true, 1, Withdrawn, false, Withdrawn),
        ("withdrawn, silent again", Connecting, true, 16, Withdrawn, false, Withdrawn),
        ("withdrawn, caught up for no time yet", Following, true, 1, Withdrawn, false, Withdrawn),
        ("stale, not caught up", Syncing, true, 1, Stale, false, Stale),
        ("stale, caught up", Following, true, 1, Stale, false, Live),
        ("restarted with mirrored facts", Connecting, true, 2, State::Connecting, false, State::Connecting),
        ("restarted, peer gone", Connecting, true, 46, Stale, false, Withdrawn),
    ];
    for (what, phase, has_data, silence, previous, own_side, want) in table {
        let loss = (previous == Withdrawn).then_some(Loss::Control);
        let verdict = Verdict { state: previous, loss, outlived: Duration::ZERO, stale: Duration::ZERO };
        let mut judge = Judge { verdict, ..Judge::default() };
        let rules =
            Rules { settings: Settings::default(), periods: &Periods::new(), stale_periods: &Periods::new(), own_side };
        let got = judge.judge(start + secs(silence), &signs(phase, has_data, start), rules);
        assert_eq!((got.state, got.loss.is_some()), (want, want == Withdrawn), "{what}");
    }
}

#[test]
fn a_slower_heartbeat_gets_longer_periods() {
    let cilium = Settings::default().scaled(secs(60));
    assert_eq!(cilium, Settings { stale_after: secs(180), withdraw_after: secs(210) });
    assert_eq!(Settings::default().scaled(BEAT), Settings::default());
}

/// A cluster under one judge, and time that moves by hand.
struct World {
    start: Instant,
    now: Instant,
    judge: Judge,
    last_heartbeat: Instant,
    control: bool,
    unconnected_since: Option<Instant>,
    paths: Paths,
    own_side: bool,
    periods: Periods,
    stale_periods: Periods,
}

impl World {
    /// A cluster that is live, with its paths.
    fn live(paths: Paths) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            judge: Judge::default(),
            last_heartbeat: start,
            control: true,
            unconnected_since: None,
            paths,
            own_side: false,
            periods: Periods::from([secs(60)]),
            stale_periods: Periods::new(),
        };
        assert_eq!(world.step().state, State::Live);
        world
    }

    fn set_control(&mut self, is_up: bool) {
        self.control = is_up;
        self.unconnected_since = (!is_up).then_some(self.now);
    }

    fn set_paths(&mut self, is_up: bool) {
        self.paths = if is_up { Paths::Up } else { Paths::Down { since: self.now } };
    }

    fn step(&mut self) -> Verdict {
        if self.control && self.now.duration_since(self.last_heartbeat) >= BEAT {
            self.last_heartbeat = self.now;
        }
        let phase = if self.control { Phase::Following } else { Phase::Connecting };
        let signs = Signs {
            unconnected_since: self.unconnected_since,
            paths: self.paths,
            ..signs(phase, true, self.last_heartbeat)
        };
        let rules = Rules {
            settings: Settings::default(),
            periods: &self.periods,
            stale_periods: &self.stale_periods,
            own_side: self.own_side,
        };
        let verdict = self.judge.judge(self.now, &signs, rules);
        self.now += STEP;
        verdict
    }

    /// When what holds of a verdict first does, within `limit` from now.
    fn until(&mut self, limit: Duration, holds: impl Fn(&Verdict) -> bool) -> Option<Duration> {
        let from = self.now;
        while self.now.duration_since(from) <= limit {
            let at = self.now.duration_since(from);
            if holds(&self.step()) {
                return Some(at);
            }
        }
        None
    }

    fn pass(&mut self, time: Duration) {
        self.until(time, |_| false);
    }
}

fn withdraws(verdict: &Verdict, setting: Option<WithdrawAfter>) -> bool {
    let health = Health {
        state: verdict.state,
        since_unix_nanos: 0,
        reason: String::new(),
        loss: verdict.loss,
        last_heartbeat_unix_nanos: 0,
        outlived_seconds: verdict.outlived.as_secs(),
        stale_seconds: verdict.stale.as_secs(),
    };
    health.withdraws(setting)
}

/// Control up, paths up (`None`: unknown), withdrawn after (mesh's period, a minute, never), the state at the end.
type Combination = (bool, Option<bool>, [Option<Duration>; 3], State);

/// All combinations: what becomes of a live cluster's backends, and when.
#[test]
fn every_combination_of_signals_and_settings_is_decided_as_documented() {
    let settings = [None, Some(WithdrawAfter::Seconds(60)), Some(WithdrawAfter::Never)];
    let day = secs(24 * 3600);
    let ms = Duration::from_millis;
    // (control, paths) -> withdrawn after, for each setting; and the state's way.
    let table: [Combination; 6] = [
        (true, Some(true), [None, None, None], State::Live),
        (true, None, [None, None, None], State::Live),
        (true, Some(false), [Some(PATHS_ALONE), Some(PATHS_ALONE), None], State::Withdrawn),
        (false, Some(true), [Some(secs(45)), Some(secs(60)), None], State::Withdrawn),
        (false, None, [Some(secs(45)), Some(secs(60)), None], State::Withdrawn),
        (false, Some(false), [Some(SETTLE), Some(SETTLE), None], State::Withdrawn),
    ];
    println!("control | paths   | setting | withdrawn after | own side at fault");
    for (control, paths, want, end) in table {
        for (setting, want) in settings.into_iter().zip(want) {
            let run = |own_side: bool| {
                let mut world = World::live(paths.map_or(Paths::Unknown, |_| Paths::Up));
                world.own_side = own_side;
                world.set_control(control);
                if let Some(up) = paths {
                    world.set_paths(up);
                }
                let limit = if want.is_some() { secs(120) } else { day / 24 };
                let at = world.until(limit, |verdict| withdraws(verdict, setting));
                (at, world.judge.verdict().state)
            };
            let (at, state) = run(false);
            let shown = setting.map_or("mesh's".to_owned(), |setting| setting.to_string());
            let path = paths.map_or("unknown", |up| if up { "up" } else { "down" });
            let word = if control { "up" } else { "down" };
            let after = at.map_or("never".to_owned(), |at| format!("{:.2} s", at.as_secs_f64()));
            let (own, own_state) = run(true);
            println!("{word:7} | {path:7} | {shown:7} | {after:15} | never ({own_state})");
            // Silence counts from the newest heartbeat, a step before the fault.
            let close = |at: Duration, want: Duration| at + STEP >= want && at <= want + ms(100);
            assert!(
                matches!((at, want), (None, None)) || at.zip(want).is_some_and(|(at, want)| close(at, want)),
                "control {word}, paths {path}, {shown}: {at:?}, not {want:?}"
            );
            if want.is_some() && setting.is_none() || setting == Some(WithdrawAfter::Never) {
                assert_eq!(state, end, "control {word}, paths {path}");
            }
            assert_eq!(own, None, "control {word}, paths {path}, {shown}: withdrawn by a fault of the own side");
        }
    }
}

#[test]
fn a_lost_cluster_is_out_although_its_connection_ends_later_than_its_paths() {
    let mut world = World::live(Paths::Up);
    world.set_paths(false);
    world.pass(Duration::from_millis(700));
    world.set_control(false);
    let at = world.until(secs(5), |verdict| verdict.loss == Some(Loss::Cluster)).unwrap();
    assert!(at <= UNCONNECTED + STEP, "{at:?}");
}

#[test]
fn a_replica_that_restarts_while_paths_are_down_is_not_a_dead_cluster() {
    let mut world = World::live(Paths::Up);
    world.set_paths(false);
    world.pass(secs(2));
    world.set_control(false);
    world.pass(UNCONNECTED.saturating_sub(2 * STEP));
    world.set_control(true);
    assert_eq!(world.until(secs(5), |verdict| verdict.loss.is_some()), None);
}

#[test]
fn a_worse_loss_takes_the_place_of_a_smaller_one_and_never_the_other_way() {
    let mut world = World::live(Paths::Up);
    world.set_control(false);
    world.until(secs(60), |verdict| verdict.loss == Some(Loss::Control)).unwrap();
    world.set_paths(false);
    world.until(secs(2), |verdict| verdict.loss == Some(Loss::Cluster)).unwrap();
    world.set_paths(true);
    world.pass(secs(30));
    assert_eq!(world.judge.verdict().loss, Some(Loss::Cluster), "it still does not answer");
}

#[test]
fn what_returns_has_been_well_for_a_while_and_longer_when_it_was_lost_lately() {
    let mut world = World::live(Paths::Up);
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.set_control(false);
        world.set_paths(false);
        world.until(secs(5), |verdict| verdict.state == State::Withdrawn).unwrap();
        world.set_control(true);
        world.set_paths(true);
        waits.push(world.until(secs(60), |verdict| verdict.state == State::Live).unwrap());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32].map(secs));
    // A minute without a loss and it is trusted as before.
    world.pass(FLAPPING);
    world.set_control(false);
    world.set_paths(false);
    world.until(secs(5), |verdict| verdict.state == State::Withdrawn).unwrap();
    world.set_control(true);
    world.set_paths(true);
    assert_eq!(world.until(secs(60), |verdict| verdict.state == State::Live), Some(STEADY));
}

#[test]
fn signals_that_flap_do_not_make_the_verdict_flap() {
    // Each signal up and down in turn, so many times a minute for ten minutes: how often the verdict may change.
    for (period, most) in [(500, 0), (1_000, 2), (3_000, 14), (10_000, 24), (30_000, 24)] {
        let mut world = World::live(Paths::Up);
        let (mut changes, mut last) = (0, State::Live);
        let mut is_up = true;
        while world.now.duration_since(world.start) < secs(600) {
            is_up = !is_up;
            world.set_control(is_up);
            world.set_paths(is_up);
            let end = world.now + Duration::from_millis(period);
            while world.now < end {
                let state = world.step().state;
                changes += usize::from(state != last);
                last = state;
            }
        }
        assert!(changes <= most, "up and down every {period} ms: {changes} changes in ten minutes");
    }
}

#[test]
fn a_session_that_is_not_caught_up_brings_nothing_back() {
    let mut world = World::live(Paths::Up);
    world.set_control(false);
    world.set_paths(false);
    world.until(secs(5), |verdict| verdict.state == State::Withdrawn).unwrap();
    world.set_paths(true);
    world.pass(secs(10));
    assert_eq!(world.judge.verdict().state, State::Withdrawn, "paths alone");
    world.set_control(true);
    world.set_paths(false);
    world.pass(secs(10));
    assert_eq!(world.judge.verdict().state, State::Withdrawn, "control alone");
}

#[test]
fn a_new_term_goes_on_from_what_was_concluded_before() {
    let former = |state, loss, outlived_seconds| Health {
        state,
        since_unix_nanos: 1,
        reason: "told".into(),
        loss,
        last_heartbeat_unix_nanos: 0,
        outlived_seconds,
        stale_seconds: 0,
    };
    let dead = Judge::resumed(&former(State::Withdrawn, Some(Loss::Cluster), 0)).verdict();
    assert_eq!((dead.state, dead.loss), (State::Withdrawn, Some(Loss::Cluster)));
    let silent = Judge::resumed(&former(State::Stale, None, 60)).verdict();
    assert_eq!((silent.state, silent.outlived), (State::Stale, secs(60)), "some Service does not use it");
    assert_eq!(Judge::resumed(&former(State::Live, None, 0)).verdict().state, State::Connecting);
}

#[test]
fn a_services_own_period_of_staleness_counts_from_the_heartbeat_and_hides_nothing() {
    let mut world = World::live(Paths::Up);
    world.stale_periods = [secs(10), secs(20), secs(90)].into();
    world.set_control(false);
    let silent_for = |verdict: &Verdict| verdict.stale;
    assert!(world.until(secs(9), |verdict| !silent_for(verdict).is_zero()).is_none());
    // Never sooner than three heartbeats, whatever is asked for.
    let at = world.until(secs(10), |verdict| silent_for(verdict) == secs(10)).expect("the first of them");
    assert!(at <= secs(6) + STEP * 2, "{at:?}");
    assert!(world.until(secs(20), |verdict| silent_for(verdict) == secs(20)).is_some());
    let verdict = world.step();
    assert_eq!((verdict.state, verdict.outlived), (State::Stale, Duration::ZERO));
    assert!(!verdict.hides());
    // It is live again with its next heartbeat, and does not have to prove itself: nothing was hidden.
    world.set_control(true);
    let verdict = world.until(secs(1), |verdict| verdict.state == State::Live);
    assert_eq!((verdict, world.step().stale), (Some(Duration::ZERO), Duration::ZERO));
}
