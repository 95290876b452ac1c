//! The README's table of values, `values.yaml` and the schema name the same values with the same defaults. Needs no helm.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::helm::chart;

/// Values that a row describes as a whole, in words.
const WHOLE: [&str; 4] = ["resources", "nodeSelector", "tolerations", "podCgroups"];

#[test]
fn the_readme_lists_every_value_with_its_default_and_no_other() -> Result<()> {
    let values = leaves()?;
    let text = std::fs::read_to_string(chart().join("README.md")).context("the chart's README")?;
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, default, means] = cells[..] else { continue };
        let name = name.trim_matches('`').to_owned();
        ensure!(!means.trim_matches(['|', ' ']).is_empty(), "{name} has no meaning in the README");
        ensure!(rows.insert(name.clone(), default.to_owned()).is_none(), "{name} stands twice in the README");
    }
    for (path, value) in &values {
        let row = rows.remove(path).with_context(|| format!("{path} is missing in the README's table"))?;
        let is_whole = WHOLE.iter().any(|word| path.ends_with(word)) && value.to_string().len() > 2;
        let shown = match value {
            Value::String(text) if !text.is_empty() => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        ensure!(is_whole || row == shown, "{path}: the README says {row}, values.yaml {shown}");
    }
    ensure!(rows.is_empty(), "in the README's table and not in values.yaml: {:?}", rows.keys());
    Ok(())
}

#[test]
fn the_schema_knows_every_value() -> Result<()> {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).context("the schema")?;
    let schema: Value = serde_json::from_str(&text).context("the schema is no JSON")?;
    for (path, _) in leaves()? {
        let mut at = &schema;
        for step in path.split('.') {
            at = resolve(&schema, &at["properties"][step]);
            ensure!(!at.is_null(), "the schema has nothing at {path}");
        }
    }
    Ok(())
}

#[test]
fn no_object_of_the_schema_takes_unknown_keys() -> Result<()> {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).context("the schema")?;
    let schema: Value = serde_json::from_str(&text).context("the schema is no JSON")?;
    let mut open = vec![("".to_owned(), &schema)];
    let mut seen = 0;
    while let Some((path, at)) = open.pop() {
        if let Some(properties) = at["properties"].as_object() {
            seen += 1;
            ensure!(at["additionalProperties"] == false, "{path} takes any key");
            open.extend(properties.iter().map(|(name, at)| (format!("{path}/{name}"), at)));
        }
        for (name, at) in at["$defs"].as_object().into_iter().flatten() {
            open.push((format!("{path}/$defs/{name}"), at));
        }
    }
    ensure!(seen > 15, "only {seen} objects were looked at");
    Ok(())
}

fn resolve<'a>(schema: &'a Value, at: &'a Value) -> &'a Value {
    let name = at["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(at, |name| &schema["$defs"][name])
}

/// All values by path; lists and empty objects are values.
fn leaves() -> Result<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(chart().join("values.yaml")).context("values.yaml")?;
    let all: Value = serde_saphyr::from_str(&text).context("values.yaml is no YAML")?;
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), all)];
    while let Some((path, value)) = open.pop() {
        let is_whole = WHOLE.iter().any(|word| path.ends_with(word));
        match value {
            Value::Object(fields) if !fields.is_empty() && !is_whole => {
                let dot = if path.is_empty() { "" } else { "." };
                open.extend(fields.into_iter().map(|(name, value)| (format!("{path}{dot}{name}"), value)));
            }
            value => drop(found.insert(path, value)),
        }
    }
    ensure!(found.len() > 50, "only {} values were found", found.len());
    Ok(found)
}
