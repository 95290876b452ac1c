//! The alert rules that `docs/store-operations.md` offers: about figures that there are, and in a form that Prometheus takes.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::path::Path;
use std::process::Command;

use mesh_store::Metrics;
use mesh_store::etcd::Figures;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Where Prometheus' own checker is, if not on the search path.
const PROMTOOL: &str = "ISTHMUS_PROMTOOL";

fn rules() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/store-operations.md");
    let text = std::fs::read_to_string(document).unwrap();
    let (_, from) = text.split_once("```yaml\ngroups:").unwrap();
    format!("groups:{}", from.split_once("```").unwrap().0)
}

/// Whatever in an expression has a name as the store's figures have.
fn figures(rules: &str) -> impl Iterator<Item = &str> {
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("etcd_") || word.starts_with("isthmus_"))
}

#[test]
fn every_alert_asks_for_a_figure_that_there_is() {
    let mut registry = Registry::default();
    Figures::register(&mut registry);
    Metrics::register(&mut registry);
    let mut told = String::new();
    encode(&mut told, &registry).unwrap();
    let rules = rules();
    assert!(figures(&rules).count() > 4, "{rules}");
    for figure in figures(&rules) {
        // The buckets of a histogram that has not seen anything are not told.
        let named = figure.strip_suffix("_bucket").unwrap_or(figure);
        let is_told = told.lines().any(|line| line.split([' ', '{']).any(|word| word == named || word == figure));
        assert!(is_told, "{figure} is none of:\n{told}");
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let program = std::env::var(PROMTOOL).unwrap_or_else(|_unset| "promtool".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        println!("skipped: there is no promtool here (Debian's package prometheus has one; {PROMTOOL} names another)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, rules()).unwrap();
    let checked = Command::new(&program).args(["check", "rules"]).arg(&file).output().unwrap();
    let words = [checked.stdout, checked.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
    assert!(checked.status.success(), "{words}");
    assert!(words.contains("SUCCESS"), "{words}");
}
