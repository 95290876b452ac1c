//! Where objects come from. A source delivers changes of objects and its own status; it knows nothing of keys or stores.
//!
//! One source exists: a folder of manifests ([`manifests`]). A Kubernetes source will deliver the same [`Batch`]es.

pub mod manifests;

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
}

/// An object, document or file that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejection {
    pub object: String,
    pub reason: String,
}

/// What a source holds at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub location: String,
    pub objects: usize,
    /// Documents of kinds that the mesh does not read.
    pub ignored: usize,
    pub rejections: Vec<Rejection>,
}
