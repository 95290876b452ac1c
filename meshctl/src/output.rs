//! Where text goes: tables or JSON to stdout, notes to stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    /// XML as test reports have it; `connectivity test` only
    Junit,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Junit => "junit",
        }
    }
}

/// The two streams of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    /// Colour on stdout, on stderr: only where each is a terminal.
    out_colour: bool,
    err_colour: bool,
}

impl Output {
    pub(crate) fn new(format: Format, no_colour: bool) -> Self {
        Self {
            format,
            out_colour: !no_colour && io::stdout().is_terminal(),
            err_colour: !no_colour && io::stderr().is_terminal(),
        }
    }

    /// Writes the data as JSON, or as the text that `render` makes of it (it is told whether to colour).
    pub(crate) fn data<T: Serialize>(self, data: &T, render: impl FnOnce(&T, bool) -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => render(data, self.out_colour),
            Format::Junit => {
                return Err(Failure::said(Exit::Usage, "--output", "junit is for `meshctl connectivity test` only"));
            }
            Format::Json => {
                let mut text = serde_json::to_string_pretty(data)
                    .map_err(|e| Failure::new(Exit::Failed, "the answer does not become JSON", &e))?;
                text.push('\n');
                text
            }
        };
        write(&text)
    }

    pub(crate) fn failure(self, failure: &Failure) {
        let text = failure.to_string();
        note(crate::table::paint(&text, crate::table::Tone::Bad, self.err_colour));
    }
}

/// A text of its own form for stdout, and a newline.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(&format!("{text}\n"))
}

fn write(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Failed, "stdout", &e)),
        // A reader that has seen enough (`| head`) is no failure.
        _ => Ok(()),
    }
}

/// A line for the person at the terminal.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nobody is left to be told when stderr itself is gone.
    drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
}
