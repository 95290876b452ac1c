//! The steps after the door: what the peer says, judged as the session judges it.

use std::time::Duration;

use jiff::Timestamp;
use mesh_runtime::ErrorChain;
use mesh_store::mvcc::KeyRange;

use super::{Outcome, Stopped, Walk};
use crate::contract::{ClusterConfig, Layout, Resource, keys};
use crate::mirror::Watched;
use crate::peer::PeerRecord;
use crate::session::error::Error;
use crate::session::link::{Link, Listing};

/// The heartbeat that was read to try the role. Its value is the source's time; a clock that is off is told apart from a
/// heart that stands still by a peer's operator only, so the text says both.
pub(super) fn heartbeat(walk: &mut Walk, peer: &PeerRecord, listing: Option<Listing>) -> Result<(), Stopped> {
    const REMEDY: &str = "its exporter does not run: see its mesh-apiserver's log, and `meshctl store status` there";
    let beat = listing.and_then(|listing| listing.kvs.into_iter().next());
    let Some((_, value)) = beat else {
        return Err(walk.stop("heartbeat", format!("has none: {REMEDY}")));
    };
    let text = String::from_utf8_lossy(&value);
    let Ok(at) = text.parse::<Timestamp>() else {
        walk.note("heartbeat", Outcome::Warn, format!("is there, and says no time ({} bytes)", value.len()));
        return Ok(());
    };
    let age = Timestamp::now().duration_since(at);
    let limit = peer.heartbeat_interval() * 3;
    if age.unsigned_abs() > limit + Duration::from_secs(1) {
        let off = age.unsigned_abs().as_secs();
        let limit = limit.as_secs();
        let text = if age.is_negative() {
            format!("is {off} s ahead of this clock (at most {limit} s): synchronise both clusters' clocks with NTP")
        } else {
            format!(
                "is {off} s behind this clock (at most {limit} s): {REMEDY}; or its clock is behind, or this one ahead"
            )
        };
        return Err(walk.stop("heartbeat", text));
    }
    walk.pass("heartbeat", format!("is of {at}"));
    Ok(())
}

/// Configuration, canaries, and every resource, also after one of them has a fault.
pub(super) async fn read(walk: &mut Walk, link: &mut Link, peer: &PeerRecord) -> Result<(), Stopped> {
    let config = config(walk, link, peer).await?;
    let layout = if config.capabilities.cached { Layout::Cache } else { Layout::State };
    if config.capabilities.synced_canaries {
        canaries(walk, link, peer, layout).await?;
    } else {
        walk.pass("canaries", "has none, and says so");
    }
    for resource in walk.exported.clone() {
        self::resource(walk, link, peer, layout, resource).await;
    }
    Ok(())
}

async fn config(walk: &mut Walk, link: &mut Link, peer: &PeerRecord) -> Result<ClusterConfig, Stopped> {
    let key = keys::cluster_config(&peer.declaration.name);
    let listing = list(walk, "config", link, Watched::Config, &KeyRange::single(key.clone())).await?;
    let Some((_, value)) = listing.kvs.into_iter().next() else {
        let text = format!("has no {key}: its exporter has not written it, or the cluster there has another name");
        return Err(walk.stop("config", text));
    };
    match peer.declaration.rules().check_config(&value) {
        Ok(config) => {
            walk.exported = config.capabilities.exported().collect();
            walk.pass("config", format!("is that of cluster {}", config.id));
            Ok(config)
        }
        Err(rejection) => {
            let text = format!("{rejection}: correct it there, or connect the clusters again where it has changed");
            Err(walk.stop("config", text))
        }
    }
}

async fn canaries(walk: &mut Walk, link: &mut Link, peer: &PeerRecord, layout: Layout) -> Result<(), Stopped> {
    let name = &peer.declaration.name;
    let range = KeyRange::prefix(keys::canaries(name));
    let listing = list(walk, "canaries", link, Watched::Canaries, &range).await?;
    let found: Vec<String> = listing.kvs.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    let is_missing = |resource: &Resource| !found.contains(&layout.canary(*resource, name));
    let missing: Vec<&str> = walk.exported.iter().copied().filter(is_missing).map(Resource::name).collect();
    if missing.is_empty() {
        walk.pass("canaries", "all are there");
        return Ok(());
    }
    let text = format!(
        "those of {} are missing: its first export is not complete, see `meshctl status` there",
        missing.join(", ")
    );
    Err(walk.stop("canaries", text))
}

/// A resource with a fault keeps no other one from being looked at.
async fn resource(walk: &mut Walk, link: &mut Link, peer: &PeerRecord, layout: Layout, resource: Resource) {
    let name = &peer.declaration.name;
    let prefix = layout.prefix(resource, name);
    let range = KeyRange::prefix(prefix.clone());
    let Ok(listing) = list(walk, resource.name(), link, Watched::Resource(resource), &range).await else { return };
    let rules = peer.declaration.rules();
    let total = listing.kvs.len();
    let mut rejections = listing.kvs.iter().filter_map(|(key, value)| {
        let rest = String::from_utf8_lossy(key.strip_prefix(prefix.as_bytes()).unwrap_or(key)).into_owned();
        rules.check(resource, &rest, value).err()
    });
    match rejections.next() {
        None => walk.pass(resource.name(), format!("{total} keys, all of them allowed")),
        Some(first) => {
            let rejected = rejections.count() + 1;
            let text = format!("{rejected} of {total} keys are left out, the first because {first}");
            walk.note(resource.name(), Outcome::Fail, text);
        }
    }
}

async fn list(
    walk: &mut Walk,
    step: &'static str,
    link: &mut Link,
    what: Watched,
    range: &KeyRange,
) -> Result<Listing, Stopped> {
    match link.list(what, range).await {
        Ok(Some(listing)) => Ok(listing),
        Ok(None) | Err(Error::Denied { .. }) => {
            let text = format!("may not be read by this cluster's certificate: the peer's roles leave {what} out");
            Err(walk.stop(step, text))
        }
        Err(error) => Err(walk.stop(step, ErrorChain(&error).to_string())),
    }
}
