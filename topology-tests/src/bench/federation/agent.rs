//! A simulated agent: one stream of the merged view, over a connection of its own, resumed by revision when it ends.
//!
//! It takes a message apart only as far as it has to: a thousand of them share two cores with what they measure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use mesh_proto::v1;
use mesh_runtime::{Backoff, clock};
use mesh_types::view::{Key, Object};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::mock::control::stamp_of;

const SUBSCRIBE: &str = "/isthmus.v1.Agent/Subscribe";
const POLL: Duration = Duration::from_millis(2);

/// `SubscribeResponse` with its parts left as they came.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    snapshot_begin: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    delta: Option<Bytes>,
    #[prost(message, optional, tag = "4")]
    prune: Option<v1::Prune>,
    #[prost(message, optional, tag = "5")]
    keep_alive: Option<v1::KeepAlive>,
}

/// `Delta` but for what it carries.
#[derive(Clone, PartialEq, prost::Message)]
struct Revision {
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// What an agent looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Which objects it was told of, and how old changes were.
    Objects,
    /// How far it has come.
    Revisions,
}

/// What an agent has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub keys: HashSet<Key>,
    /// How old each change was when it came, in milliseconds, by the number of its mock cluster.
    pub ages_ms: HashMap<String, Vec<f64>>,
    pub cluster_id: u64,
    pub revision: i64,
    pub snapshots: u64,
    /// Streams that ended, or could not be opened.
    pub ended: u64,
    /// Of all messages that say something, without gRPC's five bytes before each.
    pub bytes: u64,
    /// When the newest of them came, in Unix nanoseconds.
    pub moved_unix_nanos: u64,
    /// A stream is open, and has said something.
    pub follows: bool,
}

/// Ends with this value.
pub struct Agent {
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

impl Agent {
    /// Follows the view from its start.
    pub fn start(channel: Channel, wants: Wants) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut task = JoinSet::new();
        let of = Arc::clone(&seen);
        task.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
            loop {
                let before = of.lock().revision;
                // Why it ended is the API server's to say; that it did is what counts here.
                drop(follow(channel.clone(), wants, &of).await);
                if of.lock().end() != before {
                    backoff.reset();
                }
                backoff.wait().await;
            }
        });
        Self { seen, _task: task }
    }

    pub fn look<T>(&self, ask: impl FnOnce(&Seen) -> T) -> T {
        ask(&self.seen.lock())
    }

    /// Takes the ages of all changes since the last time.
    pub fn take_ages(&self) -> HashMap<String, Vec<f64>> {
        std::mem::take(&mut self.seen.lock().ages_ms)
    }

    /// Waits for what it must see.
    pub async fn until(&self, what: &str, within: Duration, fact: impl Fn(&Seen) -> bool) -> Result<()> {
        let began = Instant::now();
        while !self.look(&fact) {
            if began.elapsed() > within {
                let found = self.look(|seen| (seen.keys.len(), seen.revision, seen.ended));
                anyhow::bail!("no {what} within {within:?}: (objects, revision, streams ended) is {found:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

async fn follow(channel: Channel, wants: Wants, seen: &Mutex<Seen>) -> Result<()> {
    let mut client = Grpc::new(channel).max_decoding_message_size(64 << 20);
    client.ready().await.context("connect")?;
    let request = {
        let seen = seen.lock();
        v1::SubscribeRequest { cluster_id: seen.cluster_id, revision: seen.revision }
    };
    let codec: ProstCodec<v1::SubscribeRequest, Message> = ProstCodec::default();
    let path = PathAndQuery::from_static(SUBSCRIBE);
    let answer = client.server_streaming(tonic::Request::new(request), path, codec).await?;
    let mut stream = answer.into_inner();
    let mut in_snapshot = false;
    while let Some(message) = stream.message().await? {
        seen.lock().take(message, wants, &mut in_snapshot)?;
    }
    Ok(())
}

impl Seen {
    /// The stream has ended; the revision that it came to.
    fn end(&mut self) -> i64 {
        self.ended += 1;
        self.follows = false;
        self.revision
    }

    fn take(&mut self, message: Message, wants: Wants, in_snapshot: &mut bool) -> Result<()> {
        self.follows = true;
        self.cluster_id = message.cluster_id;
        if message.keep_alive.is_none() {
            self.bytes += prost::Message::encoded_len(&message) as u64;
            self.moved_unix_nanos = clock::unix_nanos();
        }
        if message.snapshot_begin.is_some() {
            self.snapshots += 1;
            self.keys.clear();
            *in_snapshot = true;
        }
        if let Some(delta) = message.delta {
            let revision = match wants {
                Wants::Revisions => <Revision as prost::Message>::decode(delta)?.revision,
                Wants::Objects => self.apply(<v1::Delta as prost::Message>::decode(delta)?)?,
            };
            if !*in_snapshot {
                self.revision = revision;
            }
        }
        if let Some(v1::Prune { revision }) = message.prune {
            *in_snapshot = false;
            self.revision = revision;
        }
        if let Some(v1::KeepAlive { revision }) = message.keep_alive
            && !*in_snapshot
        {
            self.revision = revision;
        }
        Ok(())
    }

    fn apply(&mut self, delta: v1::Delta) -> Result<i64> {
        let now = clock::unix_nanos();
        for object in delta.upserts {
            let object = Object::try_from(object).context("an object of this version")?;
            if let Object::Ip(ip) = &object
                && let Some(written) = ip.pod.as_deref().and_then(stamp_of)
            {
                let nanos = u32::try_from(now.saturating_sub(written)).unwrap_or(u32::MAX);
                self.ages_ms.entry(ip.cluster.to_string()).or_default().push(f64::from(nanos) / 1e6);
            }
            self.keys.insert(object.key());
        }
        for key in delta.deletes {
            self.keys.remove(&Key::try_from(key).context("a key of this version")?);
        }
        Ok(delta.revision)
    }
}
