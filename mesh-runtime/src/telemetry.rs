//! Logs to standard error, filtered, as text or JSON. Standard output stays free for data.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The log settings that every binary takes; flatten into its arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What to log: a level, or targets with levels ("info,h2=warn")
    #[arg(long = "log", env = "ISTHMUS_LOG", default_value = "info", value_name = "FILTER", global = true)]
    pub filter: String,
    /// How to write a log line
    #[arg(
        long = "log-format",
        env = "ISTHMUS_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        global = true
    )]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "log filter {filter:?} is not valid: use a level (error, warn, info, debug, trace) or target=level, by commas"
    )]
    Filter { filter: String, source: ParseError },
    #[error("logging is set up twice in this process")]
    Twice(#[source] TryInitError),
}

impl Default for Args {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Text }
    }
}

/// Sets logging up for the whole process.
pub fn init(args: &Args) -> Result<(), Error> {
    let filter =
        EnvFilter::try_new(&args.filter).map_err(|source| Error::Filter { filter: args.filter.clone(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        Format::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(Error::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_with_a_hint() {
        let error = init(&Args { filter: "loud=very=".into(), ..Args::default() }).unwrap_err();
        assert!(error.to_string().starts_with("log filter \"loud=very=\" is not valid: use a level"), "{error}");
    }
}
