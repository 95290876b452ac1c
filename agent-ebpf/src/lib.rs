//! The eBPF programs, embedded, and the only code that talks to them: loading, pinning, attaching, typed maps.
//!
//! Owns `<bpffs>/isthmus/v1/{maps,programs,links}`. Must never decide what goes into a map: it writes what it is given.
//!
//! ```text
//!   Datapath::load_or_adopt ─┬─ maps/NAME       created once, found again by every later agent
//!                            ├─ programs/NAME   replaced at every start
//!                            └─ links/NAME-N    kept; their program is exchanged atomically
//! ```
//! Nothing here needs a process to live: what is pinned goes on working while the agent is away.

pub mod datapath;
pub mod features;
pub mod links;
pub mod maps;
pub mod pins;
pub mod sizes;
pub mod testrun;

mod sys;

pub use agent_ebpf_common as common;
pub use datapath::Datapath;
pub use maps::Maps;
pub use pins::Pins;
pub use sizes::Sizes;
