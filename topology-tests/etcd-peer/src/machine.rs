//! Where the programs that take long to build are kept: outside all checkouts, once a machine.

use std::path::PathBuf;

/// Names another folder.
pub const VARIABLE: &str = "ISTHMUS_TOOLS";

/// `$ISTHMUS_TOOLS`, else `isthmus/tools` below `$XDG_CACHE_HOME` or `~/.cache`; `None` where none of the three is known.
pub fn tools_of_this_machine() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var(VARIABLE)
        .or_else(|| Some(var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?.join("isthmus/tools")))
}
