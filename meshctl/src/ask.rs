//! Asking several clusters at once. One that does not answer never hides the others.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::config::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// What came back, in the order of the contexts.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) answers: Vec<(String, T)>,
    pub(crate) failures: Vec<Failure>,
}

impl<T> Answers<T> {
    /// `Ok` when all answered, `Degraded` when some did, the failures' own code when none did.
    pub(crate) fn exit(&self) -> Exit {
        match (self.failures.is_empty(), self.answers.is_empty()) {
            (true, _) => Exit::Ok,
            (false, false) => Exit::Degraded,
            (false, true) => self.failures.iter().map(|f| f.exit).max().unwrap_or(Exit::Failed),
        }
    }
}

/// Connects to every context and runs `question` on each.
pub(crate) async fn all<T, Q, F>(contexts: &[Context], timeout: Duration, question: Q) -> Answers<T>
where
    T: Send + 'static,
    Q: Fn(Admin) -> F + Clone + Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send,
{
    let mut tasks = JoinSet::new();
    for (i, context) in contexts.iter().cloned().enumerate() {
        let question = question.clone();
        tasks.spawn(async move {
            let answer = match Admin::connect(&context, timeout).await {
                Ok(admin) => question(admin).await,
                Err(failure) => Err(failure),
            };
            (i, context.name, answer)
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(i, ..)| *i);
    let mut all = Answers { answers: Vec::new(), failures: Vec::new() };
    for (_, name, answer) in done {
        match answer {
            Ok(answer) => all.answers.push((name, answer)),
            Err(failure) => all.failures.push(failure),
        }
    }
    all
}
