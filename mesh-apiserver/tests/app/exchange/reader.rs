//! Another cluster that reads east's etcd port as its session does, and remembers every byte that it was sent.

use certs::{Leaf, RootCa, Validity};
use etcd_client::{Client, EventType, GetOptions, GetResponse, WatchOptions, WatchStream};
use mesh_types::ClusterName;

use super::HIDDEN;
use crate::harness::{PATIENCE, Server};

pub(super) struct Reader {
    pub(super) client: Client,
    received: Vec<u8>,
}

/// An event as it was seen: `+key` or `-key`.
pub(super) type Seen = String;

pub(super) struct Watching {
    stream: WatchStream,
    /// Events seen, with their revisions.
    pub(super) seen: Vec<(i64, Seen)>,
    /// Revision up to which everything has come.
    pub(super) reached: i64,
}

pub(super) fn leaf(of: &Server, shared_name: bool) -> Leaf {
    let ca = RootCa::load(&of.state("ca"), &ClusterName::new(&*of.name).unwrap()).unwrap();
    let validity = Validity::lasting(Validity::LEAF);
    if shared_name { ca.issue_user("remote", validity) } else { ca.issue_remote(validity) }.unwrap()
}

impl Reader {
    pub(super) async fn of(cluster: &Server, east: &Server) -> Self {
        Self { client: east.etcd(&leaf(cluster, false)).await, received: Vec::new() }
    }

    pub(super) async fn get(&mut self, key: &str, options: GetOptions) -> GetResponse {
        let answer = self.client.get(key, Some(options)).await.unwrap();
        for kv in answer.kvs() {
            self.received.extend([kv.key(), b"\n", kv.value(), b"\n"].concat());
        }
        answer
    }

    /// All keys of the export, page by page as Cilium reads, with what each page said of the rest checked.
    pub(super) async fn list(&mut self) -> Vec<String> {
        let (mut keys, mut from, mut revision) = (Vec::new(), "cilium/state/".to_owned(), 0);
        let mut counted = None;
        loop {
            let options = GetOptions::new().with_range("cilium/state0").with_limit(2).with_revision(revision);
            let page = self.get(&from, options).await;
            revision = page.header().unwrap().revision();
            let left = usize::try_from(page.count()).unwrap();
            assert_eq!(*counted.get_or_insert(left), keys.len() + left, "count of the whole and of the rest");
            keys.extend(page.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()));
            if !page.more() {
                break;
            }
            from = format!("{}\0", keys.last().unwrap());
        }
        assert!(keys.is_sorted(), "{keys:?}");
        let counted_only = GetOptions::new().with_prefix().with_count_only();
        let count = self.get("cilium/state/", counted_only).await.count();
        assert_eq!(usize::try_from(count).unwrap(), keys.len());
        keys
    }

    pub(super) async fn watch(&mut self, from: i64) -> Watching {
        let options = WatchOptions::new().with_prefix().with_start_revision(from).with_prev_key();
        let stream = self.client.watch("cilium/state/", Some(options)).await.unwrap();
        Watching { stream, seen: Vec::new(), reached: 0 }
    }

    /// Follows until `enough`, and returns what was seen since the last call.
    pub(super) async fn follow(&mut self, watching: &mut Watching, enough: impl Fn(&str) -> bool) -> Vec<Seen> {
        let mut fresh: Vec<Seen> = Vec::new();
        while !fresh.iter().any(|seen| enough(seen)) {
            let answer = tokio::time::timeout(PATIENCE, watching.stream.message()).await;
            let answer = answer.unwrap_or_else(|_| panic!("not within {PATIENCE:?}; until now {fresh:?}"));
            let answer = answer.unwrap().expect("the stream goes on");
            assert!(!answer.canceled(), "{}", answer.cancel_reason());
            for event in answer.events() {
                for kv in event.kv().into_iter().chain(event.prev_kv()) {
                    self.received.extend([kv.key(), b"\n", kv.value(), b"\n"].concat());
                }
                let kv = event.kv().unwrap();
                let sign = if event.event_type() == EventType::Put { '+' } else { '-' };
                let revision = kv.mod_revision();
                assert!(revision >= watching.reached, "in order of their revisions");
                watching.reached = revision;
                watching.seen.push((revision, format!("{sign}{}", kv.key_str().unwrap())));
                fresh.push(format!("{sign}{}", kv.key_str().unwrap()));
            }
        }
        fresh
    }

    /// Every byte that was ever sent here.
    pub(super) fn has_received(&self, text: &str) -> bool {
        self.received.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub(super) fn assert_saw_nothing_hidden(&self) {
        assert!(self.has_received("front"), "what everybody may see did come");
        let seen: Vec<&str> = HIDDEN.into_iter().filter(|text| self.has_received(text)).collect();
        assert!(seen.is_empty(), "received {seen:?}");
    }
}
