//! One change to many watchers: the time from before the put until the last watcher has the event, and the memory of all
//! members together while they are watched.
//!
//! Each connection has one stream with its share of the watches, as etcd's own client does it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{WatchResponseStream, WatchStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Scale;
use super::group::Group;
use super::load::value;
use super::pair::{Both, Pair};
use super::row::Row;

const KEY: &str = "fan/key";
/// Of one round; its figure is their median.
const CHANGES: usize = 7;
const GIVE_UP: Duration = Duration::from_secs(20);
/// From so many watchers on there is an aim.
const AIMED_WATCHERS: usize = 10_000;

/// The watches of one group. They end with this value.
struct Audience {
    /// When a connection's last watch had the event of a change.
    heard: mpsc::UnboundedReceiver<Instant>,
    connections: usize,
    listeners: JoinSet<Result<()>>,
}

pub(super) async fn run(pair: &mut Pair, scale: &Scale) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &watchers in &scale.watchers {
        let connections = watchers.min(scale.watch_connections);
        let (mut mib, mut audiences) = (Both { isthmus: Vec::new(), etcd: Vec::new() }, Vec::new());
        for (group, mib) in [(&pair.isthmus, &mut mib.isthmus), (&pair.etcd, &mut mib.etcd)] {
            audiences.push((group.name, Audience::gather(group, watchers, connections).await?));
            mib.push(group.resident_mib()?);
        }
        let what = format!("fanout: {watchers} watchers over {connections} connections");
        let milliseconds = pair.alternate(&what, scale.rounds, async |group, _| {
            let audience = audiences.iter_mut().find(|(name, _)| *name == group.name);
            audience.context("both have an audience")?.1.hear(group).await
        });
        let row = Row::new("fanout-last-watcher", watchers, "ms", milliseconds.await?);
        let row = if watchers >= AIMED_WATCHERS { row.aiming("ratio <= 0.5", |row| row.ratio <= 0.5) } else { row };
        rows.extend([row, Row::new("fanout-memory", watchers, "MiB", mib)]);
    }
    Ok(rows)
}

impl Audience {
    /// Returns when every watch is known to be created.
    async fn gather(group: &Group, watchers: usize, connections: usize) -> Result<Self> {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut listeners = JoinSet::new();
        for (n, client) in group.connections(connections, 0).await?.into_iter().enumerate() {
            let share = watchers / connections + usize::from(n < watchers % connections);
            let (stream, tell) = (watches(&mut client.watch_client(), share).await?, tell.clone());
            listeners.spawn(async move {
                // The connection lives as long as its stream.
                let _client = client;
                listen(stream, share, &tell).await
            });
        }
        Ok(Self { heard, connections, listeners })
    }

    /// The median of some changes, in milliseconds.
    async fn hear(&mut self, group: &Group) -> Result<f64> {
        let mut client = group.connect(group.leader().await?).await?;
        let mut times = Vec::with_capacity(CHANGES);
        for _ in 0..CHANGES {
            let started = Instant::now();
            client.put(KEY, value(), None).await.context("the change")?;
            let mut last = started;
            for _ in 0..self.connections {
                tokio::select! {
                    heard = tokio::time::timeout(GIVE_UP, self.heard.recv()) => {
                        last = last.max(heard.context("not every watcher had the event")?.context("nobody listens")?);
                    }
                    Some(ended) = self.listeners.join_next() => bail!("a watch stream ended: {ended:?}"),
                }
            }
            times.push((last - started).as_secs_f64() * 1e3);
        }
        Ok(crate::bench::stats::median(&mut times))
    }
}

async fn watches(client: &mut etcd_client::WatchClient, share: usize) -> Result<WatchStream> {
    let mut stream = client.watch(KEY, None).await.context("open a watch stream")?;
    for created in 1..=share {
        let answer = stream.message().await?.context("the watch stream ended")?;
        if !answer.created() {
            bail!("a watch was not created: {answer:?}");
        }
        if created < share {
            stream.watch(KEY, None).await.context("create a watch")?;
        }
    }
    Ok(stream)
}

async fn listen(stream: WatchStream, share: usize, tell: &mpsc::UnboundedSender<Instant>) -> Result<()> {
    // The sending end must stay, or the server ends the stream.
    let (_requests, mut stream): (_, WatchResponseStream) = stream.split();
    let mut heard = 0;
    while let Some(answer) = stream.message().await? {
        heard += answer.events().len();
        if heard >= share {
            heard -= share;
            tell.send(Instant::now()).context("nobody counts any more")?;
        }
    }
    bail!("the watch stream ended")
}
