//! `meshctl store check`: the replicas' data beside each other, or a snapshot by itself.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_proto::v1;
use serde::Serialize;

use super::{Replica, exit, member_id, replicas};
use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Cell, Table, Tone};

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    member: String,
    revision: i64,
    compact_revision: i64,
    hash: String,
    same: bool,
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let (replicas, mut failures) = replicas(run).await;
    let mut exit = exit(&replicas, &failures);
    // Replicas of one store, compared at the newest revision that all of them have.
    let mut stores: BTreeMap<u64, Vec<Replica>> = BTreeMap::new();
    for replica in replicas {
        stores.entry(replica.store.cluster_id).or_default().push(replica);
    }
    let mut rows = Vec::new();
    for replicas in stores.into_values() {
        let revision = replicas.iter().map(|replica| replica.store.revision).min().unwrap_or_default();
        let mut first: Option<(i64, u32)> = None;
        for mut replica in replicas {
            let answer = replica.admin.store.check_store(v1::CheckStoreRequest { revision }).await;
            let answer = match replica.admin.answer("CheckStore", answer) {
                Ok(answer) => answer,
                Err(failure) => {
                    failures.push(failure);
                    exit = exit.max(Exit::Degraded);
                    continue;
                }
            };
            let found = (answer.compact_revision, answer.hash);
            // What was compacted at another revision hashes differently; that is no fault.
            let same = first.is_none_or(|first| first.0 != found.0 || first == found);
            first = first.or(Some(found));
            let member = member_id(replica.store.member_id);
            if !same {
                exit = exit.max(Exit::Degraded);
                let text = format!("member {member} holds other data than the replica before it");
                let hint = "stop that replica, delete its store folder, and let it join again as a new member";
                failures.push(Failure::said(Exit::Degraded, &replica.context, text).hint(hint));
            }
            rows.push(Row {
                context: replica.context,
                member,
                revision: answer.hash_revision,
                compact_revision: answer.compact_revision,
                hash: format!("{:08x}", answer.hash),
                same,
            });
        }
    }
    run.report(&failures);
    run.output.data(&rows, |rows, colour| {
        let mut table = Table::new(["CLUSTER", "MEMBER", "REVISION", "COMPACTED", "HASH", "SAME"]);
        for row in rows {
            let same = if row.same { Cell::toned("yes", Tone::Good) } else { Cell::toned("NO", Tone::Bad) };
            table.row([
                row.context.as_str().into(),
                row.member.as_str().into(),
                row.revision.to_string().into(),
                row.compact_revision.to_string().into(),
                row.hash.as_str().into(),
                same,
            ]);
        }
        table.render(colour)
    })?;
    Ok(exit)
}

#[derive(Debug, Serialize)]
pub(super) struct Saved {
    #[serde(rename = "file")]
    path: String,
    cluster_id: String,
    revision: i64,
    compact_revision: i64,
    keys: u64,
    bytes: u64,
}

impl Saved {
    pub(super) fn new(path: &Path, head: mesh_store::BackupHead) -> Self {
        Self {
            path: path.display().to_string(),
            cluster_id: format!("{:x}", head.cluster_id),
            revision: head.revision,
            compact_revision: head.compact_revision,
            keys: head.keys,
            bytes: head.bytes,
        }
    }
}

pub(super) fn render(saved: &Saved, colour: bool) -> String {
    let mut table = Table::new(["FILE", "STORE", "REVISION", "COMPACTED", "KEYS", "BYTES"]);
    table.row([
        saved.path.as_str().into(),
        saved.cluster_id.as_str().into(),
        saved.revision.to_string().into(),
        saved.compact_revision.to_string().into(),
        saved.keys.to_string().into(),
        saved.bytes.to_string().into(),
    ]);
    table.render(colour)
}

/// Whether a snapshot is whole and can be restored.
pub(crate) fn file(output: Output, path: &Path) -> Result<Exit, Failure> {
    let head = mesh_store::verify_backup(path)
        .map_err(|error| Failure::new(Exit::Failed, path.display().to_string(), &error))?;
    output.data(&Saved::new(path, head), render)?;
    Ok(Exit::Ok)
}
