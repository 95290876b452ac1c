//! What the build, the lab and the tests need, each with its Debian package and the reason.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One package, and how to tell that what it brings is there already (also by other means).
pub(super) struct Need {
    pub(super) package: &'static str,
    pub(super) why: &'static str,
    probe: Probe,
}

enum Probe {
    Program(&'static str),
    /// Any of these.
    File(&'static [&'static str]),
    /// A compiler of this age or newer with the source of its own `core`; whether its source is what is looked for.
    BpfCompiler,
}

const fn program(package: &'static str, name: &'static str, why: &'static str) -> Need {
    Need { package, why, probe: Probe::Program(name) }
}

pub(super) const ALL: &[Need] = &[
    program("gcc", "cc", "links every program and compiles the C of the TLS provider"),
    program("g++", "c++", "compiles libFuzzer, which the store's fuzz targets are linked with"),
    Need {
        package: "libc6-dev",
        why: "the C library's headers, for the same",
        probe: Probe::File(&["/usr/include/stdio.h", "/usr/include/x86_64-linux-musl/stdio.h"]),
    },
    program("protobuf-compiler", "protoc", "generates the gRPC code"),
    Need {
        package: "libprotobuf-dev",
        why: "google/protobuf/*.proto, which etcd's API imports",
        probe: Probe::File(&[
            "/usr/include/google/protobuf/descriptor.proto",
            "/usr/local/include/google/protobuf/descriptor.proto",
        ]),
    },
    Need {
        package: "rustc-web",
        why: "compiles the eBPF programs (a nightly with rust-src serves too)",
        probe: Probe::BpfCompiler,
    },
    Need { package: "rust-web-src", why: "the source of `core` for the BPF target", probe: Probe::BpfCompiler },
    Need {
        package: "containernetworking-plugins",
        why: "the lab attaches its pods by real CNI plugins",
        probe: Probe::File(&["/usr/lib/cni/ptp"]),
    },
    program("golang-go", "go", "builds the etcd that the store is tested beside (an old one fetches a newer one)"),
    program("containerd", "containerd", "runs the pods of the tests' real Kubernetes nodes"),
    program("runc", "runc", "the same"),
    Need {
        package: "busybox-static",
        why: "the shell in the images of those tests",
        probe: Probe::File(&["/bin/busybox", "/usr/bin/busybox"]),
    },
    program("iproute2", "ip", "the lab's namespaces and links"),
    program("iptables", "iptables", "masquerade of the CNI plugins"),
    program("nftables", "nft", "faults and packet counters on the lab's WAN"),
    program("util-linux", "nsenter", "entering a node or a pod"),
    program("iputils-ping", "ping", "trying a path by hand"),
    program("procps", "ps", "finding what a lab left behind"),
    program("curl", "curl", "asking a service by hand"),
    Need {
        package: "ca-certificates",
        why: "fetching crates over TLS",
        probe: Probe::File(&["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]),
    },
];

impl Need {
    /// Where it was found.
    pub(super) fn found(&self) -> Option<String> {
        let path = match &self.probe {
            Probe::Program(name) => find_program(name),
            Probe::File(paths) => paths.iter().map(PathBuf::from).find(|path| path.is_file()),
            Probe::BpfCompiler if std::env::var_os("AGENT_EBPF_PREBUILT").is_some() => {
                return Some("not needed: AGENT_EBPF_PREBUILT".to_owned());
            }
            Probe::BpfCompiler => bpf_compiler(),
        };
        path.map(|path| path.display().to_string())
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A root shell without a login may lack the system folders.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The compilers in the order of `agent-ebpf/build.rs`, which decides.
fn bpf_compiler() -> Option<PathBuf> {
    let named = std::env::var_os("AGENT_EBPF_RUSTC").map(PathBuf::from);
    let toolchain = std::env::var("AGENT_EBPF_TOOLCHAIN").ok();
    let by_rustup = toolchain.as_deref().into_iter().chain(["nightly", "stable"]).filter_map(|name| {
        answer(Command::new("rustup").args(["which", "rustc", "--toolchain", name])).map(PathBuf::from)
    });
    named.into_iter().chain(by_rustup).chain([PathBuf::from("/usr/bin/rustc")]).find(|rustc| has_own_source(rustc))
}

fn has_own_source(rustc: &Path) -> bool {
    let Some(version) = answer(Command::new(rustc).arg("--version")) else { return false };
    let mut numbers = version.split([' ', '.', '-']).skip(1).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let Some(sysroot) = answer(Command::new(rustc).args(["--print", "sysroot"])) else { return false };
    version >= (1, 87) && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_why_and_stands_once() {
        for (i, need) in ALL.iter().enumerate() {
            assert!(!need.why.is_empty());
            assert!(ALL[..i].iter().all(|other| other.package != need.package), "{} stands twice", need.package);
        }
    }

    #[test]
    fn a_program_is_found_by_path_and_a_made_up_one_is_not() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-of-isthmus").is_none());
    }
}
