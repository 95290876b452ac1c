//! Whether this kernel, with the rights of this process, takes what the datapath is made of. Tries and leaves nothing.

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};

/// Kinds of programs and maps that the datapath has.
const PROGRAMS: [(&str, ProgramType); 2] =
    [("sched_cls", ProgramType::SchedClassifier), ("cgroup_sock_addr", ProgramType::CgroupSockAddr)];
const MAPS: [(&str, MapType); 5] = [
    ("array", MapType::Array),
    ("hash", MapType::Hash),
    ("lpm_trie", MapType::LpmTrie),
    ("lru_hash", MapType::LruHash),
    ("percpu_hash", MapType::PerCpuHash),
];

/// What is missing, each with why; nothing where all is there.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    for (name, kind) in PROGRAMS {
        missing.extend(told(&format!("programs of type {name}"), is_program_supported(kind)));
    }
    for (name, kind) in MAPS {
        missing.extend(told(&format!("maps of type {name}"), is_map_supported(kind)));
    }
    missing
}

fn told<E: std::error::Error>(what: &str, is_supported: Result<bool, E>) -> Option<String> {
    match is_supported {
        Ok(true) => None,
        Ok(false) => Some(format!("{what}: the kernel has none")),
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Some(format!("{what}: {error}{cause}"))
        }
    }
}
