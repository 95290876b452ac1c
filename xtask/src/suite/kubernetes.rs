//! The last stage: real Kubernetes clusters, where Go and the run's time allow it. Decides before it begins, and says what it
//! has decided: nobody's run becomes half an hour longer without a word.

use std::time::Duration;

use anyhow::Result;

use super::executables::{Executable, Group};
use super::stage::Outcome;
use super::{minutes, run_one};
use crate::images;
use crate::k8s::{EVERY_RUN, Tools};
use crate::repo::Repo;

/// For images and tests.
const WARM_MINUTES: u64 = 8;
/// For Kubernetes' programs before them, on a machine whose Go has compiled nothing yet.
const TOOLS_MINUTES: u64 = 25;
const WARM: Duration = minutes(WARM_MINUTES);
pub(super) const COLD: Duration = minutes(WARM_MINUTES + TOOLS_MINUTES);

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    /// Build first, for so long at most.
    BuildWithin(Duration),
    Skip(String),
}

/// By what is there and how much of the run's time is left.
fn decide(missing: &[String], has_go: bool, left: Duration) -> Decision {
    let needed = if missing.is_empty() { WARM } else { COLD };
    let whole = |time: Duration| time.as_secs() / 60;
    if !missing.is_empty() && !has_go {
        return Decision::Skip("no Go to build Kubernetes' programs with: install golang-go".to_owned());
    }
    if left < needed {
        let what = if missing.is_empty() {
            String::new()
        } else {
            format!(", building {} of Kubernetes' programs first (`make k8s-tools` does that alone)", missing.len())
        };
        return Decision::Skip(format!(
            "it may take {} min{what}, and {} are left of the run's; give it more by --minutes",
            whole(needed),
            whole(left)
        ));
    }
    if missing.is_empty() { Decision::Run } else { Decision::BuildWithin(left.saturating_sub(WARM)) }
}

pub(super) fn run(repo: &Repo, all: &[Executable], left: Duration, only: Option<&str>) -> Result<Outcome> {
    let tools = Tools::of(repo);
    match decide(&tools.missing()?, has_go(repo), left) {
        Decision::Skip(why) => return Ok(skipped(&why)),
        Decision::Run => eprintln!("Kubernetes' programs are built; {WARM_MINUTES} min for images and tests"),
        Decision::BuildWithin(time) => {
            eprintln!("Kubernetes' programs are to be built, in {} min at most", time.as_secs() / 60);
            if !tools.build(Some(time))? {
                return Ok(skipped("Kubernetes' programs were not built, see above"));
            }
        }
    }
    images::run(repo, &images::Options::for_tests())?;
    let mut total = Outcome::default();
    for executable in all.iter().filter(|executable| executable.group() == Group::Kubernetes) {
        if EVERY_RUN.contains(&executable.target()) {
            total.add(run_one(repo, executable, only)?);
        } else {
            total.skipped.push(format!("{}: not in every run, see docs/kubernetes-tests.md", executable.label()));
        }
    }
    Ok(total)
}

fn has_go(repo: &Repo) -> bool {
    repo.command("go").arg("version").output().is_ok_and(|said| said.status.success())
}

fn skipped(why: &str) -> Outcome {
    eprintln!("skipped: {why}");
    Outcome { skipped: vec![format!("kubernetes: {why}")], ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_only_where_programs_and_time_allow_and_says_why_not() {
        let (none, two) = (Vec::new(), vec!["kubelet".to_owned(), "helm".to_owned()]);
        assert_eq!(decide(&none, false, WARM), Decision::Run, "no Go is needed where all is built");
        assert_eq!(decide(&two, true, COLD), Decision::BuildWithin(minutes(TOOLS_MINUTES)));
        for (missing, has_go, left, word) in [
            (&none, true, minutes(7), "7 are left"),
            (&two, true, minutes(20), "building 2 of Kubernetes' programs first"),
            (&two, false, minutes(60), "no Go"),
        ] {
            let Decision::Skip(why) = decide(missing, has_go, left) else { panic!("{missing:?} {left:?}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
