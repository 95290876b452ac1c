use super::*;
use crate::state::Phase;

const BEAT: Duration = Duration::from_secs(5);

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn peer(state: State, last_heartbeat: Instant, paths: Paths, unconnected_since: Option<Instant>) -> (State, Signs) {
    let phase = if unconnected_since.is_some() { Phase::Connecting } else { Phase::Following };
    let heartbeat_interval = BEAT;
    (state, Signs { phase, has_data: true, last_heartbeat, heartbeat_interval, unconnected_since, paths })
}

#[test]
fn silence_of_all_at_once_is_taken_for_the_own_fault() {
    let start = Instant::now();
    let silent = |state, beat: u64| peer(state, start + secs(beat), Paths::Unknown, None);
    let at = |now: u64, peers: &[(State, Signs)]| silent_together(start + secs(now), peers, Settings::default());
    assert!(at(25, &[silent(State::Live, 0), silent(State::Live, 10)]), "both silent");
    assert!(at(600, &[silent(State::Stale, 0), silent(State::Stale, 10)]), "both silent for long");
    assert!(!at(24, &[silent(State::Live, 0), silent(State::Live, 10)]), "one was just heard");
    assert!(!at(600, &[silent(State::Stale, 0)]), "a single peer tells nothing");
    assert!(!at(600, &[silent(State::Stale, 0), silent(State::Stale, 16)]), "not at once");
    assert!(!at(600, &[silent(State::Withdrawn, 0), silent(State::Live, 10)]), "one was lost before");
    let empty = (State::Connecting, Signs { has_data: false, ..silent(State::Live, 0).1 });
    assert!(!at(600, &[empty, silent(State::Live, 10)]), "a cluster never heard does not count");
}

#[test]
fn paths_to_all_lost_at_once_are_taken_for_the_own_fault() {
    let start = Instant::now();
    let now = start + secs(30);
    let down = |at: u64| Paths::Down { since: start + secs(at) };
    let gone = |at: u64| Some(start + secs(at));
    let with = |paths, unconnected| peer(State::Live, now, paths, unconnected);
    // (what, peers) -> own fault
    let table = [
        ("both lost", vec![with(down(1), gone(1)), with(down(2), gone(2))], true),
        ("paths only, of both: the own tunnel", vec![with(down(1), None), with(down(2), None)], true),
        ("the other one is reached", vec![with(down(1), gone(1)), with(Paths::Up, None)], false),
        ("the other one is reached, its session is not", vec![with(down(1), gone(1)), with(Paths::Up, gone(1))], false),
        (
            "nobody probes the other, its session is gone",
            vec![with(down(1), gone(1)), with(Paths::Unknown, gone(2))],
            true,
        ),
        (
            "nobody probes the other, its session stands",
            vec![with(down(1), gone(1)), with(Paths::Unknown, None)],
            false,
        ),
        ("one long before the other", vec![with(down(1), gone(1)), with(down(9), gone(9))], false),
        ("a single one", vec![with(down(1), gone(1))], false),
        ("sessions only: paths are unknown", vec![with(Paths::Unknown, gone(1)), with(Paths::Unknown, gone(1))], false),
    ];
    for (what, peers, want) in table {
        assert_eq!(lost_together(now, &peers), want, "{what}");
    }
}

#[test]
fn who_comes_back_last_is_given_time_to() {
    let start = Instant::now();
    let lost = |at: u64| peer(State::Stale, start, Paths::Down { since: start + secs(at) }, Some(start + secs(at)));
    let mut own_side = OwnSide::default();
    let settings = Settings::default();
    assert!(own_side.look(start + secs(3), &[lost(1), lost(1)], settings));
    let back = peer(State::Stale, start + secs(4), Paths::Up, None);
    assert!(own_side.look(start + secs(4), &[back, lost(1)], settings), "the other is awaited");
    assert!(!own_side.look(start + secs(9), &[back, lost(1)], settings), "but not for ever");
}
