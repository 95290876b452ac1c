//! Many ConfigMaps: made, changed and removed by several writers at once. A writer whose request failed does not know
//! whether it was carried out; it asks again and finds out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::api::{Answer, Api, Connection, resource_version};
use crate::trouble::Trouble;

pub(crate) const NAMESPACE: &str = "churn";
const WRITERS: usize = 16;
/// Before a failed request is repeated, as Kubernetes' own client waits.
const BACK_OFF: Duration = Duration::from_millis(200);
/// Of one object: three of kube-apiserver's own time limits.
const SETTLED_WITHIN: Duration = Duration::from_mins(3);

/// What is done to every object, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Update,
    Delete,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The objects, each with the revision at which it was last written.
pub(crate) struct Objects {
    pub(crate) revisions: Vec<Mutex<Revisions>>,
}

/// What the writer of an object was told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Revisions {
    pub(crate) created: i64,
    pub(crate) updated: i64,
}

/// How far a phase is, and when each of its writes was acknowledged.
#[derive(Default)]
pub(crate) struct Progress {
    done: AtomicUsize,
    acknowledged: Mutex<Vec<Instant>>,
}

impl Progress {
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// The longest time in which no write was acknowledged.
    pub(crate) fn longest_pause(&self) -> Duration {
        let mut times = self.acknowledged.lock().clone();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

pub(crate) fn name(index: usize) -> String {
    format!("object-{index:06}")
}

pub(crate) fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn path(index: usize) -> String {
    format!("{}/{}", collection(), name(index))
}

/// Which write of an object is to be seen in it.
pub(crate) fn version(object: &Value) -> &str {
    object["data"]["version"].as_str().unwrap_or_default()
}

fn object(index: usize, version: u32, resource_version: Option<i64>) -> Value {
    let mut metadata = json!({ "name": name(index) });
    if let Some(revision) = resource_version {
        metadata["resourceVersion"] = revision.to_string().into();
    }
    let data = json!({ "version": version.to_string(), "padding": "x".repeat(256) });
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data })
}

impl Objects {
    pub(crate) fn new(count: usize) -> Self {
        Self { revisions: (0..count).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn count(&self) -> usize {
        self.revisions.len()
    }

    /// Does it to all objects.
    pub(crate) async fn each(
        self: &Arc<Self>,
        verb: Verb,
        api: &Api,
        trouble: &Arc<Trouble>,
        progress: &Arc<Progress>,
    ) -> Result<()> {
        let mut writers = JoinSet::new();
        for first in 0..WRITERS {
            let (objects, trouble, progress) = (Arc::clone(self), Arc::clone(trouble), Arc::clone(progress));
            let mut writer = Writer { connection: api.connect().await?, trouble };
            writers.spawn(async move {
                for index in (first..objects.count()).step_by(WRITERS) {
                    let work = objects.one(verb, index, &mut writer);
                    let done = tokio::time::timeout(SETTLED_WITHIN, work).await;
                    let what = || format!("{} {}", verb.name(), name(index));
                    done.with_context(|| format!("not done within {SETTLED_WITHIN:?}")).flatten().with_context(what)?;
                    progress.acknowledged.lock().push(Instant::now());
                    progress.done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.context("a writer panicked")??;
        }
        Ok(())
    }

    async fn one(&self, verb: Verb, index: usize, writer: &mut Writer) -> Result<()> {
        let known = *self.revisions[index].lock();
        match verb {
            Verb::Create => {
                let created = writer.create(index).await?;
                self.revisions[index].lock().created = created;
            }
            Verb::Update => {
                let updated = writer.update(index, known.created).await?;
                ensure!(updated > known.created, "updated at {updated}, but created at {}", known.created);
                self.revisions[index].lock().updated = updated;
            }
            Verb::Delete => writer.delete(index).await?,
        }
        Ok(())
    }
}

struct Writer {
    connection: Connection,
    trouble: Arc<Trouble>,
}

impl Writer {
    async fn create(&mut self, index: usize) -> Result<i64> {
        let mut is_unsure = false;
        loop {
            let answer = self.ask("create", Method::POST, &collection(), Some(&object(index, 0, None))).await?;
            match answer {
                Ok(answer) if answer.is_success() => return answer.resource_version(),
                Ok(answer) if is_unsure && answer.reason() == "AlreadyExists" => {
                    return resource_version(&self.get(index).await?);
                }
                Ok(answer) => bail!("refused: {} {}", answer.status, answer.message()),
                Err(Failed) => is_unsure = true,
            }
        }
    }

    /// Replaces just the version that was created.
    async fn update(&mut self, index: usize, created: i64) -> Result<i64> {
        let mut is_unsure = false;
        loop {
            let answer = self.ask("update", Method::PUT, &path(index), Some(&object(index, 1, Some(created)))).await?;
            match answer {
                Ok(answer) if answer.is_success() => return answer.resource_version(),
                Ok(answer) if is_unsure && answer.reason() == "Conflict" => {
                    let now = self.get(index).await?;
                    ensure!(version(&now) == "1", "another version than the one that was created, but not the next");
                    return resource_version(&now);
                }
                Ok(answer) => bail!("refused: {} {}", answer.status, answer.message()),
                Err(Failed) => is_unsure = true,
            }
        }
    }

    async fn delete(&mut self, index: usize) -> Result<()> {
        let mut is_unsure = false;
        loop {
            match self.ask("delete", Method::DELETE, &path(index), None).await? {
                Ok(answer) if answer.is_success() || (is_unsure && answer.reason() == "NotFound") => return Ok(()),
                Ok(answer) => bail!("refused: {} {}", answer.status, answer.message()),
                Err(Failed) => is_unsure = true,
            }
        }
    }

    async fn get(&mut self, index: usize) -> Result<Value> {
        loop {
            match self.ask("get", Method::GET, &path(index), None).await? {
                Ok(answer) if answer.is_success() => return Ok(answer.body),
                Ok(answer) => bail!("it cannot be read: {} {}", answer.status, answer.message()),
                Err(Failed) => {}
            }
        }
    }

    /// An answer, or a failure of the server, which is noted.
    async fn ask(
        &mut self,
        verb: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Result<Answer, Failed>> {
        let asked = Instant::now();
        let answer = self.connection.call(method, path, body).await?;
        if answer.status < 500 {
            return Ok(Ok(answer));
        }
        self.trouble.note(verb, asked, &answer);
        tokio::time::sleep(BACK_OFF).await;
        Ok(Err(Failed))
    }
}

/// Whether it was done is not known.
struct Failed;
