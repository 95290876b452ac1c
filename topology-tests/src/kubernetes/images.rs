//! Container images as files: archives as `docker save` writes them, made of programs of this machine. No registry is asked
//! and no Docker is needed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::proc;

/// What holds a pod's namespaces. The container runtime names it.
pub const PAUSE: &str = "localhost/isthmus-pause:1";
/// `lab-workload` and a shell: serves the ports of `PORTS` and says who it is. `ask-udp ADDRESS:PORT` asks one over UDP.
pub const WORKLOAD: &str = "localhost/isthmus-workload:1";
pub const COREDNS: &str = "localhost/isthmus-coredns:1";

const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const BUSYBOX: &str = "/bin/busybox";
/// Of linked programs, in an image.
const LIBRARIES: &str = "/lib/isthmus";
/// What a person or a test types in a pod.
const APPLETS: [&str; 17] = [
    "cat", "env", "grep", "hostname", "httpd", "ip", "ls", "nc", "nslookup", "ping", "ps", "seq", "sh", "sleep",
    "tail", "timeout", "wget",
];

/// An image that is being put together.
pub struct Image {
    name: String,
    entry: Vec<String>,
    layer: tar::Builder<Vec<u8>>,
}

impl Image {
    /// Of this name with its tag, starting this command.
    pub fn new(name: &str, entry: &[&str]) -> Self {
        let entry = entry.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.to_owned(), entry, layer: tar::Builder::new(Vec::new()) }
    }

    /// Adds a file, to be run, at an absolute path.
    pub fn program(&mut self, at: &str, file: &Path) -> Result<()> {
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        append(&mut self.layer, at.trim_start_matches('/'), &bytes)
    }

    /// Adds a program with the libraries that it is linked with; the image starts it. The libraries lie apart from where a
    /// program looks by itself: a static busybox would load parts of another C library than its own, and fail.
    pub fn linked_program(&mut self, at: &str, file: &Path) -> Result<()> {
        self.program(at, file)?;
        let mut ldd = Command::new("ldd");
        ldd.arg(file);
        let mut loader = None;
        for library in libraries(&proc::output("ldd", ldd)?).map(PathBuf::from) {
            let name = library.file_name().context("a library has a name")?.to_string_lossy().into_owned();
            let inside = format!("{LIBRARIES}/{name}");
            self.program(&inside, &library)?;
            if name.starts_with("ld-") {
                loader = Some(inside);
            }
        }
        self.entry = match loader {
            Some(loader) => vec![loader, "--library-path".into(), LIBRARIES.into(), at.into()],
            None => vec![at.into()],
        };
        Ok(())
    }

    /// Adds a script that starts the image's program with these words, and what else it is given.
    fn script(&mut self, at: &str, words: &str) -> Result<()> {
        let script = format!("#!/bin/sh\nexec {} {words} \"$@\"\n", self.entry.join(" "));
        append(&mut self.layer, at, script.as_bytes())
    }

    /// A link to busybox for each of its programs that this image is to have.
    fn applets(&mut self) -> Result<()> {
        self.program(BUSYBOX, &busybox())?;
        for applet in APPLETS {
            let mut header = header(0, tar::EntryType::Symlink);
            self.layer.append_link(&mut header, format!("bin/{applet}"), BUSYBOX).context("add a link")?;
        }
        Ok(())
    }

    /// Writes the archive.
    pub fn write(self, to: &Path) -> Result<()> {
        let layer = self.layer.into_inner().context("end the layer")?;
        let layer_name = sha256(&layer);
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": self.entry, "Env": [SEARCH_PATH] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_name}")] },
            "history": [],
        })
        .to_string()
        .into_bytes();
        let (config_file, layer_file) = (format!("{}.json", sha256(&config)), format!("{layer_name}/layer.tar"));
        let manifest = json!([{ "Config": config_file, "RepoTags": [self.name], "Layers": [layer_file] }]).to_string();
        let file = File::create(to).with_context(|| format!("create {}", to.display()))?;
        let mut archive = tar::Builder::new(file);
        append(&mut archive, &config_file, &config)?;
        append(&mut archive, &layer_file, &layer)?;
        append(&mut archive, "manifest.json", manifest.as_bytes())?;
        archive.finish().with_context(|| format!("write {}", to.display()))
    }
}

/// Writes the images that every cluster of a run has, and gives their files.
pub fn write_all(folder: &Path, coredns: &Path, workload: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    // It is ended by SIGKILL, as the runtime does with what holds a pod's namespaces.
    let mut pause = Image::new(PAUSE, &[BUSYBOX, "tail", "-f", "/dev/null"]);
    pause.program(BUSYBOX, &busybox())?;
    let mut dns = Image::new(COREDNS, &["/coredns"]);
    dns.program("/coredns", coredns)?;
    let mut server = Image::new(WORKLOAD, &[]);
    server.linked_program("/bin/lab-workload", workload)?;
    server.script("bin/ask-udp", "ask-udp")?;
    server.applets()?;
    let mut files = Vec::new();
    for (name, image) in [("pause", pause), ("coredns", dns), ("workload", server)] {
        let file = folder.join(format!("{name}.tar"));
        image.write(&file)?;
        files.push(file);
    }
    Ok(files)
}

/// Writes an image of busybox by the name that a registry has it under, for manifests that name it so. As there, nothing is
/// started by it that is not named.
pub fn write_busybox(name: &str, to: &Path) -> Result<()> {
    let mut image = Image::new(name, &[]);
    let mut folder = header(0, tar::EntryType::Directory);
    folder.set_mode(0o1777);
    image.layer.append_data(&mut folder, "tmp/", std::io::empty()).context("add a folder")?;
    image.applets()?;
    image.write(to)
}

/// Debian's package `busybox-static` puts it here.
fn busybox() -> PathBuf {
    BUSYBOX.into()
}

/// The paths in what `ldd` prints; a program without libraries has none.
fn libraries(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

fn header(size: usize, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(size as u64);
    header
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = header(bytes.len(), tar::EntryType::Regular);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("add {name} to an archive"))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_names_its_image_its_layer_and_its_config_by_their_sums() {
        let folder = tempfile::tempdir().unwrap();
        let (program, out) = (folder.path().join("p"), folder.path().join("image.tar"));
        std::fs::write(&program, "x").unwrap();
        let mut image = Image::new("localhost/x:1", &["/p"]);
        image.program("/p", &program).unwrap();
        image.write(&out).unwrap();
        let mut archive = tar::Archive::new(File::open(&out).unwrap());
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "localhost/x:1");
        let config = manifest[0]["Config"].as_str().unwrap();
        assert_eq!(config, format!("{}.json", sha256(&files[config])));
        let layer = manifest[0]["Layers"][0].as_str().unwrap();
        assert_eq!(layer, format!("{}/layer.tar", sha256(&files[layer])));
    }

    #[test]
    fn libraries_are_the_paths_that_ldd_names() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld-linux.so.2 (0x7f)\n";
        assert_eq!(libraries(said).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
        assert_eq!(libraries("\tstatically linked\n").count(), 0);
    }
}
