//! Why Kubernetes did not do what was asked, in words that name the object, and what to do about it.
//!
//! Nothing here may hold a credential: what a kubeconfig holds, or a credential plugin printed, is never shown.

use std::time::Duration;

use kube::client::AuthError;
use kube::config::KubeconfigError;

use crate::exit::Exit;
use crate::failure::Failure;

/// A message of an API server is cut to this many characters.
const MESSAGE: usize = 400;

/// `what` is an object or a resource, `verb` one of RBAC's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the kubeconfig {file}")]
    Kubeconfig { file: String, source: Reason },
    #[error("the API server's address is {address}: credentials are only sent by https")]
    Scheme { address: String },
    #[error("no credentials for the API server {server}: {reason}")]
    Credentials { server: String, reason: String },
    #[error("the API server {server} cannot be reached")]
    Unreachable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the API server {server} has not answered within {within:?} ({verb} {what})")]
    Silent { server: String, verb: &'static str, what: String, within: Duration },
    #[error("the API server {server} does not accept the credentials: {message}")]
    Unauthenticated { server: String, message: String },
    #[error("may not {verb} {what}: {message}")]
    Forbidden { verb: &'static str, what: String, message: String },
    #[error("{what} is not there")]
    Absent { what: String },
    #[error("cannot {verb} {what}: the API server says: {message} ({code})")]
    Refused { verb: &'static str, what: String, code: u16, message: String },
    #[error("{0}")]
    Mesh(String),
}

/// Why a kubeconfig is of no use. A parser's own words would show the lines around a mistake, and with them a token.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Reason(pub(crate) String);

impl Error {
    pub(crate) fn of(error: kube::Error, server: &str, verb: &'static str, what: &str) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => Self::refused(&server, verb, what, status.code, &status.message),
            kube::Error::Auth(error) => Self::Credentials { server, reason: without_secrets(&error) },
            kube::Error::Service(source) => Self::Unreachable { server, source },
            kube::Error::UpgradeConnection(error) => Self::upgrade(&server, verb, what, &error),
            other => Self::Unreachable { server, source: Box::new(other) },
        }
    }

    /// A switch to WebSocket that was refused. Only the status is told: there is no message to be had.
    fn upgrade(server: &str, verb: &'static str, what: &str, error: &kube::client::UpgradeConnectionError) -> Self {
        match error {
            kube::client::UpgradeConnectionError::ProtocolSwitch(code) => {
                Self::refused(server, verb, what, code.as_u16(), "it does not open the connection")
            }
            other => Self::Refused { verb, what: what.to_owned(), code: 0, message: other.to_string() },
        }
    }

    fn refused(server: &str, verb: &'static str, what: &str, code: u16, message: &str) -> Self {
        let (what, message) = (what.to_owned(), message.trim().chars().take(MESSAGE).collect());
        match code {
            401 => Self::Unauthenticated { server: server.to_owned(), message },
            403 => Self::Forbidden { verb, what, message },
            404 => Self::Absent { what },
            _ => Self::Refused { verb, what, code, message },
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }

    /// Somebody else made the object meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, .. })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Kubeconfig { .. } | Self::Scheme { .. } => Exit::Config,
            Self::Unreachable { .. } | Self::Silent { .. } => Exit::Unavailable,
            Self::Credentials { .. } | Self::Unauthenticated { .. } | Self::Forbidden { .. } => Exit::Denied,
            Self::Absent { .. } | Self::Refused { .. } | Self::Mesh(_) => Exit::Failed,
        }
    }

    fn hint(&self, context: &str) -> Option<String> {
        Some(match self {
            Self::Kubeconfig { .. } => "see `kubectl config get-contexts`; --kubeconfig names another file".to_owned(),
            Self::Scheme { .. } => "give the cluster an https address in the kubeconfig".to_owned(),
            Self::Unreachable { .. } | Self::Silent { .. } => {
                format!("does `kubectl --context {context} version` answer? --timeout waits longer")
            }
            Self::Credentials { .. } | Self::Unauthenticated { .. } => {
                format!(
                    "log in again, or renew the token or certificate of context {context}; see `kubectl --context \
                     {context} auth whoami`"
                )
            }
            Self::Forbidden { verb, what, .. } => {
                let resource = what.split([' ', '/']).next().unwrap_or(what);
                format!(
                    "ask for that right; see `kubectl --context {context} auth can-i {verb} {resource}`, and docs/\
                         meshctl-kubernetes.md for all that meshctl takes"
                )
            }
            Self::Absent { .. } | Self::Refused { .. } | Self::Mesh(_) => return None,
        })
    }

    /// As it is shown, with what to do.
    pub(crate) fn failure(&self, context: &str) -> Failure {
        let failure = Failure::new(self.exit(), context, self);
        match self.hint(context) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What can be said of failed credentials without showing any of them.
fn without_secrets(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("the credential plugin (user.exec) failed with {}; run it by hand to see why", out.status)
        }
        AuthError::AuthExecStart(error) => format!("the credential plugin (user.exec) cannot be run: {error}"),
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "the credential plugin (user.exec) answers with no ExecCredential".to_owned()
        }
        AuthError::ReadTokenFile(error, path) => format!("{} cannot be read: {error}", path.display()),
        AuthError::InvalidBearerToken(_) => "the token holds characters that no token has".to_owned(),
        _ => "the kubeconfig's user cannot be used: it needs a token, a tokenFile, a client certificate or exec"
            .to_owned(),
    }
}

/// Why a kubeconfig cannot be used, without a line of it.
pub(crate) fn reason(error: &KubeconfigError) -> Reason {
    Reason(match error {
        KubeconfigError::ReadConfig(error, _) => format!("cannot be read: {error}"),
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {})", at.line())).unwrap_or_default();
            format!("is not a kubeconfig in YAML{place}")
        }
        KubeconfigError::CurrentContextNotSet => "has no current-context: name one with --context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("has no cluster {name:?}, which the context names"),
        KubeconfigError::FindPath => "has no place: neither KUBECONFIG nor a home directory".to_owned(),
        _ => "names a server, a proxy or a certificate that cannot be used".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Error {
        let status = kube::core::Status::failure("it is so\n", "").with_code(code).boxed();
        Error::of(kube::Error::Api(status), "https://api:6443", "list", "pods")
    }

    #[test]
    fn a_refusal_names_the_object_its_exit_code_and_what_to_do() {
        let denied = refused(403).failure("kind-a");
        assert_eq!(denied.exit, Exit::Denied);
        assert_eq!(denied.chain, ["may not list pods: it is so"]);
        assert!(denied.hint.unwrap().contains("kubectl --context kind-a auth can-i list pods"));
        assert_eq!(refused(401).failure("kind-a").exit, Exit::Denied);
        assert!(refused(404).is_absent() && refused(409).is_conflict());
        assert_eq!(refused(500).to_string(), "cannot list pods: the API server says: it is so (500)");
    }
}
