//! Clients that read, write, and take and give back locks, and note what they asked and were told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_store::backend::{Result, Store};
use mesh_store::mvcc::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyRange, KeyValue, PutRequest, RangeRequest, TxnOp,
    TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Picked, World};
use crate::history::{Answer, Ask, Key, LocalRead, Op, Told, Value};

const KEYS: usize = 4;
const LOCKS: usize = 2;
/// The first number of those who ask a replica as soon as it is there.
const GREETERS: usize = 1000;

pub(super) async fn run(world: Arc<World>, client: usize) {
    let mut random = world.random(100 + client as u64);
    // What this client saw last of each key, to swap it, and the locks that it may hold.
    let mut seen = [0_i64; KEYS];
    let mut held: [Option<Value>; LOCKS] = [None; LOCKS];
    while !world.stop.is_cancelled() {
        let pause = random.random_range(Duration::from_millis(5)..world.pace);
        tokio::time::sleep(pause).await;
        let Some((replica, store, dead)) = world.pick(&mut random) else { continue };
        let (place, lock) = (random.random_range(0..KEYS), random.random_range(0..LOCKS));
        let (key, ask) = match random.random_range(0..100) {
            0..25 => (format!("kv/{place}"), Ask::Get),
            25..35 => {
                read_locally(&world, replica, &*store, format!("kv/{place}")).await;
                continue;
            }
            35..58 => (format!("kv/{place}"), Ask::Put(world.value())),
            58..64 => (format!("kv/{place}"), Ask::Delete),
            64..78 => {
                // As often as not a revision that is close by, but wrong.
                let at = (seen[place] + random.random_range(-1..=1)).max(0);
                let at = if random.random_bool(0.5) { seen[place] } else { at };
                (format!("kv/{place}"), Ask::Swap { at, to: world.value() })
            }
            _ => match held[lock] {
                Some(value) => (format!("lock/{lock}"), Ask::Release(value)),
                None => (format!("lock/{lock}"), Ask::Create(world.value())),
            },
        };
        let told = match ask_and_note(&world, client, (replica, store, dead), key, ask, &mut random).await {
            Asked::Refused => continue,
            Asked::Told(told) => Some(told),
            Asked::Unknown => None,
        };
        if let Some(Told::Found(Some((_, at)))) = told {
            seen[place] = at;
        }
        match (ask, told) {
            (Ask::Create(value), Some(Told::Held(true)) | None) => held[lock] = Some(value),
            (Ask::Release(_), Some(_)) => held[lock] = None,
            _ => {}
        }
    }
}

/// A replica that has started is asked at once what it holds, by one who has waited for it: it may not know yet what was
/// acknowledged before it was gone, and must not answer until it does.
pub(super) async fn greet(world: Arc<World>, at: Picked, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let client = GREETERS + world.next_greeter();
    for _ in 0..random.random_range(0..12) {
        tokio::time::sleep(random.random_range(Duration::ZERO..Duration::from_millis(4))).await;
        let key = format!("kv/{}", random.random_range(0..KEYS));
        let asked = ask_and_note(&world, client, at.clone(), key, Ask::Get, &mut random).await;
        if !matches!(asked, Asked::Told(_)) || world.stop.is_cancelled() {
            break;
        }
    }
}

enum Asked {
    Told(Told),
    /// Nothing was done.
    Refused,
    Unknown,
}

async fn ask_and_note(
    world: &World,
    client: usize,
    (replica, store, dead): Picked,
    key: Key,
    ask: Ask,
    random: &mut StdRng,
) -> Asked {
    let start = world.stamp();
    let asked = tokio::select! {
        biased;
        () = dead.cancelled() => None,
        asked = tokio::time::timeout(Duration::from_secs(10), perform(&*store, &key, ask, random)) => asked.ok(),
    };
    world.note_cluster(&store);
    drop(store);
    world.trace.note(format_args!("client {client} at {replica}: {key} {ask:?} = {asked:?}"));
    let answer = match asked {
        Some(Ok(answer)) => Some((world.stamp(), answer)),
        Some(Err(error)) if !error.is_unknown_outcome() => {
            if let Ask::Put(value) | Ask::Create(value) | Ask::Swap { to: value, .. } = ask {
                world.history.lock().refused.push(value);
            }
            return Asked::Refused;
        }
        _ => None,
    };
    world.history.lock().ops.push(Op { client, key, ask, start, answer });
    answer.map_or(Asked::Unknown, |(_, answer)| Asked::Told(answer.told))
}

pub(super) fn value(kv: &KeyValue) -> Value {
    std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok()).unwrap_or(Value::MAX)
}

fn bytes(value: Value) -> Bytes {
    Bytes::from(value.to_string())
}

async fn read_locally(world: &World, replica: u64, store: &dyn Store, key: String) {
    let request = RangeRequest { serializable: true, ..RangeRequest::get(key.clone()) };
    // A stopped replica may refuse.
    let Ok(read) = store.range(request).await else { return };
    let found = read.kvs.first().map(|kv| (value(kv), kv.mod_revision));
    world.history.lock().local_reads.push(LocalRead { replica, key, found, revision: read.revision });
}

async fn perform(store: &dyn Store, key: &str, ask: Ask, random: &mut StdRng) -> Result<Answer> {
    let key = Bytes::from(key.to_owned());
    Ok(match ask {
        Ask::Get => {
            let read = store.range(RangeRequest::get(key)).await?;
            let found = read.kvs.first().map(|kv| (value(kv), kv.mod_revision));
            Answer { told: Told::Found(found), revision: read.revision }
        }
        Ask::Put(to) => {
            let put = store.put(PutRequest::new(key, bytes(to))).await?;
            Answer { told: Told::Done, revision: put.revision }
        }
        Ask::Delete => {
            let deleted = store.delete_range(DeleteRangeRequest::key(key)).await?;
            Answer { told: Told::Done, revision: deleted.revision }
        }
        Ask::Create(to) => {
            let put = TxnOp::Put(PutRequest::new(key.clone(), bytes(to)));
            transact(store, vec![Compare::absent(key)], put).await?
        }
        Ask::Swap { at, to } => {
            let put = TxnOp::Put(PutRequest::new(key.clone(), bytes(to)));
            transact(store, changed_at(key, at, random.random_bool(0.5)), put).await?
        }
        Ask::Release(held) => {
            let delete = TxnOp::DeleteRange(DeleteRangeRequest::key(key.clone()));
            let target = CompareTarget::Value(bytes(held));
            let compare = Compare { range: KeyRange::single(key), result: CompareResult::Equal, target };
            transact(store, vec![compare], delete).await?
        }
    })
}

/// The same condition in two ways.
fn changed_at(key: Bytes, at: i64, between: bool) -> Vec<Compare> {
    if !between {
        return vec![Compare::mod_revision(key, at)];
    }
    let compare =
        |result, at| Compare { range: KeyRange::single(key.clone()), result, target: CompareTarget::ModRevision(at) };
    vec![compare(CompareResult::Greater, at - 1), compare(CompareResult::Less, at + 1)]
}

async fn transact(store: &dyn Store, compare: Vec<Compare>, then: TxnOp) -> Result<Answer> {
    let done = store.txn(TxnRequest { compare, success: vec![then], failure: Vec::new() }).await?;
    Ok(Answer { told: Told::Held(done.succeeded), revision: done.revision })
}
