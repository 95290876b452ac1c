//! Followers of the collection: what they were shown, and that it is everything, once, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::{Answer, Api, Lines, resource_version};
use crate::objects::{Objects, collection, name, version};
use crate::trouble::Trouble;

const BACK_OFF: Duration = Duration::from_millis(200);
/// Marks the bookmark after the last of the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) revision: i64,
}

/// From where a follower starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// A list's revision: what happens after it.
    Revision(i64),
    /// What is there now comes first, and nobody need list it.
    Now,
}

/// A running follower; it ends with this value.
pub(crate) struct Follower {
    seen: Arc<Mutex<Seen>>,
    opened: Arc<AtomicUsize>,
    task: JoinSet<Result<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was there at first.
    initial: Vec<Event>,
    /// The revision at which all of that had been shown.
    complete_at: Option<i64>,
    live: Vec<Event>,
}

impl Follower {
    pub(crate) fn start(api: &Api, trouble: &Arc<Trouble>, from: From) -> Self {
        let (seen, opened) = (Arc::new(Mutex::default()), Arc::new(AtomicUsize::new(0)));
        let mut task = JoinSet::new();
        let follow = Follow {
            api: api.clone(),
            trouble: Arc::clone(trouble),
            seen: Arc::clone(&seen),
            opened: Arc::clone(&opened),
        };
        task.spawn(follow.run(from));
        Self { seen, opened, task }
    }

    /// How often the watch was opened: once, if nothing ended it.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn events(&self) -> usize {
        self.seen.lock().live.len()
    }

    /// Waits until a deletion of each object was shown.
    pub(crate) async fn end(&mut self, deletions: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.seen.lock().live.iter().filter(|event| event.kind == "DELETED").count();
            if seen >= deletions {
                self.task.abort_all();
                return Ok(());
            }
            if let Some(ended) = self.task.try_join_next() {
                ended.context("a follower panicked")?.context("a follower ended")?;
            }
            ensure!(Instant::now() < deadline, "a follower saw {seen} of {deletions} deletions within {within:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All three events of each object, each once, with the revisions that the writers were told, in their order.
    pub(crate) fn check_whole(&self, objects: &Objects) -> Result<()> {
        let seen = self.seen.lock();
        ensure!(seen.initial.is_empty(), "events before the first one");
        let by_name = in_order(&seen.live, 0)?;
        for (index, revisions) in objects.revisions.iter().enumerate() {
            let name = name(index);
            let shown = by_name.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            let revisions = *revisions.lock();
            let right = matches!(shown, [added, modified, deleted]
                if added.is("ADDED", "0") && added.revision == revisions.created
                && modified.is("MODIFIED", "1") && modified.revision == revisions.updated
                && deleted.is("DELETED", "1"));
            ensure!(right, "{name}, written at {revisions:?}, was shown as {shown:?}");
        }
        ensure!(by_name.len() == objects.count(), "objects that nobody made were shown");
        Ok(())
    }

    /// Each object as it was at first, once, then what was still to come.
    pub(crate) fn check_late(&self, objects: &Objects) -> Result<()> {
        let seen = self.seen.lock();
        let complete_at = seen.complete_at.context("the initial events have no end")?;
        let mut first = BTreeMap::new();
        for event in &seen.initial {
            ensure!(first.insert(event.name.as_str(), event).is_none(), "{} came twice at first", event.name);
        }
        ensure!(first.len() == objects.count(), "{} of {} came at first", first.len(), objects.count());
        let by_name = in_order(&seen.live, complete_at)?;
        for (name, at_first) in first {
            let shown = by_name.get(name).map(Vec::as_slice).unwrap_or_default();
            let right = match (at_first.version.as_str(), shown) {
                ("0", [modified, deleted]) => modified.is("MODIFIED", "1") && deleted.is("DELETED", "1"),
                ("1", [deleted]) => deleted.is("DELETED", "1"),
                _ => false,
            };
            ensure!(right, "{name} was {at_first:?} at first, then shown as {shown:?}");
        }
        Ok(())
    }
}

impl Event {
    fn is(&self, kind: &str, version: &str) -> bool {
        self.kind == kind && self.version == version
    }
}

/// Events by object, having seen that revisions increase.
fn in_order(events: &[Event], mut last: i64) -> Result<BTreeMap<&str, Vec<&Event>>> {
    let mut by_name: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        ensure!(event.revision > last, "{event:?} came after revision {last}");
        last = event.revision;
        by_name.entry(&event.name).or_default().push(event);
    }
    Ok(by_name)
}

struct Follow {
    api: Api,
    trouble: Arc<Trouble>,
    seen: Arc<Mutex<Seen>>,
    opened: Arc<AtomicUsize>,
}

impl Follow {
    async fn run(self, mut from: From) -> Result<()> {
        let mut connection = self.api.connect().await?;
        loop {
            let what = match from {
                From::Revision(revision) => format!("resourceVersion={revision}"),
                From::Now => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
            };
            let path = format!("{}?watch=1&allowWatchBookmarks=true&{what}", collection());
            let asked = Instant::now();
            match connection.watch(&path).await? {
                Ok(mut lines) => {
                    self.opened.fetch_add(1, Ordering::Relaxed);
                    self.read(&mut lines, &mut from).await?;
                }
                Err(refused) => self.trouble.note("watch", asked, &refused),
            }
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    /// Until the watch ends, which is no fault: it can be opened again where it ended.
    async fn read(&self, lines: &mut Lines, from: &mut From) -> Result<()> {
        let mut initial = Vec::new();
        while let Some(mut line) = lines.next().await? {
            let object = line["object"].take();
            match line["type"].as_str().unwrap_or_default() {
                "ERROR" => {
                    let status = object["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(0);
                    self.trouble.note("watch", Instant::now(), &Answer { status, body: object });
                    return Ok(());
                }
                "BOOKMARK" => {
                    let revision = resource_version(&object)?;
                    if object["metadata"]["annotations"][INITIAL_END] == "true" {
                        let mut seen = self.seen.lock();
                        seen.initial = std::mem::take(&mut initial);
                        seen.complete_at = Some(revision);
                    } else if matches!(from, From::Now) {
                        bail!("a bookmark at {revision} before the initial events' end");
                    }
                    *from = From::Revision(revision);
                }
                kind => {
                    let event = event(kind, &object)?;
                    if matches!(from, From::Now) {
                        initial.push(event);
                    } else {
                        *from = From::Revision(event.revision);
                        self.seen.lock().live.push(event);
                    }
                }
            }
        }
        Ok(())
    }
}

fn event(kind: &str, object: &Value) -> Result<Event> {
    Ok(Event {
        kind: kind.to_owned(),
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        version: version(object).to_owned(),
        revision: resource_version(object)?,
    })
}
