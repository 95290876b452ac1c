//! The program, run as a person runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context as _;
use serde_json::Value;

/// meshctl with a kubeconfig, and nothing of the user's own.
#[derive(Debug, Clone)]
pub(crate) struct Meshctl {
    program: PathBuf,
    helm: PathBuf,
    home: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

/// What it ended with.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

impl Meshctl {
    pub(crate) fn new(program: &Path, helm: &Path, home: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: program.to_owned(),
            helm: helm.to_owned(),
            home: home.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    pub(crate) fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig).env("MESHCTL_HELM", &self.helm);
        command.current_dir(&self.home).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let output = self.command(args).output();
        let output = output.with_context(|| format!("run meshctl {}", args.join(" ")));
        Said::of(&output.unwrap())
    }

    /// It must end well.
    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.code, 0, "meshctl {}: {}\n{}", args.join(" "), said.err, said.out);
        said
    }
}
