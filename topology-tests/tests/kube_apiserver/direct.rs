//! The store itself, past kube-apiserver: what it holds of the collection, that it was compacted, that replicas agree.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use etcd_client::{Client, GetOptions};

use crate::apiserver::COMPACTION_INTERVAL;
use crate::objects::NAMESPACE;
use crate::pages::PAGE;
use crate::stores::{REPLICAS, Stores};

/// Where kube-apiserver notes what it has compacted.
const COMPACTED_AT: &str = "compact_rev_key";
const AGREED_WITHIN: Duration = Duration::from_secs(20);

/// Every replica holds that many of the objects, counted and read in pages of one revision.
pub(crate) async fn check_count(stores: &Stores, expected: usize) -> Result<()> {
    let prefix = format!("/registry/configmaps/{NAMESPACE}/");
    for index in 0..REPLICAS {
        let mut client = stores.client(index).await?;
        let counted = client.get(prefix.as_str(), Some(GetOptions::new().with_prefix().with_count_only())).await?;
        let read = read_in_pages(&mut client, &prefix).await?;
        ensure!(
            usize::try_from(counted.count())? == expected && read == expected,
            "replica {index} counts {} and shows {read} of {expected} objects",
            counted.count()
        );
    }
    Ok(())
}

async fn read_in_pages(client: &mut Client, prefix: &str) -> Result<usize> {
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let (mut from, mut revision, mut read) = (prefix.as_bytes().to_vec(), 0, 0);
    loop {
        let options =
            GetOptions::new().with_range(end.clone()).with_revision(revision).with_limit(i64::try_from(PAGE)?);
        let page = client.get(from, Some(options)).await?;
        read += page.kvs().len();
        if revision == 0 {
            revision = page.header().context("an answer has a header")?.revision();
        }
        match page.kvs().last() {
            Some(last) if page.more() => {
                from = last.key().to_vec();
                from.push(0);
            }
            _ => return Ok(read),
        }
    }
}

/// Waits until kube-apiserver has had history up to this revision removed; how long that took.
pub(crate) async fn wait_until_compacted(stores: &Stores, revision: i64) -> Result<Duration> {
    let started = Instant::now();
    let within = COMPACTION_INTERVAL * 4;
    let mut client = stores.client(0).await?;
    loop {
        let old = client.get("any", Some(GetOptions::new().with_revision(revision))).await;
        if let Err(error) = old {
            ensure!(
                error.to_string().contains("required revision has been compacted"),
                "a read at {revision}: {error}"
            );
            break;
        }
        ensure!(started.elapsed() < within, "revision {revision} can still be read after {within:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let noted = client.get(COMPACTED_AT, None).await?;
    let noted = noted.kvs().first().context("kube-apiserver notes no compaction")?;
    let noted: i64 = noted.value_str()?.parse().context("the note of a compaction is a revision")?;
    ensure!(noted >= revision, "compacted by somebody else: kube-apiserver did so at {noted}");
    Ok(started.elapsed())
}

/// All replicas have the same history at one revision.
pub(crate) async fn check_hashes(stores: &Stores) -> Result<()> {
    let deadline = Instant::now() + AGREED_WITHIN;
    loop {
        let revision = {
            let answer = stores.client(0).await?.get("any", None).await?;
            answer.header().context("an answer has a header")?.revision()
        };
        let mut hashes = Vec::new();
        for index in 0..REPLICAS {
            let mut client = stores.client(index).await?;
            // Having answered this, it is not behind.
            client.get("any", None).await?;
            let answer = client.hash_kv(revision).await?;
            hashes.push((answer.hash(), answer.compact_version()));
        }
        // Another compaction may have come in between.
        if hashes.iter().all(|hash| *hash == hashes[0]) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("replicas differ at revision {revision}: (hash, compacted at) {hashes:?}");
        }
    }
}
