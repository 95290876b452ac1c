//! A real etcd for tests and benchmarks: its programs, built once, and groups of one to five members on loopback. And
//! users of one: a real kube-apiserver, and programs on etcd's Go client, of which one asks as Cilium does.
//!
//! Never part of the product: nothing but tests and benchmarks may depend on it.

mod cluster;
mod go;
mod kube_apiserver;
mod ports;
mod programs;

pub use cluster::{Cluster, ClusterTls, Options};
pub use kube_apiserver::KubeApiserver;
pub use ports::free_ports;
pub use programs::EtcdPeer;
