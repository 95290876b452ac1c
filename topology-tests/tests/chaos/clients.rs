//! Clients that read, write, and take and give back locks over gRPC, and note what they asked and were told.
//!
//! Keys live for a moment only: then everybody turns to new ones. So the operations on one key stay few enough for a check
//! that looks at their orders; that the old ones keep their values is what the history and the checkpoints are for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, GetOptions, KeyValue, ResponseHeader, Txn, TxnOp};
use mesh_store_sim::history::{Answer, Ask, LocalRead, Op, Told, Value};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::world::World;

pub(crate) const PREFIX: &str = "chaos/";
const KEYS: usize = 4;
const LOCKS: usize = 2;
const KEYS_LIVE: Duration = Duration::from_secs(2);
/// An answer that takes longer is not waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// After a failure, so that one replica that is down does not fill the history.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Digits of a value. A large one makes the log grow.
const SMALL: usize = 20;
const LARGE: usize = 32 << 10;

/// What may follow a failed call: nothing was done, or it is not known.
enum Failure {
    NotDone(String),
    Unknown(String),
}

pub(crate) async fn run(world: Arc<World>, client: usize) {
    let mut random = world.random(100 + client as u64);
    // What this client saw last of each key, to swap it, and the locks that it may hold.
    let mut seen: BTreeMap<String, i64> = BTreeMap::new();
    let mut held: BTreeMap<String, Value> = BTreeMap::new();
    let mut connected: Option<(u64, Client)> = None;
    while !world.stop.is_cancelled() {
        tokio::time::sleep(random.random_range(Duration::from_millis(1)..Duration::from_millis(15))).await;
        if connected.is_none() || random.random_bool(0.02) {
            let replica = world.pick(&mut random);
            connected = world.access.client_of(replica).await.map(|client| (replica, client));
        }
        let Some((replica, etcd)) = &mut connected else {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            continue;
        };
        let now = world.now().as_millis() / KEYS_LIVE.as_millis();
        // Now and then a key of before.
        let epoch = if random.random_bool(0.05) { now.saturating_sub(1) } else { now };
        let place = format!("{PREFIX}kv/{epoch}/{}", random.random_range(0..KEYS));
        let lock = format!("{PREFIX}lock/{epoch}/{}", random.random_range(0..LOCKS));
        let (key, ask) = match random.random_range(0..100) {
            0..25 => (place, Ask::Get),
            25..35 => {
                read_locally(&world, *replica, etcd, place).await;
                continue;
            }
            35..58 => (place, Ask::Put(world.value())),
            58..64 => (place, Ask::Delete),
            64..78 => {
                let last = seen.get(&place).copied().unwrap_or(0);
                // As often as not a revision that is close by, but wrong.
                let at = if random.random_bool(0.5) { last } else { (last + random.random_range(-1..=1)).max(0) };
                (place, Ask::Swap { at, to: world.value() })
            }
            _ => match held.get(&lock) {
                Some(value) => (lock, Ask::Release(*value)),
                None => (lock, Ask::Create(world.value())),
            },
        };
        let width = if random.random_bool(0.03) { LARGE } else { SMALL };
        let start = world.stamp();
        let asked = tokio::time::timeout(PATIENCE, perform(&world, etcd, &key, ask, width, &mut random)).await;
        let answer = match asked {
            Ok(Ok(answer)) => Some((world.stamp(), answer)),
            Ok(Err(Failure::NotDone(why))) => {
                world.note_error(&why);
                if let Ask::Put(value) | Ask::Create(value) | Ask::Swap { to: value, .. } = ask {
                    world.history.lock().refused.push(value);
                }
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
            Ok(Err(Failure::Unknown(why))) => {
                world.note_error(&why);
                None
            }
            Err(_elapsed) => {
                world.note_error(&format!("no answer within {PATIENCE:?}"));
                None
            }
        };
        match answer {
            Some((_, Answer { told: Told::Found(Some((_, at))), .. })) => drop(seen.insert(key.clone(), at)),
            Some(_) if ask.is_write() => world.note_acknowledged(),
            Some(_) => {}
            None => {
                connected = None;
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        match (ask, answer.map(|(_, answer)| answer.told)) {
            (Ask::Create(value), Some(Told::Held(true)) | None) => drop(held.insert(key.clone(), value)),
            (Ask::Release(_), Some(_)) => drop(held.remove(&key)),
            _ => {}
        }
        world.history.lock().ops.push(Op { client, key, ask, start, answer });
    }
}

/// The number in a value; the largest one stands for what no client wrote.
pub(crate) fn value(kv: &KeyValue) -> Value {
    kv.value_str().ok().and_then(|text| text.parse().ok()).unwrap_or(Value::MAX)
}

async fn read_locally(world: &World, replica: u64, etcd: &mut Client, key: String) {
    let read = etcd.get(key.clone(), Some(GetOptions::new().with_serializable()));
    // A replica may refuse, or be gone.
    let Ok(Ok(read)) = tokio::time::timeout(PATIENCE, read).await else { return };
    let found = read.kvs().first().map(|kv| (value(kv), kv.mod_revision()));
    let revision = read.header().map_or(0, ResponseHeader::revision);
    world.history.lock().local_reads.push(LocalRead { replica, key, found, revision });
}

async fn perform(
    world: &World,
    etcd: &mut Client,
    key: &str,
    ask: Ask,
    width: usize,
    random: &mut StdRng,
) -> Result<Answer, Failure> {
    let answer = |told, header: Option<&ResponseHeader>| {
        let header = header.ok_or_else(|| Failure::Unknown("an answer without a header".to_owned()))?;
        world.note_cluster(header.cluster_id());
        Ok(Answer { told, revision: header.revision() })
    };
    match ask {
        Ask::Get => {
            let read = etcd.get(key, None).await.map_err(|error| failure(&error))?;
            let found = read.kvs().first().map(|kv| (value(kv), kv.mod_revision()));
            answer(Told::Found(found), read.header())
        }
        Ask::Put(to) => {
            let put = etcd.put(key, text(to, width), None).await.map_err(|error| failure(&error))?;
            answer(Told::Done, put.header())
        }
        Ask::Delete => {
            let deleted = etcd.delete(key, None).await.map_err(|error| failure(&error))?;
            answer(Told::Done, deleted.header())
        }
        Ask::Create(_) | Ask::Swap { .. } | Ask::Release(_) => {
            let done = etcd.txn(transaction(key, ask, width, random)).await.map_err(|error| failure(&error))?;
            answer(Told::Held(done.succeeded()), done.header())
        }
    }
}

fn transaction(key: &str, ask: Ask, width: usize, random: &mut StdRng) -> Txn {
    match ask {
        Ask::Swap { at, to } => {
            // The same condition in two ways.
            let compare = |op, at| Compare::mod_revision(key, op, at);
            let when = if random.random_bool(0.5) {
                vec![compare(CompareOp::Equal, at)]
            } else {
                vec![compare(CompareOp::Greater, at - 1), compare(CompareOp::Less, at + 1)]
            };
            Txn::new().when(when).and_then([TxnOp::put(key, text(to, width), None)])
        }
        Ask::Release(held) => {
            let when = [Compare::value(key, CompareOp::Equal, text(held, SMALL))];
            Txn::new().when(when).and_then([TxnOp::delete(key, None)])
        }
        Ask::Create(to) | Ask::Put(to) => {
            let when = [Compare::create_revision(key, CompareOp::Equal, 0)];
            Txn::new().when(when).and_then([TxnOp::put(key, text(to, SMALL), None)])
        }
        Ask::Get | Ask::Delete => Txn::new(),
    }
}

fn text(value: Value, width: usize) -> String {
    format!("{value:0width$}")
}

/// What etcd's words promise.
fn failure(error: &Error) -> Failure {
    let Error::GRpcStatus(status) = error else { return Failure::Unknown(error.to_string()) };
    match status.message() {
        refused @ ("etcdserver: mvcc: database space exceeded" | "etcdserver: no leader") => {
            Failure::NotDone(refused.to_owned())
        }
        // Whatever the transport has to say: addresses and ports would make every message another one.
        message if !message.starts_with("etcdserver: ") => Failure::Unknown(format!("{:?}", status.code())),
        message => Failure::Unknown(message.to_owned()),
    }
}
