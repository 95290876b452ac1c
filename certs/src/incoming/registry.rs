//! The open connections of all listeners, so that those of a peer can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use mesh_types::ClusterName;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::authorities::Authorities;
use crate::ca_hash::CaHash;
use crate::principal::Principal;
use crate::validity;

/// A process has one; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    /// Lines are added after a handshake and removed when their connection is dropped.
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Line {
    connection: OpenConnection,
    cut: CancellationToken,
}

/// One open connection, as status pages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenConnection {
    pub listener: &'static str,
    pub peer: SocketAddr,
    pub principal: Option<Principal>,
    /// The CA that vouched for the principal.
    pub ca: Option<CaHash>,
    pub since: Timestamp,
}

impl Connections {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts all connections of a joined cluster; their number. Remove it from the authorities first, or it comes back.
    pub fn disconnect(&self, peer: &ClusterName) -> usize {
        self.cut_where(|connection| connection.principal.as_ref().is_some_and(|caller| caller.may_be(peer)))
    }

    /// Cuts those whose CA may no longer vouch for them, as after a rotation; their number.
    pub fn cut_untrusted(&self, authorities: &Authorities) -> usize {
        self.cut_where(|connection| match (&connection.principal, &connection.ca) {
            (Some(principal), Some(ca)) => !authorities.trusts(principal, ca),
            _ => false,
        })
    }

    /// Cuts the connections that match; their number.
    pub fn cut_where(&self, matches: impl Fn(&OpenConnection) -> bool) -> usize {
        let table = self.table.lock();
        let found = table.open.values().filter(|line| matches(&line.connection));
        found.inspect(|line| line.cut.cancel()).count()
    }

    pub fn list(&self) -> Vec<OpenConnection> {
        self.table.lock().open.values().map(|line| line.connection.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.table.lock().open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn register(
        &self,
        listener: &'static str,
        peer: SocketAddr,
        principal: Option<Principal>,
        ca: Option<CaHash>,
    ) -> Entry {
        let cut = CancellationToken::new();
        let connection = OpenConnection { listener, peer, principal, ca, since: validity::now() };
        let mut table = self.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.open.insert(id, Line { connection, cut: cut.clone() });
        Entry { id, cut, table: Arc::clone(&self.table) }
    }
}

/// A connection's line, held by the connection.
pub(super) struct Entry {
    id: u64,
    cut: CancellationToken,
    table: Arc<Mutex<Table>>,
}

impl Entry {
    pub(super) fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.lock().open.remove(&self.id);
    }
}
