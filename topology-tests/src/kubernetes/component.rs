//! A process of a cluster that can be killed and started again as it was: same flags, same log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;

use crate::proc::Proc;

type Recipe = Box<dyn Fn() -> Command + Send + Sync>;

pub struct Component {
    name: String,
    log: PathBuf,
    recipe: Recipe,
    running: Mutex<Option<Proc>>,
}

impl Component {
    /// Starts it; the recipe makes its command each time that it starts. Its log is `NAME.log` in this folder.
    pub fn start(name: &str, logs: &Path, recipe: impl Fn() -> Command + Send + Sync + 'static) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let component = Self { name: name.to_owned(), log, recipe: Box::new(recipe), running: Mutex::new(None) };
        component.start_again()?;
        Ok(component)
    }

    /// While it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.lock().as_ref().filter(|process| process.is_alive()).map(Proc::pid)
    }

    /// SIGKILL, and waits for the end. One that does not run is left alone.
    pub fn kill(&self) -> Result<()> {
        match self.running.lock().take() {
            Some(process) => process.kill9(),
            None => Ok(()),
        }
    }

    /// Starts it where it does not run.
    pub fn start_again(&self) -> Result<()> {
        let mut running = self.running.lock();
        if running.as_ref().is_some_and(Proc::is_alive) {
            return Ok(());
        }
        *running = Some(Proc::start(&self.name, (self.recipe)(), &self.log)?);
        Ok(())
    }

    /// Waits for a fact while it runs; its early end fails at once, with the end of its log.
    pub fn wait_ready(&self, what: &str, within: Duration, fact: impl FnMut() -> bool) -> Result<()> {
        let running = self.running.lock();
        let process = running.as_ref().with_context(|| format!("{} does not run", self.name))?;
        process.wait_ready(what, within, fact)
    }
}
