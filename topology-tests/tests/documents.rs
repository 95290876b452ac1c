//! The users' documents, as far as they can be held to the truth without a cluster: every page is run or left out with a
//! reason, its blocks can be run, its links lead somewhere, and meshctl takes every command line in them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use topology_tests::binaries::Binaries;
use topology_tests::docs::markdown::{blocks, spans};
use topology_tests::docs::steps::steps;
use topology_tests::docs::{pages, shell};

const MESHCTL: &str = "meshctl";
/// Blocks that are not run. Think twice before this grows: nobody notices when they become wrong.
const MOST_NOT_RUN: usize = 3;

#[test]
fn every_page_with_commands_is_run_or_left_out_for_a_reason() {
    let left_out = BTreeMap::from(pages::LEFT_OUT);
    for page in pages::all().unwrap() {
        let found = blocks(&pages::text(&page).unwrap()).unwrap_or_else(|wrong| panic!("{page}: {wrong}"));
        let is_run = pages::RUN.contains(&page.as_str());
        assert!(!(is_run && left_out.contains_key(page.as_str())), "{page} is in both lists");
        let has_blocks = !found.is_empty();
        let is_listed = is_run || left_out.contains_key(page.as_str());
        assert_eq!(has_blocks, is_listed, "{page}: see topology-tests/src/docs/pages.rs");
    }
}

#[test]
fn the_pages_that_are_run_can_be_read_as_commands() {
    let pages = pages::to_run().unwrap();
    let mut not_run = Vec::new();
    for page in &pages {
        for (block, _) in &page.blocks {
            not_run.extend(block.marks.not_run.as_ref().map(|why| format!("{}:{}: {why}", page.name, block.line)));
        }
    }
    println!("not run: {not_run:#?}");
    assert!(not_run.len() <= MOST_NOT_RUN, "{not_run:#?}");
}

#[test]
fn every_link_in_the_pages_leads_to_a_file() {
    let mut dead = Vec::new();
    for page in pages::all().unwrap() {
        let folder = pages::root().join(&page).parent().unwrap().to_owned();
        for link in pages::text(&page).unwrap().split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}

/// meshctl where it can reach nobody: what is wrong with a command line it says before it looks for anybody.
struct Meshctl {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Meshctl {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), "[contexts.nobody]\nadmin_socket = \"nowhere\"\n").unwrap();
        Self { program: Binaries::beside_this_one().unwrap().find(MESHCTL).unwrap(), folder }
    }

    /// What is wrong with the words themselves.
    fn refuses(&self, words: &[String]) -> Option<String> {
        let folder: &Path = self.folder.path();
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", folder).env("KUBECONFIG", folder.join("none")).env("PATH", folder);
        command.env("MESHCTL_CONFIG", folder.join("config")).env("MESHCTL_HELM", folder.join("none"));
        let output = command.current_dir(folder).args(words).stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // The parser's own words; those of meshctl begin with its name.
        (output.status.code() == Some(64) && said.starts_with("error: ")).then_some(said)
    }
}

#[test]
fn meshctl_takes_every_command_line_of_the_pages() {
    let meshctl = Meshctl::new();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(meshctl.refuses(&words("connect a b --no-such-flag")).is_some());
    assert!(meshctl.refuses(&words("token create")).is_some(), "what has to be there is asked for");
    assert!(meshctl.refuses(&words("connect a b")).is_none());
    let (mut tried, mut refused) = (0, Vec::new());
    for page in pages::all().unwrap() {
        let text = pages::text(&page).unwrap();
        for block in blocks(&text).unwrap() {
            // A page that is left out may have no prompts.
            let whole = || vec![(block.line, block.lines.join("\n"))];
            let commands = steps(&block).map_or_else(
                |_no_prompt| whole(),
                |all| all.into_iter().map(|step| (step.line, step.command)).collect(),
            );
            for (line, command) in commands {
                for words in shell::runs_of(MESHCTL, &command) {
                    tried += 1;
                    refused.extend(meshctl.refuses(&words).map(|why| format!("{page}:{line}: {words:?}: {why}")));
                }
            }
        }
        for (line, span) in spans(&text) {
            for words in shell::runs_of(MESHCTL, &span) {
                tried += 1;
                // In a sentence a command may be without what it needs. It may not have what there is not.
                let unknown =
                    |why: &String| why.contains("unexpected argument") || why.contains("unrecognized subcommand");
                let why = meshctl.refuses(&words).filter(unknown);
                refused.extend(why.map(|why| format!("{page}:{line}: {span}: {why}")));
            }
        }
    }
    println!("{tried} command lines of meshctl");
    assert!(tried > 50, "{tried}");
    assert_eq!(refused, Vec::<String>::new());
}
