//! What a `go.mod` says of its requirements.

use std::path::Path;

use anyhow::{Context, Result};

/// The version of a module that the `go.mod` in this folder requires: `v1.37.2` of `k8s.io/kubernetes`.
///
/// # Errors
/// Where the file cannot be read or does not require the module.
pub fn required(folder: &Path, module: &str) -> Result<String> {
    let file = folder.join("go.mod");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != module).skip(1);
    // A tool is named without a version, and may have the name of its module.
    let version = words.find(|word| word.starts_with('v')).map(str::to_owned);
    version.with_context(|| format!("{} does not require {module}", file.display()))
}
