//! The kubeconfig: which clusters of Kubernetes there are, by the names of its contexts, and the way to each.
//!
//! Read once a run, by the rules of kubectl: `--kubeconfig`, else the files of `KUBECONFIG`, else `~/.kube/config`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::failure::{Error, reason};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A context, and what a person said of the mesh in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// `None`: as kubectl finds it.
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: String,
    /// `None`: wherever mesh-apiserver is found.
    pub(crate) namespace: Option<String>,
}

/// The names that a kubeconfig has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contexts {
    pub(crate) names: Vec<String>,
    pub(crate) current: Option<String>,
}

/// What there is; nothing where there is no file and none was named.
pub(crate) fn contexts(file: Option<&Path>) -> Result<Contexts, Error> {
    let read = match read(file) {
        Ok(read) => read,
        Err(KubeconfigError::FindPath) => return Ok(Contexts::default()),
        Err(KubeconfigError::ReadConfig(error, _))
            if file.is_none() && error.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(Contexts::default());
        }
        Err(error) => return Err(unusable(file, &error)),
    };
    let current = read.current_context.filter(|name| !name.is_empty());
    Ok(Contexts { names: read.contexts.into_iter().map(|context| context.name).collect(), current })
}

impl Access {
    /// What a client is made of; asks nothing of the API server.
    pub(crate) async fn config(&self) -> Result<Config, Error> {
        let file = self.kubeconfig.as_deref();
        let wrong = |error: &KubeconfigError| unusable(file, error);
        let read = read(file).map_err(|error| wrong(&error))?;
        let choice = KubeConfigOptions { context: Some(self.context.clone()), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(read, &choice).await.map_err(|error| wrong(&error))?;
        if config.cluster_url.scheme_str() != Some("https") {
            return Err(Error::Scheme { address: location(&config) });
        }
        config.connect_timeout = Some(CONNECT_WITHIN);
        Ok(config)
    }
}

/// The API server's URL, without a user and password that it may hold.
pub(crate) fn location(config: &Config) -> String {
    let url = &config.cluster_url;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme_str().unwrap_or("http"), url.host().unwrap_or_default())
}

fn read(file: Option<&Path>) -> Result<Kubeconfig, KubeconfigError> {
    match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    }
}

fn unusable(file: Option<&Path>, error: &KubeconfigError) -> Error {
    let shown = match (error, file) {
        (KubeconfigError::ReadConfig(_, path), _) => path.display().to_string(),
        (_, Some(file)) => file.display().to_string(),
        (_, None) => "(KUBECONFIG, or ~/.kube/config)".to_owned(),
    };
    Error::Kubeconfig { file: shown, source: reason(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Config\napiVersion: v1\ncurrent-context: b\ncontexts:\n- {name: a, context: {cluster: c, user: u}}\n- \
                        {name: b, context: {cluster: c, user: u}}\nclusters: [{name: c, cluster: {server: 'SERVER'}}]\nusers: [{name: \
                        u, user: {token: of-nobody}}]\n";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn access(path: &Path, context: &str) -> Access {
        Access { kubeconfig: Some(path.to_owned()), context: context.to_owned(), namespace: None }
    }

    fn chain(error: &Error) -> String {
        error.failure("x").one_line()
    }

    #[tokio::test]
    async fn a_kubeconfig_names_its_contexts_and_the_way_to_each() {
        let (_folder, path) = file(&TEXT.replace("SERVER", "https://user:pass@api.example:6443/x"));
        let found = contexts(Some(&path)).unwrap();
        assert_eq!((found.names.join(","), found.current.as_deref()), ("a,b".to_owned(), Some("b")));
        assert_eq!(location(&access(&path, "a").config().await.unwrap()), "https://api.example:6443");
        let text = chain(&access(&path, "z").config().await.unwrap_err());
        assert!(text.ends_with("has no context \"z\""), "{text}");
    }

    #[tokio::test]
    async fn credentials_are_sent_by_https_only_and_no_mistake_shows_one() {
        let (_folder, path) = file(&TEXT.replace("SERVER", "http://api.example"));
        let text = chain(&access(&path, "a").config().await.unwrap_err());
        assert!(text.contains("only sent by https"), "{text}");
        let (_folder, path) = file(&format!("{TEXT}users:\n- name: u\n  user: {{token: of-nobody\n"));
        let text = chain(&contexts(Some(&path)).unwrap_err());
        assert!(text.contains("is not a kubeconfig in YAML (line ") && !text.contains("of-nobody"), "{text}");
        let text = chain(&contexts(Some(Path::new("/nowhere/config"))).unwrap_err());
        assert!(text.contains("/nowhere/config") && text.contains("No such file"), "{text}");
    }
}
