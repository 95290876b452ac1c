//! The gate: every program of every object loads, and none grows unseen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use agent_ebpf::testrun::TestRun;

use crate::harness::with_place;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/verifier.toml");
/// Growth that needs a look, in per cent.
const TOLERANCE: u64 = 20;

#[test]
fn every_program_passes_the_verifier_and_none_grows_by_a_fifth_unseen() {
    with_place(|place| {
        let run = TestRun::new(place.load(), 1).unwrap();
        let objects = [
            ("datapath", run.datapath.verified_instructions().unwrap()),
            ("testrun", run.verified_instructions().unwrap()),
        ];
        if std::env::var_os("UPDATE_VERIFIER_TABLE").is_some() {
            return write(&objects);
        }
        let text = std::fs::read_to_string(Path::new(TABLE)).unwrap();
        let table: BTreeMap<String, BTreeMap<String, u64>> = toml::from_str(&text).unwrap();
        for (object, programs) in objects {
            let expected = table.get(object).cloned().unwrap_or_default();
            for (program, count) in programs {
                let before = expected.get(program).copied().unwrap_or(0);
                println!("{object}/{program}: {count} instructions verified, {before} in the table");
                let limit = before + before * TOLERANCE / 100;
                assert!(
                    u64::from(count) <= limit,
                    "{object}/{program} grew from {before} to {count} verified instructions; \
                     if that is meant: UPDATE_VERIFIER_TABLE=1 cargo test -p agent-ebpf --test kernel verifier"
                );
            }
        }
    });
}

fn write(objects: &[(&str, Vec<(&'static str, u32)>)]) {
    let mut text = String::from(
        "# Instructions that the verifier walked through, by object and program.\n\
         # Rewritten by: UPDATE_VERIFIER_TABLE=1 cargo test -p agent-ebpf --test kernel verifier\n",
    );
    for (object, programs) in objects {
        write!(text, "\n[{object}]\n").unwrap();
        for (program, count) in programs {
            writeln!(text, "{program} = {count}").unwrap();
        }
    }
    std::fs::write(TABLE, text).unwrap();
}
