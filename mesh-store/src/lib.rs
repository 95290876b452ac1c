//! The Raft-replicated store and its etcd v3 services
