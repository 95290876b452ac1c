//! `meshctl store snapshot save` and `restore`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mesh_proto::v1;
use serde::Serialize;

use super::check::{Saved, render};
use super::only;
use crate::admin::Admin;
use crate::app::Run;
use crate::args::store::{Restore, Save};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, path.display().to_string(), error)
}

pub(crate) async fn save(run: &Run, save: &Save) -> Result<Exit, Failure> {
    let context = only(run)?;
    if save.file.exists() {
        let text = "it is there already, and a snapshot is never written over";
        return Err(Failure::said(Exit::Usage, save.file.display().to_string(), text).hint("name another file"));
    }
    let mut admin = Admin::connect(context, run.timeout).await?;
    let answer = admin.store.save_snapshot(v1::SaveSnapshotRequest {}).await;
    let mut chunks = admin.answer("SaveSnapshot", answer)?;
    // Beside, then renamed: what has the name is whole.
    let mut partial = save.file.clone().into_os_string();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let mut out = File::create(&partial).map_err(|error| at(&partial, &error))?;
    loop {
        let chunk = chunks.message().await.map_err(|status| admin.refused("SaveSnapshot", status))?;
        let Some(chunk) = chunk else { break };
        out.write_all(&chunk.data).map_err(|error| at(&partial, &error))?;
    }
    out.sync_all().map_err(|error| at(&partial, &error))?;
    let head = match mesh_store::verify_backup(&partial) {
        Ok(head) => head,
        // An external etcd's own format: etcd's tools check it.
        Err(mesh_store::BackupError::NotABackup { .. }) => {
            fs::rename(&partial, &save.file).map_err(|error| at(&save.file, &error))?;
            crate::output::note(format!(
                "{}: saved in etcd's own format, since this cluster keeps its state in an external etcd; restore it with \
                 etcdutl",
                save.file.display()
            ));
            return Ok(Exit::Ok);
        }
        Err(error) => return Err(Failure::new(Exit::Failed, partial.display().to_string(), &error)),
    };
    fs::rename(&partial, &save.file).map_err(|error| at(&save.file, &error))?;
    run.output.data(&Saved::new(&save.file, head), render)?;
    Ok(Exit::Ok)
}

#[derive(Debug, Serialize)]
struct Restored {
    store: String,
    cluster_id: String,
    from_cluster_id: String,
    revision: i64,
    keys: u64,
}

/// Where mesh-apiserver keeps its store below its state folder.
const STORE: &str = "store";

pub(crate) async fn restore(output: Output, restore: &Restore) -> Result<Exit, Failure> {
    let dir = restore.state_dir.join(STORE);
    let restored = mesh_store::Embedded::restore(&restore.file, &dir).await.map_err(|error| {
        let failure = Failure::new(Exit::Failed, restore.file.display().to_string(), &error);
        match error {
            mesh_store::RestoreError::NotEmpty { .. } => {
                failure.hint("stop its mesh-apiserver and move the old store away, or name another --state-dir")
            }
            _ => failure,
        }
    })?;
    let shown = Restored {
        store: dir.display().to_string(),
        cluster_id: format!("{:x}", restored.cluster_id),
        from_cluster_id: format!("{:x}", restored.backup.cluster_id),
        revision: restored.backup.revision,
        keys: restored.backup.keys,
    };
    output.data(&shown, |shown, _| {
        format!(
            "{}: {} keys at revision {}, as store {} (was {})\n",
            shown.store, shown.keys, shown.revision, shown.cluster_id, shown.from_cluster_id
        )
    })?;
    crate::output::note("next: start one mesh-apiserver on this state folder, with the CA files of the old one in it");
    Ok(Exit::Ok)
}
