//! Which files name the crates that have few homes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::rules;
use crate::repo::Repo;
use crate::rust_source::{Placed, Token, tokens};

pub(super) fn check(repo: &Repo) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut homes: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for file in repo.files("rs")? {
        let source = std::fs::read_to_string(repo.root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        for (name, line) in named_crates(&tokens(&source)) {
            let Some(rule) = rules::crate_rule(&name) else { continue };
            if is_under(&file, rules::EXEMPT_PATHS) {
                continue;
            }
            if !is_under(&file, rule.paths) {
                let paths = rule.paths.join(", ");
                findings.push(format!("{}:{line}: names {name}: only {paths} may", file.display()));
            } else if rules::ONE_FILE.contains(&rule.name) {
                let files = homes.entry(rule.name).or_default();
                if files.last() != Some(&file) {
                    files.push(file.clone());
                }
            }
        }
    }
    for (name, files) in homes.iter().filter(|(_, files)| files.len() > 1) {
        let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
        findings.push(format!("{name} is named in {}: keep it in one", files.join(" and ")));
    }
    Ok(findings)
}

fn is_under(file: &Path, paths: &[&str]) -> bool {
    let file = file.to_string_lossy();
    paths.iter().any(|path| if path.ends_with('/') { file.starts_with(path) } else { file == *path })
}

/// Identifiers used as crates: `name::` that is no segment of a longer path, and `use name`; each once, with its line.
fn named_crates(tokens: &[Placed]) -> Vec<(String, usize)> {
    let punct = |i: Option<usize>, c| i.and_then(|i| tokens.get(i)).is_some_and(|p| p.token == Token::Punct(c));
    let mut found: Vec<(String, usize)> = Vec::new();
    for (i, placed) in tokens.iter().enumerate() {
        let Token::Ident(name) = &placed.token else { continue };
        let is_path = punct(Some(i + 1), ':') && punct(Some(i + 2), ':');
        let is_segment = punct(i.checked_sub(1), ':') && punct(i.checked_sub(2), ':');
        let after_use = i > 0 && matches!(&tokens[i - 1].token, Token::Ident(word) if word == "use" || word == "crate");
        // `::aya::x` names the crate as well.
        let is_absolute = is_segment
            && !matches!(
                i.checked_sub(3).and_then(|i| tokens.get(i)).map(|p| &p.token),
                Some(Token::Ident(_) | Token::Punct('>'))
            );
        if ((is_path && (!is_segment || is_absolute)) || after_use) && !found.iter().any(|(seen, _)| seen == name) {
            found.push((name.clone(), placed.line));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_found_and_segments_comments_and_strings_are_not() {
        let source = "use aya::maps;\nfn f() -> openraft::Vote { crate::kube::x(); \"gotatun::y\"; ::libc::z() } // rtnetlink::q\nuse tokio;";
        let names: Vec<_> =
            named_crates(&tokens(source)).into_iter().map(|(name, line)| format!("{name}:{line}")).collect();
        assert_eq!(names, ["aya:1", "openraft:2", "crate:2", "libc:2", "tokio:3"]);
    }

    #[test]
    fn homes_are_files_or_folders() {
        let rule = rules::crate_rule("netlink-packet-route").unwrap();
        assert!(is_under(Path::new("node-agent/src/netlink/link.rs"), rule.paths));
        assert!(is_under(Path::new("node-agent/src/netlink.rs"), rule.paths));
        assert!(!is_under(Path::new("node-agent/src/app.rs"), rule.paths));
    }
}
