//! The own cluster's record, as calls need it.

use federation::{Declaration, peer};
use mesh_runtime::ErrorChain;
use mesh_store::Store;
use tonic::Status;

/// What this cluster declares at the moment.
pub(crate) async fn declaration(store: &dyn Store) -> Result<Declaration, Status> {
    let own = peer::own(store).await.map_err(|error| Status::unavailable(ErrorChain(&error).to_string()))?;
    own.ok_or_else(|| Status::unavailable("this cluster's record is not written yet: try again in a moment"))
}
