//! The configuration file: which clusters there are and how each is reached.
//!
//! Owns reading and checking it; all mistakes are reported together, each with the name of what is wrong. Files named in
//! it are relative to its own folder. It holds paths, never keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes;

/// How one cluster's admin API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The local root user's socket.
    Socket(PathBuf),
    /// mTLS with an `admin-<cluster>` certificate.
    Tls { endpoint: String, ca: PathBuf, cert: PathBuf, key: PathBuf, server_name: Option<String> },
    /// Through the API server of its Kubernetes, by the caller's rights there.
    Kubernetes(kubernetes::Access),
}

/// A named cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) name: String,
    /// One for each replica of its API server that is named, at least one; any of them answers for the cluster.
    pub(crate) addresses: Vec<Address>,
}

/// The file, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) contexts: Vec<Context>,
    /// The command to put in front, so that it runs where the node's bpffs is seen.
    pub(crate) nodes: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read it")]
    Read(#[source] std::io::Error),
    #[error("it is not what meshctl expects\n{0}")]
    Parse(String),
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
    #[serde(default)]
    nodes: BTreeMap<String, NodeEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    admin_socket: Option<OneOrMany<PathBuf>>,
    endpoint: Option<OneOrMany<String>>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    kube_context: Option<String>,
    kubeconfig: Option<PathBuf>,
    mesh_namespace: Option<String>,
}

/// `x = "a"`, or `x = ["a", "b"]` where a cluster's API server has replicas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    exec: Vec<String>,
}

/// Reads `path`, or the default file; `None` where nobody has written that.
pub(crate) fn load(path: Option<&Path>) -> Result<Option<Config>, Failure> {
    let default = std::env::home_dir().map(|home| home.join(".config/isthmus/meshctl.toml"));
    let is_named = path.is_some();
    let Some(path) = path.map(Path::to_owned).or(default) else { return Ok(None) };
    let failed = |error: &Error| {
        Failure::new(Exit::Config, path.display().to_string(), error).hint(
            "a context looks like this:\n    [contexts.cluster-a]\n    admin_socket = \"/run/isthmus/admin.sock\"   \
             # or: endpoint = \"host:2382\", ca, cert, key (files); or: kube_context = \"kind-a\"",
        )
    };
    let text = match std::fs::read_to_string(&path) {
        Err(error) if !is_named && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|e| failed(&Error::Read(e)))?,
    };
    parse(&text, path.parent().unwrap_or(Path::new("."))).map(Some).map_err(|e| failed(&e))
}

/// Checks the text of a file that lies in `folder`.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Config, Error> {
    let file: File = toml::from_str(text).map_err(|e| Error::Parse(e.to_string().trim_end().to_owned()))?;
    let mut mistakes = Vec::new();
    let mut contexts = Vec::new();
    for (name, entry) in file.contexts {
        match addresses(entry, folder) {
            Ok(addresses) => contexts.push(Context { name, addresses }),
            Err(found) => mistakes.extend(found.into_iter().map(|m| format!("contexts.{name}: {m}"))),
        }
    }
    let mut nodes = BTreeMap::new();
    for (name, node) in file.nodes {
        if node.exec.first().is_none_or(String::is_empty) {
            mistakes.push(format!("nodes.{name}: exec is empty: name a command such as [\"nsenter\", ...]"));
        }
        nodes.insert(name, node.exec);
    }
    if contexts.is_empty() && mistakes.is_empty() {
        mistakes.push("there is no [contexts.NAME] in it".to_owned());
    }
    if mistakes.is_empty() { Ok(Config { contexts, nodes }) } else { Err(Error::Invalid(mistakes)) }
}

fn addresses(entry: Entry, folder: &Path) -> Result<Vec<Address>, Vec<String>> {
    let Entry { admin_socket, endpoint, ca, cert, key, server_name, kube_context, kubeconfig, mesh_namespace } = entry;
    let tls_only = [("ca", ca.is_some()), ("cert", cert.is_some()), ("key", key.is_some())];
    let Some(context) = kube_context else {
        let stray = [("kubeconfig", kubeconfig.is_some()), ("mesh_namespace", mesh_namespace.is_some())];
        let stray: Vec<_> = stray.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        if !stray.is_empty() {
            return Err(vec![format!("{} means nothing without kube_context", stray.join(", "))]);
        }
        return direct(admin_socket, endpoint, ca, cert, key, server_name.as_deref(), folder);
    };
    if admin_socket.is_some() || endpoint.is_some() || tls_only.iter().any(|(_, set)| *set) || server_name.is_some() {
        return Err(vec!["kube_context stands alone, or with kubeconfig and mesh_namespace".to_owned()]);
    }
    let kubeconfig = kubeconfig.map(|file| folder.join(file));
    Ok(vec![Address::Kubernetes(kubernetes::Access { kubeconfig, context, namespace: mesh_namespace })])
}

/// One of the two ways without Kubernetes.
fn direct(
    admin_socket: Option<OneOrMany<PathBuf>>,
    endpoint: Option<OneOrMany<String>>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<&str>,
    folder: &Path,
) -> Result<Vec<Address>, Vec<String>> {
    let tls_only = [("ca", ca.is_some()), ("cert", cert.is_some()), ("key", key.is_some())];
    match (admin_socket.map(OneOrMany::into_vec), endpoint.map(OneOrMany::into_vec)) {
        (Some(sockets), _) if sockets.is_empty() => Err(vec!["admin_socket is an empty list".to_owned()]),
        (_, Some(endpoints)) if endpoints.is_empty() => Err(vec!["endpoint is an empty list".to_owned()]),
        (Some(_), Some(_)) => Err(vec!["both admin_socket and endpoint: keep one".to_owned()]),
        (None, None) => Err(vec!["neither admin_socket nor endpoint nor kube_context".to_owned()]),
        (Some(sockets), None) => {
            let stray: Vec<_> = tls_only.iter().filter(|(_, set)| *set).map(|(n, _)| *n).collect();
            if stray.is_empty() {
                Ok(sockets.into_iter().map(|socket| Address::Socket(folder.join(socket))).collect())
            } else {
                Err(vec![format!("{} means nothing with admin_socket", stray.join(", "))])
            }
        }
        (None, Some(endpoints)) => {
            let wrong = endpoints.iter().filter(|endpoint| !is_host_and_port(endpoint));
            let mut mistakes: Vec<String> =
                wrong.map(|endpoint| format!("endpoint {endpoint:?} is not host:port")).collect();
            match (ca, cert, key) {
                (Some(ca), Some(cert), Some(key)) if mistakes.is_empty() => {
                    let one = |endpoint| Address::Tls {
                        endpoint,
                        ca: folder.join(&ca),
                        cert: folder.join(&cert),
                        key: folder.join(&key),
                        server_name: server_name.map(str::to_owned),
                    };
                    Ok(endpoints.into_iter().map(one).collect())
                }
                _ => {
                    let missing = tls_only.iter().filter(|(_, set)| !set);
                    mistakes
                        .extend(missing.map(|(name, _)| format!("{name} is missing: endpoint needs ca, cert, key")));
                    Err(mistakes)
                }
            }
        }
    }
}

fn is_host_and_port(endpoint: &str) -> bool {
    let parts = endpoint.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    matches!(parts, Some((host, Ok(port))) if !host.is_empty() && port != 0 && !endpoint.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("/etc")).unwrap_err().to_string()
    }

    #[test]
    fn both_kinds_of_context_and_nodes_are_read() {
        let config = parse(
            r#"
            [contexts.cluster-a]
            admin_socket = ["run/a.sock", "/run/a2.sock"]
            [contexts.cluster-b]
            endpoint = "[2001:db8::1]:2382"
            ca = "/pki/ca.pem"
            cert = "admin.pem"
            key = "admin.key"
            server_name = "mesh"
            [contexts.cluster-c]
            kube_context = "kind-c"
            kubeconfig = "kube/config"
            [nodes.a1]
            exec = ["nsenter", "--net=/run/a1"]
            "#,
            Path::new("/etc"),
        )
        .unwrap();
        let sockets = ["/etc/run/a.sock", "/run/a2.sock"].map(|path| Address::Socket(path.into()));
        assert_eq!(config.contexts[0].addresses, sockets);
        let Address::Tls { endpoint, ca, cert, server_name, .. } = &config.contexts[1].addresses[0] else { panic!() };
        assert_eq!((endpoint.as_str(), server_name.as_deref()), ("[2001:db8::1]:2382", Some("mesh")));
        assert_eq!((ca.as_path(), cert.as_path()), (Path::new("/pki/ca.pem"), Path::new("/etc/admin.pem")));
        let access = kubernetes::Access {
            kubeconfig: Some("/etc/kube/config".into()),
            context: "kind-c".to_owned(),
            namespace: None,
        };
        assert_eq!(config.contexts[2].addresses, [Address::Kubernetes(access)]);
        assert_eq!(config.nodes["a1"], ["nsenter", "--net=/run/a1"]);
    }

    #[test]
    fn all_mistakes_are_reported_together_by_name() {
        let text = error(
            r#"
            [contexts.a]
            admin_socket = "x"
            endpoint = "h:1"
            [contexts.b]
            [contexts.c]
            endpoint = "https://h"
            ca = "ca.pem"
            [contexts.d]
            admin_socket = "x"
            key = "k"
            [contexts.e]
            admin_socket = []
            [contexts.f]
            kube_context = "k"
            endpoint = "h:1"
            [contexts.g]
            admin_socket = "x"
            kubeconfig = "k"
            [nodes.n]
            exec = []
            "#,
        );
        assert_eq!(
            text,
            "contexts.a: both admin_socket and endpoint: keep one\n\
             contexts.b: neither admin_socket nor endpoint nor kube_context\n\
             contexts.c: endpoint \"https://h\" is not host:port\n\
             contexts.c: cert is missing: endpoint needs ca, cert, key\n\
             contexts.c: key is missing: endpoint needs ca, cert, key\n\
             contexts.d: key means nothing with admin_socket\n\
             contexts.e: admin_socket is an empty list\n\
             contexts.f: kube_context stands alone, or with kubeconfig and mesh_namespace\n\
             contexts.g: kubeconfig means nothing without kube_context\n\
             nodes.n: exec is empty: name a command such as [\"nsenter\", ...]"
        );
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let text = error("[contexts.a]\nadmin_sockte = \"x\"\n");
        assert!(text.contains("line 2") && text.contains("admin_sockte"), "{text}");
    }

    #[test]
    fn an_empty_file_is_a_mistake() {
        assert_eq!(error(""), "there is no [contexts.NAME] in it");
    }
}
