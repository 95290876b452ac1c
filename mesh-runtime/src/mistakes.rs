//! Collects every mistake in the configuration, so that the operator sees them all at once.

use std::fmt;
use std::process::ExitCode;

use crate::exit;

/// The mistakes found so far, each with the setting it is about.
///
/// ```
/// # use mesh_runtime::Mistakes;
/// let mut mistakes = Mistakes::default();
/// let port = mistakes.check("--port", "80x".parse::<u16>());
/// assert!(port.is_none());
/// assert!(mistakes.finish().is_err());
/// ```
#[derive(Debug, Default, thiserror::Error)]
pub struct Mistakes(Vec<(String, String)>);

impl Mistakes {
    /// Keeps the value, or notes the mistake.
    pub fn check<T, E: fmt::Display>(&mut self, setting: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(setting, error);
                None
            }
        }
    }

    pub fn add(&mut self, setting: &str, what: impl fmt::Display) {
        self.0.push((setting.to_owned(), what.to_string()));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All mistakes, if there are any.
    pub fn finish(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// What `main` returns for them.
    pub fn exit_code(&self) -> ExitCode {
        exit::code(if self.is_empty() { exit::OK } else { exit::USAGE })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        write!(f, "{} {plural} in the configuration:", self.0.len())?;
        for (setting, what) in &self.0 {
            write!(f, "\n  {setting}: {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_together() {
        let mut mistakes = Mistakes::default();
        assert_eq!(mistakes.check("--good", Ok::<_, String>(1)), Some(1));
        assert_eq!(mistakes.check::<u8, _>("--port", Err("not a number")), None);
        mistakes.add("--name", "missing");
        let text = mistakes.finish().unwrap_err().to_string();
        assert_eq!(text, "2 mistakes in the configuration:\n  --port: not a number\n  --name: missing");
    }
}
