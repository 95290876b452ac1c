//! `meshctl store compact`.

use mesh_proto::v1;
use serde::Serialize;

use super::only;
use crate::admin::Admin;
use crate::app::Run;
use crate::args::store::Compact;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Debug, Serialize)]
struct Compacted {
    context: String,
    revision: i64,
    compact_revision: i64,
}

pub(crate) async fn run(run: &Run, compact: &Compact) -> Result<Exit, Failure> {
    let context = only(run)?;
    let mut admin = Admin::connect(context, run.timeout).await?;
    let answer = admin.store.compact_store(v1::CompactStoreRequest { revision: compact.revision }).await;
    let answer = admin.answer("CompactStore", answer).map_err(|failure| {
        failure.hint("the revision lies between the last compaction and now: see `meshctl store status`")
    })?;
    let compacted = Compacted {
        context: context.name.clone(),
        revision: answer.revision,
        compact_revision: answer.compact_revision,
    };
    run.output.data(&compacted, |done, _| {
        format!(
            "{}: history below {} is gone; the store is at {}\n",
            done.context, done.compact_revision, done.revision
        )
    })?;
    Ok(Exit::Ok)
}
