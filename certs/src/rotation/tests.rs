use std::collections::BTreeMap;

use super::*;
use crate::testing::ca;

const OVERLAP: Duration = Duration::from_secs(10);

/// A cluster of two replicas, two agents and a peer in memory: each follows the record when it is told to.
struct World {
    record: Rotation,
    parties: BTreeMap<Party, Held>,
    now: u64,
}

fn parties() -> [Party; 5] {
    [
        Party::Replica(1),
        Party::Replica(2),
        Party::Agent("n1".into()),
        Party::Agent("n2".into()),
        Party::Peer("west".into()),
    ]
}

impl World {
    fn new() -> Self {
        let old = ca("a");
        let new = old.successor().unwrap();
        let record = Rotation::begin(None, (old.hash(), &old.bundle()), (new.hash(), &new.bundle()), 1000).unwrap();
        let only = BTreeSet::from([old.hash()]);
        let held = Held { trusts: only.clone(), presents: only.clone(), keys: [old.hash(), new.hash()].into() };
        Self { record, parties: parties().into_iter().map(|party| (party, held.clone())).collect(), now: 1000 }
    }

    /// The party reads the record.
    fn follow(&mut self, party: &Party) {
        let Wanted { trusts, issuer } = self.record.wanted();
        let held = self.parties.get_mut(party).unwrap();
        if self.record.stage == Stage::Retire {
            held.keys = trusts.clone();
        }
        held.trusts = trusts;
        held.presents = BTreeSet::from([issuer]);
        if matches!(party, Party::Peer(_)) {
            held.presents.clear();
        }
    }

    fn reports(&self) -> Vec<Report> {
        let report = |(party, held): (&Party, &Held)| Report {
            party: party.clone(),
            held: Some(held.clone()),
            note: String::new(),
        };
        self.parties.iter().map(report).collect()
    }

    fn step(&self) -> Step {
        self.record.step(self.now, OVERLAP, &self.reports())
    }

    /// Everybody trusts what everybody presents.
    fn assert_trust(&self, at: &str) {
        for (party, held) in &self.parties {
            for (other, theirs) in &self.parties {
                assert!(theirs.presents.is_subset(&held.trusts), "{at}: {party} does not trust {other}");
            }
        }
    }

    /// Lets each party follow, in this order, and checks after each.
    fn all_follow(&mut self, order: &[usize]) {
        let all = parties();
        for index in order {
            assert!(matches!(self.step(), Step::Wait(_)), "{}: before all have followed", self.record.stage);
            self.follow(&all[*index]);
            self.assert_trust(self.record.stage.name());
        }
    }
}

/// All orders in which five parties may follow.
fn orders() -> Vec<Vec<usize>> {
    fn extend(taken: &[usize], all: &mut Vec<Vec<usize>>) {
        if taken.len() == 5 {
            return all.push(taken.to_vec());
        }
        for next in (0..5).filter(|next| !taken.contains(next)) {
            extend(&[taken, &[next]].concat(), all);
        }
    }
    let mut all = Vec::new();
    extend(&[], &mut all);
    all
}

#[test]
fn in_whatever_order_parties_follow_all_trust_all_at_every_instant() {
    let mut world = World::new();
    let start = (world.record.clone(), world.parties.clone());
    for order in orders() {
        (world.record, world.parties, world.now) = (start.0.clone(), start.1.clone(), 1000);
        let mut stages = Vec::new();
        loop {
            stages.push(world.record.stage);
            let follows = match world.record.stage {
                Stage::Overlap => false,
                Stage::Switch => true,
                stage => !stage.is_over(),
            };
            if follows && world.record.stage == Stage::Switch {
                // A peer has nothing to do when leaves change hands.
                let own: Vec<usize> = order.iter().copied().filter(|index| *index < 4).collect();
                world.all_follow(&own);
            } else if follows {
                world.all_follow(&order);
            }
            match world.step() {
                Step::Enter(next) => world.record = next,
                Step::Wait(missing) => {
                    assert_eq!((world.record.stage, missing.len()), (Stage::Overlap, 0), "only time has to pass");
                    world.now += OVERLAP.as_secs();
                }
                Step::Rest => break,
            }
        }
        stages.dedup();
        assert_eq!(stages, [Stage::Distribute, Stage::Overlap, Stage::Switch, Stage::Retire, Stage::Done]);
    }
}

#[test]
fn an_abort_from_any_stage_before_retire_leaves_the_old_ca_alone_trusted() {
    for until in [Stage::Distribute, Stage::Overlap, Stage::Switch] {
        for followed in 0..=5 {
            let mut world = World::new();
            while world.record.stage != until {
                for party in parties() {
                    world.follow(&party);
                }
                world.now += OVERLAP.as_secs();
                let Step::Enter(next) = world.step() else { panic!("{:?}", world.step()) };
                world.record = next;
            }
            // Some have followed the stage already, others have not.
            for party in parties().iter().take(followed) {
                world.follow(party);
            }
            world.record = world.record.abort(world.now).unwrap();
            if world.record.stage == Stage::Revert {
                assert_eq!(world.record.abort(world.now), Ok(world.record.clone()), "repeating it changes nothing");
                for party in parties() {
                    world.follow(&party);
                    world.assert_trust("revert");
                }
                let Step::Enter(next) = world.step() else { panic!("{:?}", world.step()) };
                world.record = next;
            }
            assert_eq!(world.record.stage, Stage::Aborted);
            for party in parties() {
                world.follow(&party);
                world.assert_trust("aborted");
            }
            let Wanted { trusts, issuer } = world.record.wanted();
            assert_eq!((trusts, issuer), ([world.record.old].into(), world.record.old));
            assert_eq!(world.step(), Step::Rest);
            assert_eq!(world.record.abort(world.now), Err(Refusal::Nothing));
        }
    }
}

#[test]
fn one_party_that_is_silent_holds_every_stage_and_is_named() {
    let mut world = World::new();
    loop {
        for party in parties() {
            world.follow(&party);
        }
        world.now += OVERLAP.as_secs();
        for silent in parties() {
            let mut reports = world.reports();
            for report in reports.iter_mut().filter(|report| report.party == silent) {
                *report = Report::silent(silent.clone(), "it does not answer");
            }
            match world.record.step(world.now, OVERLAP, &reports) {
                Step::Wait(missing) => {
                    assert_eq!(missing, [Missing { party: silent, what: "it does not answer".into() }]);
                }
                other => panic!("{}: {other:?}", world.record.stage),
            }
        }
        let Step::Enter(next) = world.step() else { panic!("{:?}", world.step()) };
        world.record = next;
        if world.record.stage.is_over() {
            break;
        }
    }
}

#[test]
fn a_replica_without_the_new_key_holds_the_first_stage() {
    let mut world = World::new();
    for party in parties() {
        world.follow(&party);
    }
    let (old, new) = (world.record.old, world.record.new);
    world.parties.get_mut(&Party::Replica(2)).unwrap().keys = [old].into();
    let Step::Wait(missing) = world.step() else { panic!("{:?}", world.step()) };
    let [missing] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(missing.party, Party::Replica(2));
    assert!(missing.what.contains("copy the folder \"next\""), "{}", missing.what);
    assert!(!world.record.wanted().trusts.is_disjoint(&[new].into()));
}

#[test]
fn there_is_one_rotation_at_a_time_and_no_way_back_from_retire() {
    let world = World::new();
    let (a, b) = (ca("a"), ca("a"));
    let again = |known: &Rotation| Rotation::begin(Some(known), (a.hash(), &a.bundle()), (b.hash(), &b.bundle()), 2000);
    assert_eq!(again(&world.record), Err(Refusal::Running { stage: Stage::Distribute }));
    let retire = world.record.enter(Stage::Retire, 0);
    assert_eq!(retire.abort(0), Err(Refusal::TooLate { stage: Stage::Retire }));
    for over in [Stage::Done, Stage::Aborted] {
        assert_eq!(again(&world.record.enter(over, 0)).unwrap().stage, Stage::Distribute);
    }
    let text = serde_json::to_string(&world.record).unwrap();
    assert_eq!(serde_json::from_str::<Rotation>(&text).unwrap(), world.record);
    assert!(!text.contains("PRIVATE KEY"));
}

#[test]
fn the_bundle_of_a_record_holds_the_cas_that_are_wanted() {
    let world = World::new();
    for stage in
        [Stage::Distribute, Stage::Overlap, Stage::Switch, Stage::Retire, Stage::Done, Stage::Revert, Stage::Aborted]
    {
        let record = world.record.enter(stage, 0);
        assert_eq!(record.bundle().unwrap().hash_set(), record.wanted().trusts, "{stage}");
    }
}
