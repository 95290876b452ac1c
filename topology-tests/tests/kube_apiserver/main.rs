//! A real kube-apiserver that has three replicas of this store and nothing else: many objects are made, listed, followed,
//! changed and removed, and during each of these the leading replica is killed and started again.
//!
//! `ISTHMUS_KUBE_OBJECTS=10000` makes more objects than the short form; `ISTHMUS_KUBE_STORE=etcd` runs the same on three
//! members of a real etcd, to see what its faults cost and what is said then; `ISTHMUS_KUBE_APISERVER` names a program to
//! use instead of the one that `cargo xtask kube-apiserver` builds. Without either it is skipped.

#![expect(clippy::print_stdout, reason = "what a test prints is its report")]

mod api;
mod apiserver;
mod direct;
mod follow;
mod objects;
mod pages;
mod process;
mod stores;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_peer::KubeApiserver;
use hyper::Method;
use serde_json::json;

use api::Api;
use apiserver::Apiserver;
use follow::{Follower, From};
use objects::{NAMESPACE, Objects, Progress, Verb};
use pages::PAGE;
use stores::Stores;
use trouble::Trouble;

const DEFAULT_OBJECTS: usize = 1000;
const SOON: Duration = Duration::from_mins(1);
/// Each takes both cores.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// A phase that has not come this far in that time never will.
const PHASE: Duration = Duration::from_mins(10);

/// Lists and watches are answered from kube-apiserver's own memory, which follows the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_apiserver_lives_on_three_replicas() -> Result<()> {
    run("cached", &[]).await
}

/// Every list and every watch of a client is one of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_apiserver_without_its_cache_lives_on_three_replicas() -> Result<()> {
    run("uncached", &["--watch-cache=false"]).await
}

async fn run(variant: &str, flags: &[&str]) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package lies in the workspace")?;
    let Some(kube) = KubeApiserver::find(workspace)? else {
        println!("skipped: no kube-apiserver here; `cargo xtask kube-apiserver` builds one in about 15 minutes");
        return Ok(());
    };
    let _alone = ONE_AT_A_TIME.lock().await;
    let number = std::env::var("ISTHMUS_KUBE_OBJECTS").ok().map(|text| text.parse()).transpose();
    let count = number.context("ISTHMUS_KUBE_OBJECTS is no number")?.unwrap_or(DEFAULT_OBJECTS);
    let logs = workspace.join("target/test-logs/kube-apiserver").join(variant);
    if logs.exists() {
        std::fs::remove_dir_all(&logs).with_context(|| format!("remove {}", logs.display()))?;
    }
    std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let folder = tempfile::tempdir().context("a folder for everything")?;
    let on_etcd = std::env::var("ISTHMUS_KUBE_STORE").is_ok_and(|store| store == "etcd");
    let stores =
        if on_etcd { Stores::start_etcd(workspace)? } else { Stores::start_isthmus(folder.path(), &logs).await? };
    let started = Instant::now();
    let server =
        Apiserver::start(&kube, folder.path(), &logs.join("kube-apiserver.log"), &stores.flags(), flags).await?;
    println!("{variant}: {} ready on {} after {:.1?}", kube.version, stores.name(), started.elapsed());
    let objects = Arc::new(Objects::new(count));
    let mut story = Story { variant, stores, api: server.api.clone(), objects, trouble: Arc::default() };
    let outcome = story.tell().await;
    for (what, times) in story.trouble.counts() {
        println!("{variant}: {times} times {what}");
    }
    outcome.with_context(|| format!("{variant}; logs: {}", logs.display()))
}

struct Story<'a> {
    variant: &'a str,
    stores: Stores,
    api: Api,
    objects: Arc<Objects>,
    trouble: Arc<Trouble>,
}

impl Story<'_> {
    async fn tell(&mut self) -> Result<()> {
        let started = Instant::now();
        let count = self.objects.count();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        let made = self.api.connect().await?.call(Method::POST, "/api/v1/namespaces", Some(&namespace)).await?;
        ensure!(made.is_success(), "the namespace was refused: {} {}", made.status, made.message());

        let empty = self.check_pages(0).await?;
        let mut whole = Follower::start(&self.api, &self.trouble, From::Revision(empty));
        self.phase(Verb::Create).await?;
        let created = self.check_pages(count).await?;
        let mut late = Follower::start(&self.api, &self.trouble, From::Now);
        let lists = self.phase(Verb::Update).await?;
        ensure!(lists > 0, "no list came to its end beside the updates");
        self.check_pages(count).await?;
        self.phase(Verb::Delete).await?;
        self.check_pages(0).await?;

        let writes = count * 3;
        for follower in [&mut whole, &mut late] {
            follower.end(count, SOON).await?;
        }
        whole.check_whole(&self.objects)?;
        late.check_late(&self.objects)?;
        let compacted = direct::wait_until_compacted(&self.stores, created).await?;
        direct::check_hashes(&self.stores).await?;
        self.trouble.check()?;
        println!(
            "{}: {writes} writes, {} events to the first follower ({} watches) and {} to the late one ({}), \
             compacted {compacted:.1?} after the end, {:.1?} in all",
            self.variant,
            whole.events(),
            whole.opened(),
            late.events(),
            late.opened(),
            started.elapsed()
        );
        Ok(())
    }

    /// Does one thing to all objects while the leader dies and comes back. How many lists were read meanwhile.
    async fn phase(&mut self, verb: Verb) -> Result<usize> {
        let progress = Arc::new(Progress::default());
        let started = Instant::now();
        let work = async {
            self.objects.each(verb, &self.api, &self.trouble, &progress).await?;
            Ok::<_, anyhow::Error>(started.elapsed())
        };
        let fault = kill_the_leader(&mut self.stores, &self.trouble, &progress, self.objects.count());
        let lists = async {
            // Only updates leave the number of objects as it is.
            if verb != Verb::Update {
                return Ok(0);
            }
            list_meanwhile(&self.api, &self.trouble, &progress, self.objects.count()).await
        };
        let (took, (killed, back), lists) = tokio::try_join!(Box::pin(work), Box::pin(fault), Box::pin(lists))?;
        println!(
            "{}: {} {} in {took:.1?} ({:.0}/s), leader {killed} killed, back after {back:.1?}; longest pause {:.1?}, \
             {lists} whole lists meanwhile",
            self.variant,
            verb.name(),
            self.objects.count(),
            f64::from(u32::try_from(self.objects.count())?) / took.as_secs_f64(),
            progress.longest_pause(),
        );
        Ok(lists)
    }

    /// Lists show exactly `expected` objects, however they are asked; the newest list's revision.
    async fn check_pages(&self, expected: usize) -> Result<i64> {
        let mut connection = self.api.connect().await?;
        let newest = pages::list(&mut connection, &self.trouble, "").await?;
        ensure!(newest.names.len() == expected, "{} objects are listed, not {expected}", newest.names.len());
        ensure!(newest.pages == expected.div_ceil(PAGE).max(1), "{expected} objects in {} pages", newest.pages);
        let written = self.objects.revisions.iter().map(|one| one.lock()).map(|one| one.created.max(one.updated)).max();
        ensure!(Some(newest.resource_version) >= written, "a list is older than what was acknowledged before it");
        let exact = format!("&resourceVersion={}&resourceVersionMatch=Exact", newest.resource_version);
        let again = pages::list(&mut connection, &self.trouble, &exact).await?;
        ensure!(again.names == newest.names, "the same revision shows other objects");
        direct::check_count(&self.stores, expected).await?;
        Ok(newest.resource_version)
    }
}

/// Kills the leader when a third is done, and starts it again when two thirds are; which it was, and how long until it
/// served again.
async fn kill_the_leader(
    stores: &mut Stores,
    trouble: &Trouble,
    progress: &Progress,
    count: usize,
) -> Result<(usize, Duration)> {
    wait_until_done(progress, count / 3).await?;
    let leader = stores.leader().await?;
    let killed = Instant::now();
    trouble.fault_begins();
    stores.kill(leader)?;
    wait_until_done(progress, count * 2 / 3).await?;
    stores.restart(leader).await?;
    trouble.fault_ends();
    Ok((leader + 1, killed.elapsed()))
}

async fn wait_until_done(progress: &Progress, wanted: usize) -> Result<()> {
    let deadline = Instant::now() + PHASE;
    while progress.done() < wanted {
        ensure!(Instant::now() < deadline, "{} of {wanted} writes within {PHASE:?}", progress.done());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Lists again and again until the phase is over: each time all objects are there.
async fn list_meanwhile(api: &Api, trouble: &Trouble, progress: &Progress, count: usize) -> Result<usize> {
    let mut connection = api.connect().await?;
    let mut lists = 0;
    while progress.done() < count {
        let listing = pages::list(&mut connection, trouble, "").await?;
        ensure!(listing.names.len() == count, "{} of {count} objects in a list beside updates", listing.names.len());
        lists += 1;
    }
    Ok(lists)
}
