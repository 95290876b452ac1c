//! Requests from bytes that nobody meant: whatever arrives is refused in etcd's words or carried out, and the rules of the
//! store hold after it. Guided by what came out: an input where one outcome follows another as never before is kept.
//!
//! The corpus in `mesh-store/corpus/requests` is replayed, then mutated. `ISTHMUS_FUZZ_INPUTS=5000000` runs longer,
//! `ISTHMUS_FUZZ_GROW=1` adds what was new to the corpus; an input that fails is written to `target/` and named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbResponseHeader, PbTxnRequest};
use mesh_store_mvcc::{Command, Error, Event, Image, RangeRequest, Response, State};
use prost::Message;

use super::{check, convert};

mod input;
mod mutate;

use input::{Kind, steps};
use mutate::Mutator;

const DEFAULT_INPUTS: usize = 15_000;
const MAX_TXN_OPS: usize = 128;

/// What one request led to, coarse enough to repeat.
type Outcome = (Kind, String);
/// Which outcome came after which.
type Outcomes = BTreeSet<(Outcome, Outcome)>;

#[test]
fn whatever_arrives_is_refused_or_carried_out_and_the_store_stays_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/requests");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let (replayed, is_growing) = (corpus.len(), std::env::var_os("ISTHMUS_FUZZ_GROW").is_some());
    corpus.extend(input::seeds());
    let inputs = std::env::var("ISTHMUS_FUZZ_INPUTS").map_or(DEFAULT_INPUTS, |inputs| inputs.parse().unwrap());

    let mut seen: Outcomes = corpus.iter().flat_map(|bytes| survives(bytes)).collect();
    let mut mutator = Mutator::new(7);
    for _ in 0..inputs {
        let bytes = mutator.mutate(&corpus);
        let known = seen.len();
        seen.append(&mut survives(&bytes));
        if seen.len() > known {
            if is_growing {
                std::fs::write(folder.join(format!("{:08x}", crc32fast::hash(&bytes))), &bytes).unwrap();
            }
            corpus.push(bytes);
        }
    }
    let kinds: BTreeSet<&Outcome> = seen.iter().map(|(_, outcome)| outcome).collect();
    println!("requests: {replayed} of the corpus, {inputs} mutated, {} outcomes in {} pairs", kinds.len(), seen.len());
    for refusal in
        [Error::EmptyKey, Error::DuplicateKey, Error::FutureRevision, Error::LeaseNotFound, Error::KeyNotFound]
    {
        assert!(kinds.iter().any(|(_, outcome)| *outcome == refusal.to_string()), "nothing was refused with {refusal}");
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.iter().any(|(seen, outcome)| seen == kind && outcome == DONE)));
}

const DONE: &str = "done";

/// Runs an input; when a rule breaks, the input is kept where it can be found.
fn survives(bytes: &[u8]) -> Outcomes {
    std::panic::catch_unwind(|| run(bytes)).unwrap_or_else(|panic| {
        let file = std::env::temp_dir().join("isthmus-hostile-request");
        std::fs::write(&file, bytes).unwrap();
        eprintln!("the input is in {}: put it into mesh-store/corpus/requests", file.display());
        std::panic::resume_unwind(panic)
    })
}

fn run(bytes: &[u8]) -> Outcomes {
    let (mut state, mut replica) = (State::default(), State::default());
    let mut outcomes = Outcomes::new();
    let mut last = (Kind::Other, "started".to_owned());
    for (kind, body) in steps(bytes) {
        let outcome = match request(kind, body, &state) {
            Asked::Undecodable => "undecodable".to_owned(),
            Asked::Refused(refusal) => refusal.to_string(),
            Asked::Read(outcome) => outcome.map_or_else(|refusal| refusal.to_string(), |()| DONE.to_owned()),
            Asked::Change(command) => change(&command, &mut state, &mut replica),
        };
        let outcome = (kind, outcome);
        outcomes.insert((std::mem::replace(&mut last, outcome.clone()), outcome));
    }
    assert_eq!(state.image(), replica.image(), "two replicas with the same log differ");
    assert_whole(&state);
    outcomes
}

enum Asked {
    Undecodable,
    Refused(Error),
    /// Answered without a change.
    Read(Result<(), Error>),
    Change(Command),
}

/// From the wire to the store's words, the way the services go.
fn request(kind: Kind, body: &[u8], state: &State) -> Asked {
    let asked = match kind {
        Kind::Range => decode(body).map(|request: PbRangeRequest| {
            check::range(&request)?;
            let answer = state.range(&convert::range(request)?);
            Ok(Asked::Read(answer.map(|answer| {
                shown(&convert::range_response(answer, PbResponseHeader::default()));
            })))
        }),
        Kind::Put => decode(body).map(|request: PbPutRequest| {
            check::put(&request)?;
            Ok(Asked::Change(Command::Put(convert::put(request))))
        }),
        Kind::Delete => decode(body).map(|request: PbDeleteRequest| {
            check::delete_range(&request)?;
            Ok(Asked::Change(Command::DeleteRange(convert::delete_range(request))))
        }),
        Kind::Txn => decode(body).map(|request: PbTxnRequest| {
            check::txn(&request, MAX_TXN_OPS)?;
            let request = convert::txn(request)?;
            request.check_duplicates()?;
            Ok(Asked::Change(Command::Txn(request)))
        }),
        Kind::Other => input::other(body).map(|command| Ok(Asked::Change(command))),
    };
    match asked {
        None => Asked::Undecodable,
        Some(asked) => asked.unwrap_or_else(Asked::Refused),
    }
}

fn decode<T: Message + Default>(body: &[u8]) -> Option<T> {
    T::decode(body).ok()
}

/// An answer can always be put on the wire.
fn shown(answer: &impl Message) {
    assert_eq!(answer.encode_to_vec().len(), answer.encoded_len());
}

/// Applies a command to both replicas; to the second one as its log would have it.
fn change(command: &Command, state: &mut State, replica: &mut State) -> String {
    let logged = postcard::to_allocvec(command).unwrap();
    let read: Command = postcard::from_bytes(&logged).unwrap();
    assert_eq!(read, *command, "the log changes the command");
    let before = (state.revision(), state.image());
    let applied = state.apply(command);
    assert_eq!(replica.apply(read).result, applied.result);
    let made = state.revision() - before.0;
    assert_eq!(made, i64::from(!applied.events.is_empty()), "a revision is made by changes and by nothing else");
    match applied.result {
        Ok(Response::Txn(answer)) => {
            shown(&convert::txn_response(answer, PbResponseHeader::default()));
            DONE.to_owned()
        }
        Ok(_) => DONE.to_owned(),
        Err(refusal) => {
            assert_eq!(before.1, state.image(), "what is refused changes nothing");
            refusal.to_string()
        }
    }
}

/// What must hold for any state.
fn assert_whole(state: &State) {
    let restored = State::restore(state.image());
    assert_eq!(restored.image(), state.image());
    let hash = |state: &State| state.hash_kv(0).unwrap().finish();
    assert_eq!(hash(&restored), hash(state));
    let history = |state: &State| -> Vec<Event> {
        let since = state.history_since(state.compact_revision()).unwrap();
        since.flat_map(|changes| changes.events().collect::<Vec<_>>()).collect()
    };
    assert_eq!(history(&restored), history(state), "a restored replica shows the same history");
    let all = state.range(&RangeRequest::prefix("")).unwrap();
    assert_eq!(all.kvs.len(), state.key_count());
    assert!(all.kvs.is_sorted_by(|a, b| a.key < b.key));
    for (id, _) in state.leases() {
        assert_eq!(restored.lease_keys(id), state.lease_keys(id), "a restored lease holds the same keys");
    }
    let leased: usize = state.leases().map(|(id, _)| state.lease_keys(id).unwrap().len()).sum();
    assert_eq!(leased, all.kvs.iter().filter(|kv| kv.lease != 0).count(), "every leased key is known to its lease");
    let written = postcard::to_allocvec(&state.image()).unwrap();
    assert_eq!(postcard::from_bytes::<Image>(&written).unwrap(), state.image());
}
