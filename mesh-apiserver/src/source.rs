//! Where objects come from. A source delivers changes of objects and its own status; it knows nothing of keys or stores.
//!
//! ```text
//!  manifests/   a folder of files      --+
//!                                        +--> reader (JSON or YAML to an Object, or why not) --> Batch
//!  kubernetes/  an API server's watches --+
//! ```
//! Both deliver the same objects through the same reader, so that what an object means never depends on where it is from.

pub mod kubernetes;
pub mod manifests;
mod reader;

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::kubernetes::{Access, Kubernetes};
use self::manifests::Manifests;
use crate::objects::{Object, ObjectKey};

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Apply(Box<Object>),
    Delete(ObjectKey),
}

/// What a source found at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// True on the batch that completes the first scan: what was not delivered until now does not exist.
    pub is_complete: bool,
    /// The first scan cannot be completed for now, for a reason that may last (see [`Status::trouble`]); the source goes on
    /// trying. What was exported in a former life is the best there is until then.
    pub is_delayed: bool,
}

/// An object, document or file that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    pub object: String,
    pub reason: String,
}

/// Why a source cannot be followed at the moment. What it told before counts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Nanoseconds since 1970.
    pub since_unix_nanos: u64,
    /// With what to do, where a person can do something.
    pub reason: String,
}

/// What a source holds at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// `manifests` or `kubernetes`; empty on a replica that does not read it.
    pub kind: &'static str,
    /// The folder, or the API server's URL.
    pub location: String,
    pub objects: usize,
    /// Documents of kinds that the mesh does not read.
    pub ignored: usize,
    pub rejections: Vec<Rejection>,
    pub trouble: Option<Trouble>,
    /// Lists (each page counts) and watches asked of an API server since this replica began to read it.
    pub requests: u64,
}

/// Which source a cluster has.
#[derive(Clone)]
pub enum Choice {
    Manifests(PathBuf),
    Kubernetes {
        access: Access,
        /// ServiceImports are followed, too.
        with_imports: bool,
    },
}

/// A source that is not yet followed.
pub enum Source {
    Manifests(Manifests),
    Kubernetes(Kubernetes),
}

/// Why a source ended although nobody asked for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Manifests(#[from] manifests::Error),
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
}

/// Cheap to clone.
#[derive(Clone)]
pub enum StatusHandle {
    Manifests(manifests::StatusHandle),
    Kubernetes(kubernetes::StatusHandle),
}

impl Choice {
    /// Makes the source anew: it knows nothing, and delivers everything once.
    pub fn begin(&self, out: mpsc::Sender<Batch>) -> (Source, StatusHandle) {
        match self {
            Self::Manifests(folder) => {
                let (source, status) = Manifests::new(folder.clone(), out);
                (Source::Manifests(source), StatusHandle::Manifests(status))
            }
            Self::Kubernetes { access, with_imports } => {
                let (source, status) = Kubernetes::new(access.clone(), *with_imports, out);
                (Source::Kubernetes(source), StatusHandle::Kubernetes(status))
            }
        }
    }
}

impl Source {
    /// Follows the source until the consumer goes away. Cancel-safe: dropping the future stops it.
    pub async fn run(self) -> Result<(), Error> {
        match self {
            Self::Manifests(manifests) => Ok(manifests.run().await?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.run().await?),
        }
    }
}

impl StatusHandle {
    pub fn get(&self) -> Status {
        match self {
            Self::Manifests(status) => status.get(),
            Self::Kubernetes(status) => status.get(),
        }
    }
}
