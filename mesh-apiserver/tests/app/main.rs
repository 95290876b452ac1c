//! The whole server in this process, on loopback ports, with real certificates, a real store and real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod advertised;
mod agents;
mod auth;
mod cilium_client;
mod cilium_cluster;
mod etcd;
mod etcdctl;
mod exchange;
mod external;
mod frames;
mod harness;
mod hostile;
mod kill;
mod kubernetes;
mod manifests;
mod members;
mod parting;
mod peers;
mod restart;
mod rotation;
mod service_exports;
mod store;
mod troubleshoot;
