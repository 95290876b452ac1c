//! What the fuzzers found worth keeping is run again, and stays small.
//!
//! `ISTHMUS_FUZZ_GROW=1` writes what fuzzing begins with into the corpora, for a target that has none yet.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, also outside the test function")]

use std::path::PathBuf;

use mesh_store_fuzz::TARGETS;

/// Of all that is checked in.
const MOST_BYTES: usize = 200 * 1024;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(folder(target)).unwrap().map(|file| file.unwrap().path());
    let mut inputs: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    inputs.sort();
    inputs
}

#[test]
fn no_rule_breaks_under_what_was_once_found() {
    for target in TARGETS {
        let inputs = corpus(target.name);
        assert!(inputs.len() > 20, "the corpus of {} is missing", target.name);
        for (path, bytes) in &inputs {
            let run = std::panic::catch_unwind(|| (target.run)(bytes));
            assert!(run.is_ok(), "{} broke a rule of {}", path.display(), target.name);
        }
        println!("{}: {} inputs", target.name, inputs.len());
    }
}

#[test]
fn no_rule_breaks_under_what_fuzzing_begins_with() {
    for target in TARGETS {
        for (place, bytes) in (target.seeds)().iter().enumerate() {
            let run = std::panic::catch_unwind(|| (target.run)(bytes));
            assert!(run.is_ok(), "seed {place} broke a rule of {}", target.name);
            if std::env::var_os("ISTHMUS_FUZZ_GROW").is_some() {
                std::fs::write(folder(target.name).join(format!("seed-{place}")), bytes).unwrap();
            }
        }
    }
}

#[test]
fn the_corpora_are_small() {
    let bytes: usize = TARGETS.iter().flat_map(|target| corpus(target.name)).map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes <= MOST_BYTES, "{bytes} bytes of inputs: merge them with `cargo xtask fuzz --keep`");
}
