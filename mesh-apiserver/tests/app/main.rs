//! The whole server in this process, on loopback ports, with real certificates, a real store and real sockets.

mod agents;
mod etcd;
mod harness;
mod manifests;
mod peers;
mod restart;
