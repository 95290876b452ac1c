//! A real etcd for tests and benchmarks: its programs, built once, and groups of one to five members on loopback. And
//! users of one: a real kube-apiserver, and programs on etcd's Go client, of which one asks as Cilium does.
//!
//! Never part of the product: nothing but tests and benchmarks may depend on it.

mod cluster;
mod go;
mod kube_apiserver;
mod machine;
mod module;
mod ports;
mod programs;

pub use cluster::{Cluster, ClusterTls, Options};
pub use go::Go;
pub use kube_apiserver::{KubeApiserver, kubernetes_module, linker_flags};
pub use machine::{VARIABLE as TOOLS_VARIABLE, tools_of_this_machine};
pub use module::required;
pub use ports::free_ports;
pub use programs::{EtcdPeer, lock};
