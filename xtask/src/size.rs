//! `check-size`: no source file over 600 lines before its tests.

use std::path::Path;

use anyhow::{Context, Result};

use crate::repo::Repo;

/// Lines at which a file must be split.
const LIMIT: usize = 600;

pub(crate) fn check(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in repo.files("rs")? {
        if is_test_file(&file) {
            continue;
        }
        let text = std::fs::read_to_string(repo.root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = lines_before_tests(&text);
        if lines > LIMIT {
            findings.push(format!("{}: {lines} lines before its tests: split it (at most {LIMIT})", file.display()));
        }
    }
    Ok(findings)
}

fn is_test_file(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs") || file.components().any(|part| part.as_os_str() == "tests")
}

fn lines_before_tests(text: &str) -> usize {
    text.lines().take_while(|line| *line != "mod tests {" && *line != "mod tests;").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_before_the_tests_count() {
        assert_eq!(lines_before_tests("a\nb\n#[cfg(test)]\nmod tests {\nc\n}\n"), 3);
        assert!(is_test_file(Path::new("x/src/a/tests.rs")) && is_test_file(Path::new("x/tests/b.rs")));
        assert!(!is_test_file(Path::new("topology-tests/src/lab.rs")));
    }
}
