//! The view as of one revision of the store.

use federation::contract::keys::AUDIENCE;
use mesh_store::Store;
use mesh_store::mvcc::{KeyRange, RangeRequest};
use mesh_types::ClusterName;

use super::{Error, View};
use crate::export::keys::shown_to;

/// Values taken in at once: what they change is of no use here, and of all together it would be as large as the view.
const STEP: usize = 1_000;

/// Everything that the view reads lies in these, the own part of the export with its own audience's. Other clusters' copies
/// are passed over.
fn ranges() -> [KeyRange; 6] {
    let isthmus = KeyRange::prefix("isthmus/v1/");
    let audiences = KeyRange::prefix(AUDIENCE);
    [
        // Whose facts are shown is known before the facts come.
        KeyRange::prefix("cilium/cluster-config/"),
        KeyRange::new(isthmus.key, audiences.key),
        KeyRange::new(audiences.range_end, isthmus.range_end),
        KeyRange::prefix("cilium/cache/"),
        KeyRange::prefix("cilium/state/"),
        KeyRange::prefix("cilium/synced/"),
    ]
}

/// Reads the whole view. `revision` 0 means now; the first read then pins the revision for the others.
pub(super) async fn load(
    store: &dyn Store,
    own: &ClusterName,
    revision: i64,
) -> Result<(View, i64, Vec<Error>), mesh_store::backend::Error> {
    let mut view = View::new(own.clone());
    let mut pinned = revision;
    let mut errors = Vec::new();
    for range in ranges() {
        let request = RangeRequest { range, revision: pinned, ..RangeRequest::default() };
        let response = store.range_through(request, shown_to(own)).await?;
        if pinned == 0 {
            pinned = response.revision;
        }
        for step in response.kvs.chunks(STEP) {
            errors.extend(view.apply_values(step.iter().map(|kv| (&kv.key, Some(&kv.value)))).1);
        }
    }
    Ok((view, pinned, errors))
}
