//! What the controller of the MCS API holds at the moment, for status and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_types::ServiceName;
use parking_lot::RwLock;

use crate::source::Rejection;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// ServiceImports that this server made and that are there.
    pub imports: usize,
    /// Why objects of a name are not as they should be.
    pub errors: BTreeMap<ServiceName, String>,
    /// Objects and statuses that were written or deleted since this replica began.
    pub writes: u64,
    /// Writes that failed.
    pub failures: u64,
}

impl Status {
    pub fn rejections(&self) -> impl Iterator<Item = Rejection> + '_ {
        self.errors
            .iter()
            .map(|(name, reason)| Rejection { object: format!("ServiceImport {name}"), reason: reason.clone() })
    }
}

/// Read by the admin API and the metrics while the controller writes.
#[derive(Debug, Clone, Default)]
pub struct StatusHandle(Arc<RwLock<Status>>);

impl StatusHandle {
    pub fn get(&self) -> Status {
        self.0.read().clone()
    }

    pub(super) fn change(&self, how: impl FnOnce(&mut Status)) {
        how(&mut self.0.write());
    }
}
