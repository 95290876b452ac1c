//! The view as of one revision of the store.

use mesh_store::Store;
use mesh_store::mvcc::RangeRequest;
use mesh_types::ClusterName;

use super::{Error, View};

/// Everything that the view reads lies under these.
const PREFIXES: [&str; 4] = ["cilium/cache/", "cilium/state/", "cilium/synced/", "isthmus/v1/"];

/// Reads the whole view. `revision` 0 means now; the first read then pins the revision for the others.
pub(super) async fn load(
    store: &dyn Store,
    own: &ClusterName,
    revision: i64,
) -> Result<(View, i64, Vec<Error>), mesh_store::backend::Error> {
    let mut view = View::new(own.clone());
    let mut pinned = revision;
    let mut errors = Vec::new();
    for prefix in PREFIXES {
        let response = store.range(RangeRequest { revision: pinned, ..RangeRequest::prefix(prefix) }).await?;
        if pinned == 0 {
            pinned = response.revision;
        }
        errors.extend(view.apply_values(response.kvs.iter().map(|kv| (&kv.key, Some(&kv.value)))).1);
    }
    Ok((view, pinned, errors))
}
