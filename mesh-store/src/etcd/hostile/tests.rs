//! Guided by what came out: an input where one outcome follows another as never before is kept and damaged further.
//!
//! `ISTHMUS_FUZZ_INPUTS=5000000` runs longer, `ISTHMUS_FUZZ_GROW=1` adds what was new to the corpus; an input that fails is
//! kept and named.

use std::path::{Path, PathBuf};

use super::*;

mod mutate;

use mutate::Mutator;

const DEFAULT_INPUTS: usize = 15_000;

#[test]
fn whatever_arrives_is_refused_or_carried_out_and_the_store_stays_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/requests");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let (replayed, is_growing) = (corpus.len(), std::env::var_os("ISTHMUS_FUZZ_GROW").is_some());
    corpus.extend(seeds());
    let inputs = std::env::var("ISTHMUS_FUZZ_INPUTS").map_or(DEFAULT_INPUTS, |inputs| inputs.parse().unwrap());

    let mut seen: Outcomes = corpus.iter().flat_map(|bytes| survives(bytes)).collect();
    let mut mutator = Mutator::new(7);
    for _ in 0..inputs {
        let bytes = mutator.mutate(&corpus);
        let known = seen.len();
        seen.append(&mut survives(&bytes));
        if seen.len() > known {
            if is_growing {
                std::fs::write(folder.join(format!("{:08x}", crc32fast::hash(&bytes))), &bytes).unwrap();
            }
            corpus.push(bytes);
        }
    }
    let kinds: BTreeSet<&Outcome> = seen.iter().map(|(_, outcome)| outcome).collect();
    println!("requests: {replayed} of the corpus, {inputs} mutated, {} outcomes in {} pairs", kinds.len(), seen.len());
    for refusal in
        [Error::EmptyKey, Error::DuplicateKey, Error::FutureRevision, Error::LeaseNotFound, Error::KeyNotFound]
    {
        assert!(kinds.iter().any(|(_, outcome)| *outcome == refusal.to_string()), "nothing was refused with {refusal}");
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.iter().any(|(seen, outcome)| seen == kind && outcome == DONE)));
}

/// Runs an input; when a rule breaks, the input is kept where it can be found.
fn survives(bytes: &[u8]) -> Outcomes {
    std::panic::catch_unwind(|| run(bytes)).unwrap_or_else(|panic| {
        let file = std::env::temp_dir().join("isthmus-hostile-request");
        std::fs::write(&file, bytes).unwrap();
        eprintln!("the input is in {}: put it into mesh-store/fuzz/corpus/requests", file.display());
        std::panic::resume_unwind(panic)
    })
}
