//! What the processes of this test need: an end when the test ends.

use std::path::Path;
use std::process::Command;

/// A program that dies with this one, however that ends.
pub(crate) fn tied(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
