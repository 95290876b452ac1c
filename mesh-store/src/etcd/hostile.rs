//! Requests from bytes that nobody meant: whatever arrives is refused in etcd's words or carried out, and the rules of the
//! store hold after it.
//!
//! [`run`] takes one input; `mesh-store/fuzz` finds inputs by libFuzzer, the test here by damaging the corpus.
#![allow(clippy::unwrap_used, reason = "a panic is how an input is reported")]

use std::collections::BTreeSet;

use etcd_client::proto::{PbDeleteRequest, PbPutRequest, PbRangeRequest, PbResponseHeader, PbTxnRequest};
use mesh_store_mvcc::{Command, Error, Response, State};
use prost::Message;

use super::{check, convert};
use crate::fuzz::assert_whole;

mod input;
#[cfg(test)]
mod tests;

pub use input::seeds;
use input::{Kind, steps};

const MAX_TXN_OPS: usize = 128;

/// What one request led to, coarse enough to repeat.
type Outcome = (Kind, String);
/// Which outcome came after which.
type Outcomes = BTreeSet<(Outcome, Outcome)>;

const DONE: &str = "done";

/// Runs one input and says what came of it; panics where a rule breaks.
pub(crate) fn run(bytes: &[u8]) -> Outcomes {
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
