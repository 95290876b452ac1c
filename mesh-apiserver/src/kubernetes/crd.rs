//! The mesh's own kinds of objects, `mesh.isthmus.io/v1alpha1`: their fields, the rules that the API server holds them to, and
//! the CustomResourceDefinitions that are made of both.
//!
//! What the API server can refuse it refuses, by schema or CEL, with a message that says what to do. What takes a look at the
//! mesh or at a Secret is said in a condition. Must hold no logic: what objects lead to is `super::peerings`' and
//! `super::mesh_config`'s.

mod condition;
mod mesh_config;
mod peering;
mod render;

pub use condition::Condition;
pub(super) use condition::{Said, merged};
pub use mesh_config::{MeshConfig, MeshConfigSpec, MeshConfigStatus, SINGLETON};
pub use peering::{
    ClusterPeering, ClusterPeeringSpec, ClusterPeeringStatus, Datapath, Declared, Encryption, SecretRef,
};
pub use render::definitions;

/// The group of both.
pub const GROUP: &str = "mesh.isthmus.io";
