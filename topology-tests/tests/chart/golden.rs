//! What the chart renders is what somebody has looked at.

use anyhow::{Context as _, Result, ensure};

use crate::helm::{Helm, SETS, chart};

/// Another major version writes the same objects in another order.
const MAJOR: &str = "v4.";

#[test]
fn renders_are_those_that_were_committed() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let version = helm.version()?;
    if !version.starts_with(MAJOR) {
        println!("skipped: this is helm {version}; the committed renders are of {MAJOR}x");
        return Ok(());
    }
    let writes = std::env::var("ISTHMUS_GOLDEN").is_ok_and(|what| what == "write");
    for set in SETS {
        let path = chart().join(format!("tests/golden/{set}.yaml"));
        let rendered = helm.render(set)?;
        if writes {
            std::fs::write(&path, &rendered).with_context(|| format!("write {}", path.display()))?;
        }
        let golden = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if let Some((line, is, was)) = first_difference(&rendered, &golden) {
            anyhow::bail!(
                "{}: line {line} is {is:?} now, and was {was:?}: look at it, then ISTHMUS_GOLDEN=write writes it",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn helms_own_lint_finds_nothing() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    for set in SETS {
        let values = chart().join(format!("tests/values/{set}.yaml")).display().to_string();
        let said = helm.run(&["lint", "--strict", &chart().display().to_string(), "--values", &values])?;
        ensure!(said.succeeded && said.stdout.contains("0 chart(s) failed"), "{set}:\n{}{}", said.stdout, said.stderr);
    }
    Ok(())
}

fn first_difference<'a>(is: &'a str, was: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut is, mut was) = (is.lines(), was.lines());
    for line in 1.. {
        match (is.next(), was.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((line, a.unwrap_or("(the end)"), b.unwrap_or("(the end)"))),
        }
    }
    None
}
