use std::path::Path;

use certs::rotation::{Held, Party, Report, Stage, Step};
use clap::Parser;

use super::*;

/// A replica's credentials and its folders; `start` is what a process does that was killed at any moment.
struct Replica {
    credentials: Credentials,
    dir: tempfile::TempDir,
}

fn config(dir: &Path) -> Config {
    let flags = ["mesh-apiserver", "--cluster-name=east", "--cluster-id=1"].map(str::to_owned).into_iter();
    let state = format!("--state-dir={}", dir.display());
    crate::args::Args::try_parse_from(flags.chain([state])).unwrap().check().unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// Nothing of a folder has to be waited for.
fn prepare(dir: &Path) -> Credentials {
    block_on(Credentials::prepare(&config(dir), None, &Shutdown::new())).unwrap()
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { credentials: prepare(dir.path()), dir }
    }

    fn restart(&mut self) {
        self.credentials = prepare(self.dir.path());
    }

    fn follow(&self, record: &Rotation) -> bool {
        block_on(self.credentials.follow(Some(record), &Connections::new())).unwrap()
    }

    fn begin(&self) -> Rotation {
        let (old, new) = (self.credentials.ca.get(), block_on(self.credentials.keep.make_next()).unwrap());
        Rotation::begin(None, (old.hash(), &old.bundle()), (new.hash(), &new.bundle()), 0).unwrap()
    }

    fn held(&self) -> Held {
        let bundle = self.credentials.trust.get();
        let leaves = [self.credentials.server.get(), self.credentials.remote.get(), self.credentials.admin().unwrap()];
        Held {
            trusts: bundle.hash_set(),
            presents: leaves.iter().map(|leaf| bundle.issuer_of(leaf).unwrap()).collect(),
            keys: block_on(self.credentials.keep.read()).unwrap().hashes().collect(),
        }
    }

    fn step(&self, record: &Rotation) -> Step {
        let report = Report { party: Party::Replica(1), held: Some(self.held()), note: String::new() };
        record.step(1, Duration::ZERO, &[report])
    }
}

#[test]
fn a_replica_that_is_killed_at_any_stage_goes_on_with_what_it_held_last() {
    let mut replica = Replica::new();
    let mut record = replica.begin();
    let mut stages = Vec::new();
    loop {
        // Before it has heard of the stage: it holds what the stage before wanted.
        let before = replica.held();
        replica.restart();
        let after = replica.held();
        assert_eq!((&after.trusts, &after.presents), (&before.trusts, &before.presents), "{}", record.stage);
        replica.follow(&record);
        let Wanted { trusts, issuer } = record.wanted();
        let held = replica.held();
        assert_eq!((&held.trusts, &held.presents), (&trusts, &[issuer].into()), "{}", record.stage);
        replica.restart();
        assert_eq!(replica.held(), held, "{}", record.stage);
        assert!(!replica.follow(&record), "repeating it changes nothing");
        let ca = std::fs::read_to_string(replica.dir.path().join("ca.crt")).unwrap();
        assert_eq!(TrustBundle::from_pem(&ca).unwrap().hash_set(), trusts, "what meshctl trusts");
        stages.push(record.stage);
        match replica.step(&record) {
            Step::Enter(next) => record = next,
            Step::Rest => break,
            Step::Wait(missing) => panic!("{}: {missing:?}", record.stage),
        }
    }
    assert_eq!(stages, [Stage::Distribute, Stage::Overlap, Stage::Switch, Stage::Retire, Stage::Done]);
    assert_eq!(replica.held().keys, [record.new].into(), "the old key is gone");
}

#[test]
fn an_aborted_rotation_leaves_the_old_ca_and_no_trace_of_the_new_one() {
    let mut replica = Replica::new();
    let before = replica.held();
    let mut record = replica.begin();
    while record.stage != Stage::Switch {
        replica.follow(&record);
        let Step::Enter(next) = replica.step(&record) else { panic!("{}", record.stage) };
        record = next;
    }
    assert!(replica.follow(&record));
    record = record.abort(2).unwrap();
    replica.restart();
    assert!(replica.follow(&record), "leaves are of the old CA again");
    let Step::Enter(aborted) = replica.step(&record) else { panic!("{}", record.stage) };
    replica.follow(&aborted);
    assert_eq!(replica.held(), before);
    replica.restart();
    assert_eq!(replica.held(), before);
    // Another one may begin, and the record of the aborted one does not touch its key.
    let next = replica.begin();
    replica.follow(&aborted);
    replica.follow(&next);
    assert!(replica.held().keys.contains(&next.new));
}

#[test]
fn without_the_new_key_a_replica_trusts_and_does_not_sign() {
    let replica = Replica::new();
    let record = replica.begin();
    let old = replica.credentials.ca.get().hash();
    block_on(replica.credentials.keep.discard_next(&record.new)).unwrap();
    replica.follow(&record);
    assert!(matches!(replica.step(&record), Step::Wait(missing) if missing[0].what.contains("has no key")));
    let mut switch = record.clone();
    switch.stage = Stage::Switch;
    let error = block_on(replica.credentials.follow(Some(&switch), &Connections::new())).unwrap_err();
    assert!(error.to_string().contains("copy it there from the replica that has it"), "{error}");
    assert_eq!(replica.held().presents, [old].into());
    assert_eq!(replica.held().trusts, record.wanted().trusts);
}

#[test]
fn leaves_are_renewed_by_name() {
    let replica = Replica::new();
    let leaves = || {
        let c = &replica.credentials;
        [c.server.get(), c.remote.get(), c.admin().unwrap()].map(|leaf| leaf.certificate_pem())
    };
    let before = leaves();
    replica.credentials.renew_now(|name| name == "remote-east").unwrap();
    let after = leaves();
    assert_eq!((before[0] == after[0], before[1] == after[1], before[2] == after[2]), (true, false, true));
    replica.credentials.renew_now(|_| true).unwrap();
    assert!(leaves().iter().zip(&after).all(|(now, then)| now != then));
}
