//! One file a verb. Each asks, shows, and says how the run ends.

pub(crate) mod bpf;
pub(crate) mod certs;
pub(crate) mod check;
pub(crate) mod cilium;
pub(crate) mod connect;
pub(crate) mod connectivity;
pub(crate) mod disconnect;
pub(crate) mod get;
pub(crate) mod peers;
pub(crate) mod preflight;
pub(crate) mod release;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod sysdump;
pub(crate) mod token;
pub(crate) mod troubleshoot;
pub(crate) mod version;
