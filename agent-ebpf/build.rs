//! Builds `ebpf/` for the BPF target with whichever toolchain of this machine has the source of its own `core`.
//!
//! `core` compiles only with the compiler that it was released with, so the workspace's pinned toolchain is of no use here.
//! In order: `AGENT_EBPF_RUSTC`, the rustup toolchain `AGENT_EBPF_TOOLCHAIN`, rustup's nightly and stable, `/usr/bin/rustc`
//! (Debian: packages rustc-web and rust-web-src). bpf-linker is built once, against that compiler's own LLVM.
//! `AGENT_EBPF_PREBUILT=<folder>` takes finished objects instead; `AGENT_BPF_LINKER=<path>` a finished linker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const OLDEST_RUSTC: (u32, u32) = (1, 87);
const LINKER_VERSION: &str = "0.13.0";
const OBJECTS: [&str; 2] = ["datapath", "testrun"];
const TARGET: &str = "bpfel-unknown-none";

struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    sysroot: PathBuf,
    release: String,
    llvm: String,
}

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in ["ebpf/src", "ebpf/Cargo.toml", "ebpf/Cargo.lock", "../agent-ebpf-common/src", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["AGENT_EBPF_PREBUILT", "AGENT_EBPF_RUSTC", "AGENT_EBPF_TOOLCHAIN", "AGENT_BPF_LINKER"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Some(folder) = env::var_os("AGENT_EBPF_PREBUILT") {
        collect(Path::new(&folder), &out);
        return;
    }
    let toolchain = choose_toolchain();
    // OUT_DIR is <target>/<profile>/build/<package>/out: all profiles, and clippy, share <target>/ebpf.
    let shared = out.ancestors().nth(4).expect("OUT_DIR is five levels deep").join("ebpf");
    let linker = linker(&toolchain, &shared.join("tools"));
    let built = build_programs(&toolchain, &linker, &package.join("ebpf"), &shared.join("target"));
    collect(&built, &out);
}

fn collect(from: &Path, out: &Path) {
    for object in OBJECTS {
        let (source, target) = (from.join(object), out.join(object));
        fs::copy(&source, target).unwrap_or_else(|e| panic!("copy the eBPF object {}: {e}", source.display()));
    }
}

fn build_programs(toolchain: &Toolchain, linker: &Path, package: &Path, target_dir: &Path) -> PathBuf {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let flags = [
        "--cfg".to_owned(),
        format!("bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let status = nested(&toolchain.cargo)
        .current_dir(package)
        .args(["build", "--quiet", "--release", "--locked", "--bins", "-Zbuild-std=core", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .status();
    let status = status.unwrap_or_else(|e| panic!("start {}: {e}", toolchain.cargo.display()));
    assert!(
        status.success(),
        "the eBPF programs do not build with rustc {} (LLVM {})",
        toolchain.release,
        toolchain.llvm
    );
    target_dir.join(TARGET).join("release")
}

fn choose_toolchain() -> Toolchain {
    let mut candidates = Vec::new();
    candidates.extend(env::var_os("AGENT_EBPF_RUSTC").map(PathBuf::from));
    let named = env::var("AGENT_EBPF_TOOLCHAIN").ok();
    for name in named.as_deref().into_iter().chain(["nightly", "stable"]) {
        let mut rustup = Command::new("rustup");
        rustup.args(["which", "rustc", "--toolchain", name]);
        candidates.extend(stdout(&mut rustup).map(PathBuf::from));
    }
    candidates.push("/usr/bin/rustc".into());
    let mut refused = Vec::new();
    for rustc in candidates {
        match probe(&rustc) {
            Ok(toolchain) => return toolchain,
            Err(why) => refused.push(format!("  {}: {why}", rustc.display())),
        }
    }
    panic!(
        "no compiler here can build eBPF: it takes a rustc with the source of its own core\n{}\n\
         hint: `rustup toolchain install nightly --component rust-src`, or on Debian 12 \
         `apt-get install --no-install-recommends rustc-web rust-web-src`",
        refused.join("\n")
    );
}

fn probe(rustc: &Path) -> Result<Toolchain, String> {
    let about = stdout(Command::new(rustc).arg("-vV")).ok_or("does not run")?;
    let field = |name: &str| about.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let (release, llvm) = (field("release:"), field("LLVM version:"));
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_RUSTC {
        return Err(format!("is {release}, older than {}.{}", OLDEST_RUSTC.0, OLDEST_RUSTC.1));
    }
    let sysroot = stdout(Command::new(rustc).args(["--print", "sysroot"])).ok_or("does not tell its sysroot")?;
    let sysroot = PathBuf::from(sysroot);
    if !sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        return Err(format!("{release} has no rust-src in {}", sysroot.display()));
    }
    let beside = rustc.with_file_name("cargo");
    let cargo = if beside.is_file() { beside } else { own_cargo() };
    Ok(Toolchain { rustc: rustc.to_owned(), cargo, sysroot, release, llvm })
}

/// A linker with another LLVM than the compiler's cannot read its bitcode, so it is linked against that very library.
fn linker(toolchain: &Toolchain, tools: &Path) -> PathBuf {
    if let Some(path) = env::var_os("AGENT_BPF_LINKER") {
        return path.into();
    }
    let root = tools.join(format!("bpf-linker-{LINKER_VERSION}-llvm-{}", toolchain.llvm));
    let linker = root.join("bin/bpf-linker");
    if stdout(Command::new(&linker).arg("--version")).is_some() {
        return linker;
    }
    let library = llvm_library(toolchain).unwrap_or_else(|| {
        panic!(
            "rustc {} has no shared libLLVM {} to link bpf-linker with\nhint: install bpf-linker and set AGENT_BPF_LINKER",
            toolchain.release, toolchain.llvm
        )
    });
    let lib = root.join("llvm/lib");
    fs::create_dir_all(&lib).unwrap_or_else(|e| panic!("create {}: {e}", lib.display()));
    let real_name = library.file_name().expect("a library has a name");
    for name in ["libLLVM.so".as_ref(), real_name] {
        let link = lib.join(name);
        if fs::symlink_metadata(&link).is_ok() {
            fs::remove_file(&link).unwrap_or_else(|e| panic!("remove {}: {e}", link.display()));
        }
        std::os::unix::fs::symlink(&library, &link).unwrap_or_else(|e| panic!("link {}: {e}", link.display()));
    }
    println!("cargo:warning=building bpf-linker {LINKER_VERSION} with {} (once)", library.display());
    let major = toolchain.llvm.split('.').next().unwrap_or_default();
    let status = nested(&own_cargo())
        .args(["install", "--quiet", "--force", "bpf-linker", "--locked", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{major}"), "--root"])
        .arg(&root)
        .arg("--target-dir")
        .arg(tools.join("build"))
        .env("LLVM_PREFIX", root.join("llvm"))
        // Its work is done in LLVM: quick to build matters more than what little of it is its own.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .status();
    assert!(status.is_ok_and(|s| s.success()), "bpf-linker {LINKER_VERSION} does not build; see above");
    linker
}

fn llvm_library(toolchain: &Toolchain) -> Option<PathBuf> {
    let major = toolchain.llvm.split('.').next()?;
    let lib = toolchain.sysroot.join("lib");
    let folders = [lib.clone(), lib.join("x86_64-linux-gnu"), lib.join("aarch64-linux-gnu")];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let wanted = format!("libLLVM.so.{major}");
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&wanted)))
}

fn own_cargo() -> PathBuf {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

/// A cargo that knows nothing of the one that runs this script: its wrappers, flags and profile are for another target.
fn nested(cargo: &Path) -> Command {
    const PREFIXES: [&str; 6] =
        ["CARGO_PROFILE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_TARGET_", "CARGO_BUILD_", "CARGO_UNSTABLE_"];
    const NAMES: [&str; 11] = [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
        "HOST",
        "OUT_DIR",
        "LD_LIBRARY_PATH",
    ];
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&text.as_ref()) || PREFIXES.iter().any(|p| text.starts_with(p)) {
            command.env_remove(&name);
        }
    }
    command
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
