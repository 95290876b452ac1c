//! The mesh's domain words: ids, labels, prefixes, services, nodes, and the merged view's objects.
//!
//! Owns the words and the pure decisions over them (which backends a Service uses, which numbers a cluster may
//! hand out). Must never do I/O, read a clock, or name tokio, kube, tonic or aya.

pub mod cluster;
pub mod exchange;
pub mod identity;
pub mod labels;
pub mod node;
pub mod ports;
pub mod preference;
pub mod prefix;
pub mod select;
pub mod service;
pub mod view;
pub mod withdrawal;

pub use cluster::{ClusterId, ClusterName};
pub use exchange::Exchange;
pub use identity::{IdentityLayout, SecurityIdentity};
pub use labels::{Label, LabelSet};
pub use node::{Node, NodeName};
pub use ports::{NamedPort, Protocol};
pub use preference::{Affinity, Preference};
pub use service::{Backend, BackendState, Frontend, GlobalSettings, ServiceName};
pub use withdrawal::{StaleAfter, WithdrawAfter};
