//! Who is calling, and whether that caller may do what it asks.

use std::fmt::Display;
use std::sync::Arc;

use mesh_store_mvcc::{KeyRange, TxnOp, TxnRequest};
use tonic::{Extensions, Status};

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

type Check = dyn Fn(Access<'_>) -> Result<(), Denied> + Send + Sync;
type Admit = dyn Fn(&Extensions) -> Option<(String, Arc<Check>)> + Send + Sync;

/// Finds the caller of a request and holds the rules for it. The type of principals is the server's own.
#[derive(Clone)]
pub struct Gate(Arc<Admit>);

impl Gate {
    /// `principal_of` reads the principal from a request's extensions; its `Display` names it in metrics.
    pub fn new<P, A, F>(authorizer: A, principal_of: F) -> Self
    where
        P: Display + Send + Sync + 'static,
        A: Authorizer<P>,
        F: Fn(&Extensions) -> Option<P> + Send + Sync + 'static,
    {
        let authorizer = Arc::new(authorizer);
        Self(Arc::new(move |extensions| {
            let principal = principal_of(extensions)?;
            let label = principal.to_string();
            let authorizer = Arc::clone(&authorizer);
            let check: Arc<Check> = Arc::new(move |access| authorizer.check(&principal, access));
            Some((label, check))
        }))
    }

    /// Lets everyone do everything, under one name: for tests and for sockets that only the owner can reach.
    pub fn open(name: &'static str) -> Self {
        Self(Arc::new(move |_| {
            let check: Arc<Check> = Arc::new(|_| Ok(()));
            Some((name.to_owned(), check))
        }))
    }

    pub(crate) fn admit(&self, extensions: &Extensions, metrics: &Metrics) -> Result<Caller, Status> {
        let found = (self.0)(extensions);
        let (label, check) = found.ok_or_else(|| Status::invalid_argument("etcdserver: user name is empty"))?;
        Ok(Caller { label: PrincipalLabel { principal: label.into() }, check, metrics: metrics.clone() })
    }
}

/// The caller of one request or stream.
pub(crate) struct Caller {
    pub(crate) label: PrincipalLabel,
    check: Arc<Check>,
    metrics: Metrics,
}

impl Caller {
    pub(crate) fn read(&self, range: &KeyRange) -> Result<(), Status> {
        self.check(Mode::Read, range)
    }

    pub(crate) fn write(&self, range: &KeyRange) -> Result<(), Status> {
        self.check(Mode::Write, range)
    }

    /// What is not about a range of keys (leases, compaction) is for those who may write everything.
    pub(crate) fn administer(&self) -> Result<(), Status> {
        self.write(&KeyRange::all())
    }

    pub(crate) fn txn(&self, request: &TxnRequest) -> Result<(), Status> {
        for compare in &request.compare {
            self.read(&compare.range)?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|op| match op {
            TxnOp::Range(request) => self.read(&request.range),
            TxnOp::Put(request) => self.change(&KeyRange::single(request.key.clone()), request.prev_kv),
            TxnOp::DeleteRange(request) => self.change(&request.range, request.prev_kv),
            TxnOp::Txn(request) => self.txn(request),
        })
    }

    /// A write that may show what was there before.
    pub(crate) fn change(&self, range: &KeyRange, shows_previous: bool) -> Result<(), Status> {
        self.write(range)?;
        if shows_previous { self.read(range) } else { Ok(()) }
    }

    fn check(&self, mode: Mode, range: &KeyRange) -> Result<(), Status> {
        (self.check)(Access { mode, range }).map_err(|denied| {
            self.metrics.denied.get_or_create(&self.label).inc();
            Status::permission_denied(denied.to_string())
        })
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
