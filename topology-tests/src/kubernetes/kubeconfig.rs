//! One kubeconfig of several, as a person has it who works with more than one cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Writes one of several, each with one context and a user of its own. The first is the current one.
pub fn merge(files: &[PathBuf], into: &Path) -> Result<()> {
    let mut merged = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": [], "current-context": "",
    });
    for file in files {
        let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let mut one: Value = serde_json::from_slice(&text)?;
        let name = one["current-context"].clone();
        one["users"][0]["name"] = name.clone();
        one["contexts"][0]["context"]["user"] = name.clone();
        for list in ["contexts", "clusters", "users"] {
            merged[list].as_array_mut().context("a list")?.push(one[list][0].take());
        }
        if merged["current-context"] == "" {
            merged["current-context"] = name;
        }
    }
    std::fs::write(into, merged.to_string()).with_context(|| format!("write {}", into.display()))
}
