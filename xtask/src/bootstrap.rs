//! `bootstrap`: what the project needs of the machine. Finds, says what is missing and why, installs where it may.
//!
//! Installs on Debian 12 as root only, and only Debian's own packages; anywhere else it names them and stops. What the
//! kernel offers is shown, never changed.

mod apt;
mod kernel;
mod needs;

use anyhow::{Result, bail};

use self::needs::Need;

/// The system that the package names belong to.
const SYSTEM: (&str, &str) = ("debian", "12");

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
pub(crate) fn run() -> Result<bool> {
    let missing: Vec<&Need> = needs::ALL.iter().filter(|need| need.found().is_none()).collect();
    if !missing.is_empty() {
        eprintln!("bootstrap: missing on this machine:");
        for need in &missing {
            eprintln!("  {:<28} {}", need.package, need.why);
        }
        install(&missing)?;
    }
    println!("{:<28} found", "needed");
    for need in needs::ALL {
        println!("{:<28} {}", need.package, need.found().unwrap_or_else(|| "missing".to_owned()));
    }
    println!("\n{:<28} {}", "kernel", kernel::release());
    for feature in kernel::features() {
        println!("{:<28} {}", feature.name, feature.state);
    }
    println!();
    Ok(true)
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let (id, version) = system();
    if (id.as_str(), version.as_str()) != SYSTEM {
        bail!(
            "this is {id} {version}, and packages are installed on Debian 12 only\n\
             hint: install what these packages of Debian hold, then repeat:\n  {}",
            packages.join(" ")
        );
    }
    if !is_root() {
        bail!("packages are missing and this is not root\nhint: as root: {by_hand}");
    }
    apt::install(&packages)?;
    let still: Vec<&str> = missing.iter().filter(|need| need.found().is_none()).map(|need| need.package).collect();
    if !still.is_empty() {
        bail!("installed, but still not found: {}\nhint: try by hand: {by_hand}", still.join(", "));
    }
    Ok(())
}

/// `ID` and `VERSION_ID` of `/etc/os-release`.
fn system() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    (field(&text, "ID"), field(&text, "VERSION_ID"))
}

fn field(os_release: &str, name: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// From the effective uid, second of the `Uid:` line (proc(5)).
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!((field(text, "ID").as_str(), field(text, "VERSION_ID").as_str()), SYSTEM);
        assert_eq!(field("", "ID"), "unknown");
    }
}
