//! `check-layers`: the direction of dependencies, and which files may name which crates.
//!
//! The rules are data (`rules.rs`); this file says what breaks them. Source of the facts: `cargo metadata`, and the
//! identifiers of every source file.

mod graph;
mod names;
mod rules;

use anyhow::Result;

use self::graph::Graph;
use crate::repo::Repo;

pub(crate) fn check(repo: &Repo) -> Result<Vec<String>> {
    let graph = Graph::read(repo)?;
    let mut findings = dependencies(&graph);
    findings.extend(names::check(repo)?);
    Ok(findings)
}

fn dependencies(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &graph.members {
        let name = package.name.as_str();
        let Some(rule) = rules::PACKAGES.iter().find(|rule| rule.name == name) else {
            findings.push(format!("{name}: no rule says what it may depend on: add it to xtask/src/layers/rules.rs"));
            continue;
        };
        for edge in &package.dependencies {
            let on = edge.name.as_str();
            if graph.is_member(on) {
                let is_binary = rules::PACKAGES.iter().any(|r| r.name == on && r.is_binary);
                let is_allowed = rule.may_use.contains(&on) || rule.may_use.contains(&rules::ANY) || edge.is_dev;
                if is_binary {
                    findings.push(format!("{name} depends on {on}: nothing may depend on a binary package"));
                } else if !is_allowed {
                    findings.push(format!("{name} depends on {on}: it may depend on {}", list(rule.may_use)));
                }
            } else if let Some(holders) = rules::crate_holders(on)
                && !holders.contains(&name)
                && !rule.may_use.contains(&rules::ANY)
            {
                findings.push(format!("{name} depends on {on}: only {} may", list(holders)));
            }
            if let Some(only) = rule.only_crates
                && !only.contains(&on)
            {
                findings.push(format!("{name} depends on {on}: it may only have {}", list(only)));
            }
        }
    }
    for (name, forbidden) in rules::NEVER_REACHES {
        for reached in graph.reaches(name) {
            if forbidden.contains(&reached.as_str()) {
                findings.push(format!("{name} reaches {reached}: pure packages know no runtime, API or kernel"));
            }
        }
    }
    findings
}

fn list(words: &[&str]) -> String {
    if words.is_empty() { "no crate of the workspace".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn dependency(name: &str, kind: impl Into<Value>) -> Value {
        json!({ "name": name, "kind": kind.into() })
    }

    /// A workspace of the given packages, each with its normal dependencies; every crate named exists.
    fn findings(packages: &[(&str, &[Value])]) -> Vec<String> {
        let normal = |d: &&Value| d["kind"].is_null();
        let mut all: Vec<Value> = Vec::new();
        let mut nodes = Vec::new();
        for (name, deps) in packages {
            all.push(json!({ "id": name, "name": name, "dependencies": deps }));
            let edges: Vec<Value> = deps
                .iter()
                .filter(normal)
                .map(|d| json!({ "pkg": d["name"], "dep_kinds": [{ "kind": null }] }))
                .collect();
            nodes.push(json!({ "id": name, "deps": edges }));
        }
        let members: Vec<&str> = packages.iter().map(|(name, _)| *name).filter(|name| *name != "hyper").collect();
        let metadata = json!({ "packages": all, "workspace_members": members, "resolve": { "nodes": nodes } });
        dependencies(&Graph::parse(&metadata.to_string()).unwrap())
    }

    #[test]
    fn the_allowed_direction_passes() {
        let deps = [dependency("mesh-types", Value::Null), dependency("serde", Value::Null)];
        assert!(findings(&[("mesh-types", &[]), ("mesh-proto", &deps)]).is_empty());
    }

    #[test]
    fn the_other_direction_is_named() {
        let up = [dependency("mesh-proto", Value::Null)];
        let down = [dependency("mesh-types", Value::Null)];
        assert_eq!(
            findings(&[("mesh-types", &up), ("mesh-proto", &down)]),
            ["mesh-types depends on mesh-proto: it may depend on no crate of the workspace"]
        );
    }

    #[test]
    fn nothing_depends_on_a_binary_not_even_its_tests() {
        let dev = [dependency("node-agent", "dev")];
        assert_eq!(
            findings(&[("node-agent", &[]), ("meshctl", &dev)]),
            ["meshctl depends on node-agent: nothing may depend on a binary package"]
        );
    }

    #[test]
    fn tests_may_use_what_the_crate_may_not() {
        let dev = [dependency("certs", "dev")];
        assert!(findings(&[("certs", &[]), ("mesh-runtime", &dev)]).is_empty());
    }

    #[test]
    fn a_pure_package_reaches_no_runtime_through_others() {
        let on_hyper = [dependency("hyper", Value::Null)];
        let on_tokio = [dependency("tokio", Value::Null)];
        assert_eq!(
            findings(&[("mesh-types", &on_hyper), ("hyper", &on_tokio)]),
            ["mesh-types reaches tokio: pure packages know no runtime, API or kernel"]
        );
    }

    #[test]
    fn a_crate_with_one_home_stays_there() {
        let deps = [dependency("openraft", Value::Null)];
        assert_eq!(findings(&[("federation", &deps)]), ["federation depends on openraft: only mesh-store may"]);
    }

    #[test]
    fn a_new_package_needs_a_rule() {
        assert_eq!(findings(&[("mesh-proxy", &[])]).len(), 1);
    }
}
