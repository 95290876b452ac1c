//! Exit codes of all binaries, after BSD's sysexits(3) where one fits.

use std::process::ExitCode;

/// All went well.
pub const OK: u8 = 0;
/// Something failed at run time.
pub const FAILURE: u8 = 1;
/// The command line or configuration is wrong (`EX_USAGE`); every mistake was printed.
pub const USAGE: u8 = 64;
/// Input read from a file or the other side is malformed (`EX_DATAERR`).
pub const DATA: u8 = 65;
/// The other side cannot be reached (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// The caller may not do this (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// Ctrl-C or SIGTERM came twice: left without draining (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// `code` as what `main` returns.
pub fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
