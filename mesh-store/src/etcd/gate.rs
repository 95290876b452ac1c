//! Who is calling, and whether that caller may do what it asks.

use std::fmt::Display;
use std::sync::Arc;

use mesh_store_mvcc::{KeyRange, Overlay, TxnOp, TxnRequest};
use tonic::{Extensions, Status};

use super::status;
use crate::auth::Users;
use crate::metrics::{Metrics, PrincipalLabel};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Read,
    Write,
}

/// One thing that a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    pub mode: Mode,
    /// The whole of it: all keys must be permitted.
    pub range: &'a KeyRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("etcdserver: permission denied")]
pub struct Denied;

/// The rules: may `principal` do this?
pub trait Authorizer<P>: Send + Sync + 'static {
    fn check(&self, principal: &P, access: Access<'_>) -> Result<(), Denied>;

    /// What this caller sees beside what everybody sees, in the ranges it may read.
    fn overlay(&self, _principal: &P) -> Option<Overlay> {
        None
    }

    /// The name of the store's user that the caller is, so that what that user was granted counts as well. `None` for
    /// callers whom the store's users are no matter of, such as other clusters.
    fn user<'a>(&self, _principal: &'a P) -> Option<&'a str> {
        None
    }
}

/// A role's ranges: what is asked must lie inside one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub read: Vec<KeyRange>,
    pub write: Vec<KeyRange>,
}

impl Grants {
    /// Every key, to read and to write.
    pub fn all() -> Self {
        Self { read: vec![KeyRange::all()], write: vec![KeyRange::all()] }
    }

    pub fn check(&self, access: Access<'_>) -> Result<(), Denied> {
        let granted = match access.mode {
            Mode::Read => &self.read,
            Mode::Write => &self.write,
        };
        if granted.iter().any(|granted| granted.encloses(access.range)) { Ok(()) } else { Err(Denied) }
    }
}

/// A caller with the rules for it.
trait Standing: Send + Sync {
    fn check(&self, access: Access<'_>) -> Result<(), Denied>;
    fn overlay(&self) -> Option<Overlay>;
    fn user(&self) -> Option<&str>;
}

struct Known<P, A> {
    principal: P,
    authorizer: Arc<A>,
}

impl<P: Send + Sync + 'static, A: Authorizer<P>> Standing for Known<P, A> {
    fn check(&self, access: Access<'_>) -> Result<(), Denied> {
        self.authorizer.check(&self.principal, access)
    }

    fn overlay(&self) -> Option<Overlay> {
        self.authorizer.overlay(&self.principal)
    }

    fn user(&self) -> Option<&str> {
        self.authorizer.user(&self.principal)
    }
}

/// Who may do everything.
struct Trusted;

impl Standing for Trusted {
    fn check(&self, _access: Access<'_>) -> Result<(), Denied> {
        Ok(())
    }

    fn overlay(&self) -> Option<Overlay> {
        None
    }

    fn user(&self) -> Option<&str> {
        None
    }
}

type Admit = dyn Fn(&Extensions) -> Option<(String, Arc<dyn Standing>)> + Send + Sync;

/// Finds the caller of a request and holds the rules for it. The type of principals is the server's own.
#[derive(Clone)]
pub struct Gate {
    admit: Arc<Admit>,
    users: Users,
}

impl Gate {
    /// `principal_of` reads the principal from a request's extensions; its `Display` names it in metrics.
    pub fn new<P, A, F>(authorizer: A, principal_of: F) -> Self
    where
        P: Display + Send + Sync + 'static,
        A: Authorizer<P>,
        F: Fn(&Extensions) -> Option<P> + Send + Sync + 'static,
    {
        let authorizer = Arc::new(authorizer);
        let admit = move |extensions: &Extensions| {
            let principal = principal_of(extensions)?;
            let label = principal.to_string();
            let standing: Arc<dyn Standing> = Arc::new(Known { principal, authorizer: Arc::clone(&authorizer) });
            Some((label, standing))
        };
        Self { admit: Arc::new(admit), users: Users::default() }
    }

    /// Lets the store's users do what they were granted, as `users` knows it; somebody else keeps that up to date.
    #[must_use]
    pub fn with_users(self, users: Users) -> Self {
        Self { users, ..self }
    }

    /// What is known of the store's users.
    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// Lets everyone do everything, under one name: for tests and for sockets that only the owner can reach.
    pub fn open(name: &'static str) -> Self {
        let standing: Arc<dyn Standing> = Arc::new(Trusted);
        Self { admit: Arc::new(move |_| Some((name.to_owned(), Arc::clone(&standing)))), users: Users::default() }
    }

    pub(crate) fn admit(&self, extensions: &Extensions, metrics: &Metrics) -> Result<Caller, Status> {
        let found = (self.admit)(extensions);
        let (label, standing) = found.ok_or_else(|| Status::invalid_argument("etcdserver: user name is empty"))?;
        let label = PrincipalLabel { principal: label.into() };
        Ok(Caller { label, standing, users: self.users.clone(), metrics: metrics.clone() })
    }
}

/// The caller of one request or stream.
pub(crate) struct Caller {
    pub(crate) label: PrincipalLabel,
    standing: Arc<dyn Standing>,
    users: Users,
    metrics: Metrics,
}

impl Caller {
    /// The store's user that this is.
    pub(crate) fn user(&self) -> Option<&str> {
        self.standing.user()
    }

    pub(crate) fn read(&self, range: &KeyRange) -> Result<(), Status> {
        self.check(Mode::Read, range)
    }

    /// What of a range this caller sees in another place than everybody; `None` where that is nothing.
    pub(crate) fn overlay(&self, range: &KeyRange) -> Option<Overlay> {
        self.standing.overlay().filter(|overlay| overlay.part(range).is_some())
    }

    pub(crate) fn write(&self, range: &KeyRange) -> Result<(), Status> {
        self.check(Mode::Write, range)
    }

    /// What is not about a range of keys (members, compaction, users) is for those who may write everything.
    pub(crate) fn administer(&self) -> Result<(), Status> {
        self.write(&KeyRange::all())
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.may(Access { mode: Mode::Write, range: &KeyRange::all() })
    }

    /// Leases are for those who may write something to put on them.
    pub(crate) fn use_leases(&self) -> Result<(), Status> {
        let writes = self.user().is_some_and(|user| self.users.writes(user));
        if writes { Ok(()) } else { self.administer() }
    }

    pub(crate) fn txn(&self, request: &TxnRequest) -> Result<(), Status> {
        for compare in &request.compare {
            self.read_plainly(&compare.range)?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|op| match op {
            TxnOp::Range(request) => self.read_plainly(&request.range),
            TxnOp::Put(request) => self.change(&KeyRange::single(request.key.clone()), request.prev_kv),
            TxnOp::DeleteRange(request) => self.change(&request.range, request.prev_kv),
            TxnOp::Txn(request) => self.txn(request),
        })
    }

    /// A read inside a transaction, which knows no overlay: half of the truth would be taken for the whole.
    fn read_plainly(&self, range: &KeyRange) -> Result<(), Status> {
        self.read(range)?;
        match self.overlay(range) {
            None => Ok(()),
            Some(_) => Err(status::not_served(
                "a transaction over keys of which this caller sees others than everybody (Range and Watch show them)",
            )),
        }
    }

    /// A write that may show what was there before.
    pub(crate) fn change(&self, range: &KeyRange, shows_previous: bool) -> Result<(), Status> {
        self.write(range)?;
        if shows_previous { self.read(range) } else { Ok(()) }
    }

    fn may(&self, access: Access<'_>) -> bool {
        self.standing.check(access).is_ok() || self.user().is_some_and(|user| self.users.may(user, access))
    }

    fn check(&self, mode: Mode, range: &KeyRange) -> Result<(), Status> {
        if self.may(Access { mode, range }) {
            return Ok(());
        }
        self.metrics.denied.get_or_create(&self.label).inc();
        Err(Status::permission_denied(Denied.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_must_lie_inside_one_granted_range() {
        let grants = Grants {
            read: vec![KeyRange::prefix("cilium/state/"), KeyRange::single("cilium/cluster-config/a")],
            write: vec![],
        };
        let read = |range: &KeyRange| grants.check(Access { mode: Mode::Read, range });
        assert_eq!(read(&KeyRange::prefix("cilium/state/ip/")), Ok(()));
        assert_eq!(read(&KeyRange::single("cilium/cluster-config/a")), Ok(()));
        assert_eq!(read(&KeyRange::prefix("cilium/cluster-config/a")), Err(Denied));
        assert_eq!(read(&KeyRange::prefix("cilium/")), Err(Denied));
        assert_eq!(read(&KeyRange::from_key("cilium/state/")), Err(Denied));
        let range = KeyRange::single("cilium/state/x");
        assert_eq!(grants.check(Access { mode: Mode::Write, range: &range }), Err(Denied));
    }
}
