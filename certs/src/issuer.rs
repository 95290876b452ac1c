//! The CA that signs at the moment.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::root_ca::RootCa;

/// Shared by all that sign; a rotation replaces what is in it.
#[derive(Debug)]
pub struct LiveCa {
    /// Written by the rotation, read at every signature.
    current: ArcSwap<RootCa>,
}

impl LiveCa {
    pub fn new(ca: RootCa) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(ca) })
    }

    pub fn get(&self) -> Arc<RootCa> {
        self.current.load_full()
    }

    pub fn replace(&self, ca: RootCa) {
        tracing::info!(ca = %ca.hash(), "leaves are signed by this CA from now on");
        self.current.store(Arc::new(ca));
    }
}
