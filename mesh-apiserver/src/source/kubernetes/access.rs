//! The way to the API server: a kubeconfig, or what Kubernetes gives a pod.
//!
//! Files are read again for every new client, so that renewed certificates, tokens and addresses take effect without a
//! restart. Nothing of them is kept here, shown or logged but names and paths.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::failure::{Asked, Failure};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How a person said where the API server is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `None`: the credentials and the address that a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the kubeconfig's current context.
    pub context: Option<String>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("--kubeconfig {}: {reason}", path.display())]
    Kubeconfig { path: PathBuf, reason: String },
    #[error(
        "this is no pod with a ServiceAccount (automountServiceAccountToken: false?): mount its token, or name a file with \
         --kubeconfig"
    )]
    InCluster { source: InClusterError },
    #[error("the API server's address is {address}: credentials are only sent by https")]
    Scheme { address: String },
    #[error(
        "--kubeconfig {}: insecure-skip-tls-verify is not possible here, since whoever answers in the API server's place \
         could say who is in the mesh: give certificate-authority instead",
        path.display()
    )]
    Unverified { path: PathBuf },
}

/// A checked way to the API server.
#[derive(Debug, Clone)]
pub struct Access {
    options: Options,
    location: String,
}

impl Access {
    /// Reads the files once, so that a mistake in them is told at the start. Asks nothing of the API server.
    pub async fn open(options: Options) -> Result<Self, AccessError> {
        let config = read(&options).await?;
        Ok(Self { options, location: location(&config) })
    }

    /// The API server's URL.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let mut config = read(&self.options).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        // Retries are the follower's.
        config.default_retry = false;
        let asked = Asked { server: self.location.clone(), verb: "get", resource: "credentials".to_owned() };
        // A credential plugin is run, and waited for, by the thread that makes the client.
        let made = tokio::task::spawn_blocking(|| Client::try_from(config)).await;
        made.map_err(|_panicked| asked.unusable())?.map_err(|error| asked.failed(error))
    }
}

async fn read(options: &Options) -> Result<Config, AccessError> {
    let Some(path) = &options.kubeconfig else {
        return checked(Config::incluster().map_err(|source| AccessError::InCluster { source })?, Path::new(""));
    };
    let wrong = |error: &KubeconfigError| AccessError::Kubeconfig { path: path.clone(), reason: reason(error) };
    let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
    let choice = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &choice).await.map_err(|error| wrong(&error))?;
    checked(config, path)
}

fn checked(config: Config, path: &Path) -> Result<Config, AccessError> {
    if config.accept_invalid_certs {
        return Err(AccessError::Unverified { path: path.to_owned() });
    }
    if config.cluster_url.scheme_str() != Some("https") {
        return Err(AccessError::Scheme { address: location(&config) });
    }
    Ok(config)
}

/// Without a user and password that the URL may hold.
fn location(config: &Config) -> String {
    let url = &config.cluster_url;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or("http"), url.host().unwrap_or_default())
}

/// A parser's own words would show the lines around a mistake, and with them the token.
fn reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => format!("cannot be read: {error}"),
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(" (line {})", at.line())).unwrap_or_default();
            format!("is not a kubeconfig in YAML{place}")
        }
        KubeconfigError::CurrentContextNotSet => "has no current-context: name one with --kube-context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("has no context {name:?}: see `kubectl config get-contexts`"),
        KubeconfigError::LoadClusterOfContext(name) => format!("has no cluster {name:?}, which the context names"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(text: &str, context: Option<&str>) -> Result<Access, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        let options = Options { kubeconfig: Some(path), context: context.map(str::to_owned) };
        Access::open(options)
            .await
            .map_err(|error| error.to_string().split_once("config: ").unwrap_or_default().1.to_owned())
    }

    fn kubeconfig(cluster: &str) -> String {
        format!(
            "kind: Config\napiVersion: v1\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{token: of-nobody}}}}]\n"
        )
    }

    #[tokio::test]
    async fn mistakes_in_a_kubeconfig_are_told_at_the_door_and_show_no_secret() {
        let good = kubeconfig("server: 'https://user:pass@api.example:6443/path'");
        assert_eq!(open(&good, None).await.unwrap().location(), "https://api.example:6443");
        assert_eq!(
            open(&good, Some("b")).await.unwrap_err(),
            "has no context \"b\": see `kubectl config get-contexts`"
        );
        let broken = good.clone() + "users:\n- name: u\n  user: {token: of-nobody\n";
        let text = open(&broken, None).await.unwrap_err();
        assert!(text.starts_with("is not a kubeconfig in YAML (line ") && !text.contains("of-nobody"), "{text}");
        let text = open(&kubeconfig("server: 'https://a', insecure-skip-tls-verify: true"), None).await.unwrap_err();
        assert!(text.starts_with("insecure-skip-tls-verify is not possible here"), "{text}");
        let options = Options { kubeconfig: Some("/nowhere/config".into()), context: None };
        let text = Access::open(options).await.unwrap_err().to_string();
        assert_eq!(text, "--kubeconfig /nowhere/config: cannot be read: No such file or directory (os error 2)");
    }

    #[tokio::test]
    async fn credentials_are_not_sent_in_clear() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, kubeconfig("server: 'http://127.0.0.1:8001'")).unwrap();
        let options = Options { kubeconfig: Some(path), context: None };
        let text = Access::open(options).await.unwrap_err().to_string();
        assert_eq!(text, "the API server's address is http://127.0.0.1:8001: credentials are only sent by https");
    }
}
