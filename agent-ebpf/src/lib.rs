//! The eBPF objects and typed access to their maps
