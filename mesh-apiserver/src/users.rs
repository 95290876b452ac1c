//! Keeps what the store's users may do in step with their record, and with it the names that the own CA may vouch for.

use std::collections::BTreeMap;
use std::sync::Arc;

use certs::{Authorities, Connections, OpenConnection, Role};
use mesh_runtime::{ErrorChain, Shutdown};
use mesh_store::Store;
use mesh_store::auth::{self, RecordError, Users};
use mesh_store::etcd::Grants;
use mesh_store::mvcc::KeyRange;

use crate::follow::{self, Changes};

pub struct UserRights {
    pub store: Arc<dyn Store>,
    pub users: Users,
    pub authorities: Arc<Authorities>,
    pub connections: Connections,
}

impl UserRights {
    pub async fn run(self, shutdown: Shutdown) -> Result<(), follow::Error> {
        shutdown.unless_requested(self.run_on()).await.unwrap_or(Ok(()))
    }

    async fn run_on(self) -> Result<(), follow::Error> {
        let mut changes = Changes::new(&self.store, KeyRange::single(auth::KEY), "the record of users");
        let mut before = BTreeMap::new();
        loop {
            changes.next().await?;
            self.reread().await;
            let now = self.users.grants();
            self.apply(&before, &now);
            before = now;
        }
    }

    /// Tries until the store could be read. A record that cannot be understood leaves everybody what they had.
    async fn reread(&self) {
        let mut backoff = follow::backoff();
        while let Err(error) = self.users.refresh(&*self.store).await {
            tracing::warn!(error = %ErrorChain(&error), "users and roles cannot be read: they stay as they are");
            match error {
                RecordError::Store(_) => backoff.wait().await,
                _ => return,
            }
        }
    }

    /// Names are admitted and refused at the next handshake. Who lost something is cut off: an open watch would otherwise
    /// go on with what its user may read no more. Clients come back by themselves, and are then asked again.
    fn apply(&self, before: &BTreeMap<String, Grants>, now: &BTreeMap<String, Grants>) {
        self.authorities.set_users(now.keys().cloned().collect());
        let lost = |user: &str| {
            let now = now.get(user);
            before.get(user).is_some_and(|before| !now.is_some_and(|now| covers(now, before)))
        };
        let is_theirs = |connection: &OpenConnection| {
            let Some(principal) = &connection.principal else { return false };
            match principal.role() {
                Role::User(name) => lost(name),
                Role::Local => lost(&principal.name),
                // What these have is theirs without the store's users.
                Role::Admin | Role::Replica | Role::Agent(_) | Role::Remote(_) | Role::SharedRemote(_) => false,
            }
        };
        let cut = self.connections.cut_where(is_theirs);
        if cut > 0 {
            tracing::info!(connections = cut, "cut: their users may do less than before");
        }
    }
}

/// True when `now` permits all that `before` did.
fn covers(now: &Grants, before: &Grants) -> bool {
    let covers = |now: &[KeyRange], before: &[KeyRange]| {
        before.iter().all(|range| now.iter().any(|granted| granted.encloses(range)))
    };
    covers(&now.read, &before.read) && covers(&now.write, &before.write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_more_has_lost_nothing() {
        let grants = |read: &[&'static str]| Grants {
            read: read.iter().map(|prefix| KeyRange::prefix(*prefix)).collect(),
            write: Vec::new(),
        };
        assert!(covers(&grants(&["a/", "b/"]), &grants(&["a/x/"])));
        assert!(covers(&Grants::all(), &grants(&["a/"])));
        assert!(covers(&Grants::default(), &Grants::default()));
        assert!(!covers(&grants(&["a/x/"]), &grants(&["a/"])));
        assert!(!covers(&grants(&["a/"]), &Grants::all()));
    }
}
