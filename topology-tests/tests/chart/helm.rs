//! The helm program, and the chart that it is run on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const VARIABLE: &str = "ISTHMUS_HELM";
/// The sets of values that golden renders and dry runs are of.
pub(crate) const SETS: [&str; 4] = ["default", "three-replicas", "load-balancer", "everything"];

pub(crate) struct Helm {
    program: PathBuf,
}

/// What helm ended with.
pub(crate) struct Said {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Helm {
    /// Prints why a test is skipped, where there is none.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let program = named.or_else(in_path).or_else(in_cache);
        if program.is_none() {
            println!("skipped: no helm here; `cargo xtask k8s-tools` builds one, or name one in {VARIABLE}");
        }
        program.map(|program| Self { program })
    }

    pub(crate) fn run(&self, args: &[&str]) -> Result<Said> {
        let output = Command::new(&self.program).args(args).output();
        let output = output.with_context(|| format!("run {}", self.program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Ok(Said { succeeded: output.status.success(), stdout, stderr })
    }

    /// `v4.3.1`
    pub(crate) fn version(&self) -> Result<String> {
        Ok(self.run(&["version", "--short"])?.stdout.trim().to_owned())
    }

    pub(crate) fn template(&self, more: &[&str]) -> Result<Said> {
        let chart = chart().display().to_string();
        self.run(&[&["template", "isthmus", &chart, "--namespace", "isthmus"], more].concat())
    }

    /// The text of a set of values.
    pub(crate) fn render(&self, set: &str) -> Result<String> {
        let values = chart().join(format!("tests/values/{set}.yaml")).display().to_string();
        let said = self.template(&["--values", &values])?;
        ensure!(said.succeeded, "{set} is not rendered:\n{}", said.stderr);
        Ok(said.stdout)
    }

    /// The same as objects.
    pub(crate) fn objects(&self, set: &str) -> Result<Vec<Value>> {
        let text = self.render(set)?;
        let documents = text.split("\n---").map(|part| part.trim_start_matches("---"));
        let mut objects = Vec::new();
        for document in documents {
            let object: Value = serde_saphyr::from_str(document).with_context(|| format!("{set}: {document}"))?;
            if !object.is_null() {
                objects.push(object);
            }
        }
        ensure!(objects.len() > 5, "{set}: {} objects", objects.len());
        Ok(objects)
    }
}

pub(crate) fn chart() -> PathBuf {
    workspace().join("helm/isthmus")
}

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".."))
}

/// Kind and name, for people.
pub(crate) fn label(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("helm")).find(|program| program.is_file())
}

/// The newest by name: versions differ in their last number only.
fn in_cache() -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let tools = std::env::var_os("ISTHMUS_TOOLS").map_or_else(|| cache.join("isthmus/tools"), PathBuf::from);
    let entries = std::fs::read_dir(tools).ok()?.filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("helm-v"));
    folders.map(|entry| entry.path().join("helm")).filter(|program| program.is_file()).max()
}
