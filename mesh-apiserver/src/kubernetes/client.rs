//! One way of asking the API server: a client that is made anew when it may be out of date, a deadline, and errors that name
//! what was asked and what to do.
//!
//! Must never hold a credential in an error: what a kubeconfig or a credential plugin says is left to
//! [`crate::source::kubernetes`], which shows none of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::source::kubernetes::{Access, Failure};

/// For one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A message of the API server is cut to this many characters.
const MESSAGE: usize = 400;

/// Cheap to clone.
#[derive(Clone)]
pub struct Client {
    access: Access,
    /// Made at the first question; dropped after one that failed by more than a refusal, since credentials and addresses
    /// may have been renewed.
    current: Arc<Mutex<Option<kube::Client>>>,
}

/// Why there is no answer, or a refusal. `verb` and `what` are the object's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Access(#[from] Failure),
    #[error("cannot {verb} {what}: the API server {server} cannot be reached")]
    Unreachable { verb: &'static str, what: String, server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot {verb} {what}: the API server {server} has not answered within {within:?}")]
    Silent { verb: &'static str, what: String, server: String, within: Duration },
    #[error(
        "cannot {verb} {what}: the API server {server} does not accept this server's credentials ({message}): renew the \
         token or certificate of --kubeconfig, or see that the pod's ServiceAccount token is mounted and has not expired"
    )]
    Unauthenticated { verb: &'static str, what: String, server: String, message: String },
    #[error(
        "may not {verb} {what}: {message}. Bind the roles of docs/kubernetes/trust-rbac.yaml, and for the mesh's own objects \
         those of objects-rbac.yaml, to this server's account"
    )]
    Forbidden { verb: &'static str, what: String, message: String },
    #[error("cannot {verb} {what}: the API server says: {message} ({code})")]
    Refused { verb: &'static str, what: String, code: u16, message: String },
}

impl Error {
    /// Trying the same again may help without anybody's doing.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Access(Failure::Unreachable { .. } | Failure::Silent { .. }) => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            Self::Access(_) | Self::Unauthenticated { .. } | Self::Forbidden { .. } => false,
        }
    }

    /// There is no such object, or its kind is not installed.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Somebody else changed or made the object since it was read.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    fn of(error: kube::Error, verb: &'static str, what: String, server: String) -> Self {
        match error {
            kube::Error::Api(status) => {
                let message: String = status.message.trim().chars().take(MESSAGE).collect();
                match status.code {
                    401 => Self::Unauthenticated { verb, what, server, message },
                    403 => Self::Forbidden { verb, what, message },
                    code => Self::Refused { verb, what, code, message },
                }
            }
            kube::Error::Service(source) => Self::Unreachable { verb, what, server, source },
            other => Self::Unreachable { verb, what, server, source: Box::new(other) },
        }
    }

    /// A refusal says that the client is a good one, unless it is the client that is refused.
    fn is_of_the_object(&self) -> bool {
        match self {
            Self::Forbidden { .. } => true,
            Self::Refused { code, .. } => *code < 500,
            _ => false,
        }
    }
}

impl Client {
    /// Asks nothing yet.
    pub fn new(access: Access) -> Self {
        Self { access, current: Arc::default() }
    }

    /// The API server's URL.
    pub fn location(&self) -> &str {
        self.access.location()
    }

    /// One request: `verb` and `what` say in errors what it was for.
    pub(super) async fn ask<T, F>(
        &self,
        verb: &'static str,
        what: &str,
        request: impl FnOnce(kube::Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let server = self.location().to_owned();
        let answer = match timeout(ANSWER_WITHIN, Box::pin(request(self.connected().await?))).await {
            Ok(answer) => answer.map_err(|error| Error::of(error, verb, what.to_owned(), server)),
            Err(_elapsed) => Err(Error::Silent { verb, what: what.to_owned(), server, within: ANSWER_WITHIN }),
        };
        if answer.as_ref().is_err_and(|error| !error.is_of_the_object()) {
            *self.current.lock() = None;
        }
        answer
    }

    /// The same for a request that changes nothing: where it fails on a connection, which may have broken since the last
    /// request, a second one is made on a new one.
    pub(super) async fn ask_only<T, F>(
        &self,
        verb: &'static str,
        what: &str,
        request: impl Fn(kube::Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        on_a_new_connection(|| self.ask(verb, what, &request)).await
    }

    async fn connected(&self) -> Result<kube::Client, Failure> {
        let known = self.current.lock().clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = Box::pin(self.access.client()).await?;
        *self.current.lock() = Some(client.clone());
        Ok(client)
    }
}

async fn on_a_new_connection<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match ask().await {
        Err(Error::Unreachable { .. }) => ask().await,
        answer => answer,
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.location()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str) -> Error {
        let status = kube::core::Status::failure(message, "").with_code(code).boxed();
        Error::of(kube::Error::Api(status), "update", "Secret a/ca".to_owned(), "https://api:6443".to_owned())
    }

    #[test]
    fn a_refusal_names_the_object_and_says_what_to_do() {
        let text = refused(403, "secrets \"ca\" is forbidden\n").to_string();
        assert_eq!(
            text,
            "may not update Secret a/ca: secrets \"ca\" is forbidden. Bind the roles of docs/kubernetes/trust-rbac.yaml, \
             and for the mesh's own objects those of objects-rbac.yaml, to this server's account"
        );
        assert!(refused(401, "Unauthorized").to_string().contains("does not accept this server's credentials"));
        assert_eq!(refused(500, "no").to_string(), "cannot update Secret a/ca: the API server says: no (500)");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        for (code, passes) in
            [(401, false), (403, false), (404, false), (409, false), (429, true), (500, true), (503, true)]
        {
            assert_eq!(refused(code, "").is_passing(), passes, "{code}");
        }
        assert!(refused(409, "").is_conflict() && !refused(404, "").is_conflict());
    }

    #[tokio::test]
    async fn what_a_broken_connection_lost_is_asked_once_more_and_a_refusal_is_not() {
        let broken = || Error::of(kube::Error::Service("reset by peer".into()), "create", "x".into(), "api".into());
        for (answers, asked, succeeds) in [
            (vec![Err(broken()), Ok(())], 2, true),
            (vec![Err(broken()), Err(broken()), Ok(())], 2, false),
            (vec![Err(refused(403, "no")), Ok(())], 1, false),
        ] {
            let all = answers.len();
            let answers = Mutex::new(answers);
            let answer = on_a_new_connection(|| std::future::ready(answers.lock().remove(0))).await;
            assert_eq!((all - answers.lock().len(), answer.is_ok()), (asked, succeeds));
        }
    }
}
