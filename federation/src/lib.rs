//! Cilium's clustermesh contract, sessions to remote clusters, mirror, liveness, join
