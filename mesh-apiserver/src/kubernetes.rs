//! What this server asks of its own cluster's Kubernetes API beside objects: who somebody is and what they may do, the two
//! objects that hold the cluster's CA and the bundle by which agents trust it, and the objects of the MCS API.
//!
//! ```text
//!  an agent's ServiceAccount token --AgentAccount--> TokenReview --------------------------> its node, or why not
//!  a person's bearer token ----------Delegates-----> TokenReview, SubjectAccessReview -----> a user, or why not
//!  credentials ----------------------CaSecret------> Secret     (ca.crt ca.key, next.crt next.key)
//!  what the cluster trusts ----------TrustMap------> ConfigMap  (ca.crt)
//!  who is in the mesh, its settings --MeshObjects--> ClusterPeering, MeshConfig, the Secrets they name, Events
//!  the cluster set's Services -------McsObjects----> ServiceImport, Service, EndpointSlice, status of ServiceExport
//! ```
//! What an answer means is decided in pure functions, apart from the asking.
//!
//! Must never log, keep or quote a token or a key. A question that is not answered is a refusal.

mod agent_account;
mod ca_secret;
mod client;
pub mod crd;
mod delegates;
mod figures;
mod mcs_objects;
mod mesh_config;
mod mesh_objects;
mod name;
mod peerings;
mod reviews;
mod shelf;
mod trust_map;

pub use agent_account::{AgentAccount, Refusal};
pub use ca_secret::{CaSecret, SecretError};
pub use client::{Client, Error};
pub use delegates::{Delegates, Denied, Right, User};
pub use figures::Figures;
pub use mcs_objects::{McsObjects, Target, WriteError};
pub use mesh_objects::{MeshObjects, Started};
pub use name::NamespacedName;
pub(crate) use name::is_label;
pub use reviews::Reviews;
pub use trust_map::TrustMap;
