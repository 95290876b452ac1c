//! The store in a simulated world, and the checks that judge what its clients saw.
//!
//! Replicas are the real ones (`mesh_store::Embedded`); only the disk, the network and the clock are simulated. Nothing here
//! is ever part of a program that people run.

pub mod check;
pub mod entropy;
pub mod history;
pub mod power;
mod trace;
pub mod world;

pub use trace::Trace;
