//! What every user may do, as this replica knows it: asked for at each request, so nothing is read from the store there.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::record::{Ledger, RecordError};
use crate::backend::Store;
use crate::etcd::{Access, Grants};

/// Clones share the same knowledge. It is empty until the first [`Users::refresh`], so nobody may do anything by it.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<watch::Sender<Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    cluster_id: u64,
    mod_revision: i64,
    is_enabled: bool,
    grants: BTreeMap<String, Grants>,
}

impl Users {
    /// Reads the record as this replica has it, which the watch of the record told about.
    pub async fn refresh(&self, store: &dyn Store) -> Result<(), RecordError> {
        let ledger = Ledger::read(store, true).await?;
        self.learn(store.cluster_id(), &ledger);
        Ok(())
    }

    /// Takes over what was read, unless something newer is known.
    pub(crate) fn learn(&self, cluster_id: u64, ledger: &Ledger) {
        // A record that was deleted has no revision of its own.
        let mod_revision = if ledger.mod_revision == 0 { ledger.revision } else { ledger.mod_revision };
        self.0.send_if_modified(|known| {
            let is_newer = known.cluster_id != cluster_id || known.mod_revision < mod_revision;
            if is_newer {
                let book = &ledger.book;
                let grants = book.users().filter_map(|user| Some((user.clone(), book.grants(user)?)));
                *known = Known { cluster_id, mod_revision, is_enabled: book.is_enabled(), grants: grants.collect() };
            }
            is_newer
        });
    }

    /// All users with what they may do now: nothing, while users do not count.
    pub fn grants(&self) -> BTreeMap<String, Grants> {
        let known = self.0.borrow();
        let now = |grants: &Grants| if known.is_enabled { grants.clone() } else { Grants::default() };
        known.grants.iter().map(|(user, grants)| (user.clone(), now(grants))).collect()
    }

    /// Whether the user's roles permit this.
    pub fn may(&self, user: &str, access: Access<'_>) -> bool {
        let known = self.0.borrow();
        known.is_enabled && known.grants.get(user).is_some_and(|grants| grants.check(access).is_ok())
    }

    /// Whether the user may write any key at all.
    pub fn writes(&self, user: &str) -> bool {
        let known = self.0.borrow();
        known.is_enabled && known.grants.get(user).is_some_and(|grants| !grants.write.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use mesh_store_mvcc::KeyRange;

    use super::*;
    use crate::auth::{Book, Change};
    use crate::etcd::Mode;

    fn ledger(changes: &[Change], revision: i64) -> Ledger {
        let mut book = Book::default();
        for change in changes {
            book.apply(change).unwrap();
        }
        Ledger { book, mod_revision: revision, revision }
    }

    #[test]
    fn users_count_while_they_are_switched_on_and_older_news_is_no_news() {
        let root = || "root".to_owned();
        let mut changes = vec![Change::UserAdd { user: root() }, Change::UserGrantRole { user: root(), role: root() }];
        let users = Users::default();
        let may = |users: &Users| users.may("root", Access { mode: Mode::Write, range: &KeyRange::all() });
        users.learn(1, &ledger(&changes, 5));
        assert!(!may(&users) && !users.writes("root"), "not switched on");
        assert_eq!(users.grants()["root"], Grants::default());
        changes.push(Change::Enable);
        users.learn(1, &ledger(&changes, 7));
        assert!(may(&users) && users.writes("root"));
        users.learn(1, &ledger(&[], 6));
        assert!(may(&users), "a read that was overtaken changes nothing");
        // The record was deleted at revision 8, and another store starts again from 1.
        users.learn(1, &Ledger { revision: 8, ..Ledger::default() });
        assert!(!may(&users));
        users.learn(2, &ledger(&changes, 3));
        assert!(may(&users));
    }
}
