//! Why a request was not answered as it should, and what a person can do about it.
//!
//! Nothing here may hold a credential: what a credential plugin printed, or a line of a kubeconfig, is never shown.

use std::time::Duration;

use kube::client::AuthError;

use super::access::AccessError;

/// `verb` and `resource` are RBAC's words.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the API server {server} cannot be reached")]
    Unreachable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the API server {server} has not answered within {within:?}")]
    Silent { server: String, within: Duration },
    #[error(
        "the API server {server} does not accept the credentials ({message}): renew the token or certificate of \
         --kubeconfig, or see that the pod's ServiceAccount token is mounted and has not expired"
    )]
    Unauthenticated { server: String, message: String },
    #[error("no credentials for the API server {server}: {reason}")]
    Credentials { server: String, reason: String },
    #[error(
        "may not {verb} {resource}: {message}. Bind the ClusterRole of docs/kubernetes/source-rbac.yaml to that account"
    )]
    Forbidden { verb: &'static str, resource: String, message: String },
    /// History was compacted, or the API server has begun anew: only a list can tell what is there.
    #[error("cannot {verb} {resource} from there: {message}")]
    Expired { verb: &'static str, resource: String, message: String },
    #[error("the API server does not have {resource}: {message}. Kubernetes 1.21 or newer is needed")]
    Absent { resource: String, message: String },
    #[error("cannot {verb} {resource}: the API server says: {message} ({code})")]
    Refused { verb: &'static str, resource: String, code: u16, message: String },
    #[error("cannot {verb} {resource}: what {server} answers is not the Kubernetes API's")]
    Unreadable { verb: &'static str, resource: String, server: String, source: serde_json::Error },
}

/// What was asked, for errors.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) server: String,
    pub(super) verb: &'static str,
    pub(super) resource: String,
}

impl Asked {
    pub(super) fn failed(&self, error: kube::Error) -> Failure {
        let server = self.server.clone();
        match error {
            kube::Error::Api(status) => self.refused(status.code, &status.message),
            kube::Error::Auth(error) => Failure::Credentials { server, reason: without_secrets(&error) },
            kube::Error::Service(source) => Failure::Unreachable { server, source },
            other => Failure::Unreachable { server, source: Box::new(other) },
        }
    }

    /// By the code and message of a `metav1.Status`.
    pub(super) fn refused(&self, code: u16, message: &str) -> Failure {
        let Self { server, verb, resource } = self.clone();
        let message = message.trim().chars().take(400).collect();
        match code {
            401 => Failure::Unauthenticated { server, message },
            403 => Failure::Forbidden { verb, resource, message },
            404 => Failure::Absent { resource, message },
            410 => Failure::Expired { verb, resource, message },
            _ => Failure::Refused { verb, resource, code, message },
        }
    }

    /// No client can be made of what a kubeconfig says.
    pub(super) fn unusable(&self) -> Failure {
        let reason = "what the kubeconfig says of its user or its server cannot be used".to_owned();
        Failure::Credentials { server: self.server.clone(), reason }
    }

    pub(super) fn unreadable(&self, source: serde_json::Error) -> Failure {
        let Self { server, verb, resource } = self.clone();
        Failure::Unreadable { verb, resource, server, source }
    }

    pub(super) fn silent(&self, within: Duration) -> Failure {
        Failure::Silent { server: self.server.clone(), within }
    }
}

/// What can be said of failed credentials without showing any of them.
fn without_secrets(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!(
                "the kubeconfig's credential plugin (user.exec) failed with {}; run it by hand to see why",
                out.status
            )
        }
        AuthError::AuthExecStart(error) => {
            format!("the kubeconfig's credential plugin (user.exec) cannot be run: {error}")
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "the kubeconfig's credential plugin (user.exec) answers with no ExecCredential".to_owned()
        }
        AuthError::ReadTokenFile(error, path) => format!("{} cannot be read: {error}", path.display()),
        AuthError::InvalidBearerToken(_) => "the token holds characters that no token has".to_owned(),
        _ => "the kubeconfig's user cannot be used: it needs a token, a tokenFile, a client certificate or exec"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_runtime::ErrorChain;

    use super::*;

    fn asked() -> Asked {
        Asked { server: "https://api:6443".to_owned(), verb: "list", resource: "pods".to_owned() }
    }

    #[test]
    fn a_refusal_names_the_verb_the_resource_and_what_to_do() {
        let said = "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
        let text = asked().refused(403, said).to_string();
        let remedy = "Bind the ClusterRole of docs/kubernetes/source-rbac.yaml to that account";
        assert_eq!(text, format!("may not list pods: {said}. {remedy}"));
        let text = asked().refused(401, "Unauthorized").to_string();
        assert!(text.contains("https://api:6443 does not accept the credentials (Unauthorized): renew"), "{text}");
        assert!(matches!(asked().refused(410, ""), Failure::Expired { .. }));
        let text = asked().refused(500, "etcdserver: request timed out\n").to_string();
        assert_eq!(text, "cannot list pods: the API server says: etcdserver: request timed out (500)");
    }

    #[test]
    fn what_a_credential_plugin_printed_is_not_shown() {
        use std::os::unix::process::ExitStatusExt as _;
        let out = std::process::Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: b"a-token".to_vec(),
            stderr: b"another".to_vec(),
        };
        let error = AuthError::AuthExecRun { cmd: "TOKEN=a-token plugin".to_owned(), out: Box::new(out) };
        let failure = asked().failed(kube::Error::Auth(error));
        let text = ErrorChain(&failure).to_string();
        assert!(text.contains("failed with exit status: 1") && !text.contains("token"), "{text}");
        assert!(!format!("{failure:?}").contains("a-token"));
    }
}
