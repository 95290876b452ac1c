//! The lab: clusters, nodes and pods as network namespaces on one Linux machine, with real CNI plugins and real processes.
//! Owns everything that it makes and removes it whole; changes nothing in the machine's own namespace.
//!
//! ```text
//! topology ──> wiring (namespaces, veths, routes) ──> node (mount namespace) ──> kubelet (CNI, pods, probes)
//! manifests ─> control_plane (Pod, Service, EndpointSlice files) ──> mesh-apiserver ──> node-agent   (mesh, components)
//! lab: all of it together        wan: faults, counters        load: requests, records        teardown: by name alone
//! docs: the pages that users read, for the tests that run their commands
//! ```

pub mod bench;
pub mod binaries;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod cni;
pub mod components;
pub mod control_plane;
pub mod deadline;
pub mod demo;
pub mod disk;
pub mod docs;
pub mod etcd_access;
pub mod guard;
pub mod inject;
pub mod kubelet;
pub mod kubernetes;
pub mod lab;
pub mod load;
pub mod manifest;
pub mod mesh;
pub mod metrics;
pub mod mock;
pub mod names;
pub mod netns;
pub mod node;
pub mod nursery;
pub mod place;
pub mod probe;
pub mod proc;
pub mod provider;
pub mod requirements;
pub mod scenario;
pub mod teardown;
mod throttle;
pub mod topology;
pub mod traffic;
pub mod wan;
pub mod wiring;
pub mod workload;
