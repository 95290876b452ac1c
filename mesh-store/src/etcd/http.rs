//! What etcd answers over plain HTTP on its client port: `/version` and `/health`, in etcd's JSON.
//!
//! Like the rest of the port it is behind mutual TLS; it needs no permission, for it says nothing about keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mesh_store_mvcc::{KeyRange, RangeRequest};
use serde::Serialize;

use super::{ETCD_VERSION, Shared};

/// etcd's own bound on the read that `/health` does.
const ANSWER_WITHIN: Duration = Duration::from_secs(7);

/// Adds both paths to those of the gRPC services.
pub(super) fn add(router: axum::Router, shared: Arc<Shared>) -> axum::Router {
    let paths = axum::Router::new().route("/version", get(version)).route("/health", get(health));
    router.merge(paths.with_state(shared))
}

#[derive(Serialize)]
struct Versions {
    etcdserver: &'static str,
    etcdcluster: String,
    storage: String,
}

async fn version() -> Json<Versions> {
    // The cluster's version is the one that all members agree on: etcd names no patch there.
    let (major_minor, _) = ETCD_VERSION.rsplit_once('.').unwrap_or((ETCD_VERSION, ""));
    let cluster = format!("{major_minor}.0");
    Json(Versions { etcdserver: ETCD_VERSION, etcdcluster: cluster.clone(), storage: cluster })
}

#[derive(Serialize)]
struct Health {
    /// A text in etcd's answer too.
    health: &'static str,
    reason: String,
}

async fn health(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let asked: HashSet<&str> = query.split('&').collect();
    let alarm = alarm(&shared, &asked).await;
    let sickness = match alarm {
        Some(alarm) => Some(alarm),
        None => sickness(&shared, asked.contains("serializable=true")).await,
    };
    match sickness {
        None => (StatusCode::OK, Json(Health { health: "true", reason: String::new() })).into_response(),
        Some(reason) => {
            tracing::warn!(reason, "/health");
            (StatusCode::SERVICE_UNAVAILABLE, Json(Health { health: "false", reason })).into_response()
        }
    }
}

/// An alarm that the caller did not exclude.
async fn alarm(shared: &Shared, asked: &HashSet<&str>) -> Option<String> {
    let raised = shared.store.alarms(false).await.unwrap_or_default();
    let names = raised.into_iter().filter(|alarm| alarm.kind.refuses()).map(|alarm| alarm.kind.name());
    names.filter(|name| !asked.contains(format!("exclude={name}").as_str())).map(|name| format!("ALARM {name}")).next()
}

/// Why this member is not well; `serializable` asks about this member alone.
async fn sickness(shared: &Shared, serializable: bool) -> Option<String> {
    if !serializable {
        match shared.store.status().await {
            Ok(status) if status.leader != 0 => {}
            Ok(_) => return Some("RAFT NO LEADER".to_owned()),
            Err(error) => return Some(format!("RANGE ERROR:{error}")),
        }
    }
    // As etcd does: the smallest read there is, of a key that need not exist.
    let request = RangeRequest {
        range: KeyRange::single("\0"),
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    match tokio::time::timeout(ANSWER_WITHIN, shared.store.range(request)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("RANGE ERROR:{error}")),
        Err(_elapsed) => Some("RANGE ERROR:etcdserver: request timed out".to_owned()),
    }
}
