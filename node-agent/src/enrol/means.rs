//! By what this node's agent enrols: what it shows, to which servers, and by which CAs it verifies them before it shows it.

use std::io;
use std::path::{Path, PathBuf};

use certs::token::{Bearer, Token};
use certs::{CaHash, Trust, TrustBundle};
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};

use super::{Attempt, Error, Options};

/// Which files a person, or Kubernetes, gave. Read anew at each attempt: they may come late, and be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Only what the state folder holds.
    Nothing,
    /// A token of the cluster for this node; it can be used once.
    Token(PathBuf),
    /// The token of the ServiceAccount of the agent's pod, and the CAs of the cluster.
    ServiceAccount { token_file: PathBuf, trust_bundle_file: PathBuf },
}

/// What goes to an API server. `Debug` is left out, since it holds a secret.
pub(super) struct Shown {
    /// Without a request for a certificate.
    pub(super) request: v1::EnrollRequest,
    pub(super) trust: Trust,
    pub(super) apiservers: Vec<String>,
    /// For the log.
    pub(super) by: String,
}

impl Means {
    pub(super) fn show(&self, options: &Options) -> Result<Shown, Attempt> {
        match self {
            Self::Nothing => Err(Error::NoToken(options.node.clone()).into()),
            Self::Token(path) => of_token(path, options),
            Self::ServiceAccount { token_file, trust_bundle_file } => {
                of_account(token_file, trust_bundle_file, options).map_err(Attempt::Again)
            }
        }
    }

    /// A key that was saved before the first request gets the same answer for the same token again.
    pub(super) fn keeps_its_key(&self) -> bool {
        matches!(self, Self::Nothing | Self::Token(_))
    }

    /// Whether the cluster has a newer CA than any that this agent knows, and none of its leaf: then it was made anew while
    /// this node was away, and nobody takes the leaf any more. Of files that cannot be read nothing is concluded, nor of older
    /// CAs, since a mounted file may be minutes behind a rotation.
    pub(super) fn supersedes(&self, held: &TrustBundle, issuer: Option<CaHash>) -> bool {
        let Self::ServiceAccount { trust_bundle_file, .. } = self else { return false };
        read_bundle(trust_bundle_file).is_ok_and(|mounted| {
            let newest = |bundle: &TrustBundle| bundle.facts().into_iter().map(|ca| ca.validity.not_before).max();
            !issuer.is_some_and(|issuer| mounted.contains(&issuer)) && newest(&mounted) > newest(held)
        })
    }
}

fn of_token(path: &Path, options: &Options) -> Result<Shown, Attempt> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Attempt::Again(format!("there is no token file {} yet", path.display())));
        }
        Err(source) => return Err(Error::TokenFile { path: path.to_owned(), source }.into()),
    };
    let token = Token::parse(&text).map_err(|source| Error::Token { path: path.to_owned(), source })?;
    let (path, node) = (path.to_owned(), options.node.clone());
    match &token.bearer {
        Bearer::Node(name) if name.0 == node => {}
        other => return Err(Error::WrongBearer { path, bearer: other.to_string(), node }.into()),
    }
    if token.issuer.name.as_str() != options.cluster {
        let (issuer, cluster) = (token.issuer.name.to_string(), options.cluster.clone());
        return Err(Error::WrongCluster { path, issuer, cluster }.into());
    }
    if token.is_expired(clock::unix_seconds()) {
        return Err(Error::Expired(path).into());
    }
    let given = &options.apiservers;
    Ok(Shown {
        request: v1::EnrollRequest { token: text, node, ..v1::EnrollRequest::default() },
        trust: Trust::Pinned(token.ca),
        apiservers: if given.is_empty() { token.endpoints } else { given.clone() },
        by: format!("token {}", token.id),
    })
}

/// Both files are Kubernetes' to bring and to renew, so that there is nothing about them that cannot change.
fn of_account(token_file: &Path, trust_bundle_file: &Path, options: &Options) -> Result<Shown, String> {
    let bundle = read_bundle(trust_bundle_file)?;
    let text = std::fs::read_to_string(token_file);
    let text =
        text.map_err(|error| format!("the ServiceAccount token {} cannot be read: {error}", token_file.display()))?;
    let token = text.trim().to_owned();
    if token.is_empty() {
        return Err(format!("the ServiceAccount token {} is empty", token_file.display()));
    }
    Ok(Shown {
        request: v1::EnrollRequest {
            service_account_token: token,
            node: options.node.clone(),
            ..v1::EnrollRequest::default()
        },
        trust: Trust::Bundle(bundle),
        apiservers: options.apiservers.clone(),
        by: "the pod's ServiceAccount".to_owned(),
    })
}

fn read_bundle(path: &Path) -> Result<TrustBundle, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the trust bundle {} cannot be read: {error}", path.display()))?;
    TrustBundle::from_pem(&text).map_err(|error| {
        format!("the trust bundle {} cannot be used: {}; mesh-apiserver writes it", path.display(), ErrorChain(&error))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use certs::RootCa;
    use mesh_types::ClusterName;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        means: Means,
    }

    fn files() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let [token_file, trust_bundle_file] = ["token", "ca.crt"].map(|name| dir.path().join(name));
        Files { means: Means::ServiceAccount { token_file, trust_bundle_file }, dir }
    }

    fn options(files: &Files) -> Options {
        Options {
            node: "n1".to_owned(),
            cluster: "a".to_owned(),
            apiservers: vec!["127.0.0.1:1".to_owned()],
            means: files.means.clone(),
            state_dir: files.dir.path().join("state"),
        }
    }

    fn again(files: &Files) -> String {
        match files.means.show(&options(files)) {
            Err(Attempt::Again(text)) => text,
            Err(Attempt::Final(error)) => panic!("final: {error}"),
            Ok(shown) => panic!("shown by {}", shown.by),
        }
    }

    fn ca() -> RootCa {
        RootCa::generate(&ClusterName::new("a").unwrap()).unwrap()
    }

    /// Certificates know whole seconds.
    fn newer_than(old: &RootCa) -> RootCa {
        let since = |ca: &RootCa| ca.bundle().facts()[0].validity.not_before;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let new = old.successor().unwrap();
            if since(&new) > since(old) {
                return new;
            }
            assert!(Instant::now() < deadline, "a clock that goes on");
        }
    }

    #[test]
    fn what_kubernetes_has_not_brought_yet_is_waited_for_and_no_token_goes_to_who_is_not_verified() {
        let files = files();
        let write = |name: &str, text: &str| std::fs::write(files.dir.path().join(name), text).unwrap();
        assert!(again(&files).contains("the trust bundle ") && again(&files).contains("cannot be read"));
        write("token", "of-the-pod\n");
        write("ca.crt", "");
        assert!(again(&files).contains("holds no certificate; mesh-apiserver writes it"), "{}", again(&files));
        let ca = ca();
        write("ca.crt", &ca.bundle().pem());
        let Ok(shown) = files.means.show(&options(&files)) else { panic!("both files are there") };
        assert_eq!(shown.request.service_account_token, "of-the-pod");
        assert_eq!((shown.request.token.as_str(), shown.request.node.as_str()), ("", "n1"));
        assert!(matches!(shown.trust, Trust::Bundle(bundle) if bundle == ca.bundle()));
        write("token", "\n");
        assert!(again(&files).contains("is empty"));
    }

    #[test]
    fn a_cluster_that_was_made_anew_supersedes_a_leaf_and_a_file_that_is_behind_a_rotation_does_not() {
        let files = files();
        let mount = |bundle: &TrustBundle| std::fs::write(files.dir.path().join("ca.crt"), bundle.pem()).unwrap();
        let old = ca();
        let new = newer_than(&old);
        let (old, new) = (old.bundle(), new.bundle());
        let issuer = |bundle: &TrustBundle| Some(bundle.hashes()[0]);
        assert!(!files.means.supersedes(&old, issuer(&old)), "there is no file");
        mount(&old);
        assert!(!files.means.supersedes(&old, issuer(&old)));
        assert!(!files.means.supersedes(&new, issuer(&new)), "the file is behind");
        mount(&old.merge(&new).unwrap());
        assert!(!files.means.supersedes(&old, issuer(&old)), "the rotation has begun, the leaf is still good");
        mount(&new);
        assert!(files.means.supersedes(&old, issuer(&old)));
        assert!(files.means.supersedes(&old, None));
        assert!(!Means::Nothing.supersedes(&old, issuer(&old)));
    }
}
