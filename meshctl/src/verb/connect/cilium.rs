//! The file that says what a Cilium cluster is: Cilium's own clustermesh configuration of it, and what that leaves out.
//!
//! Pure but for the reading of that one file. The certificates that it names are read by the API server alone, so that a
//! key stays where it is.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use mesh_proto::convert::prefix_message;
use mesh_proto::v1;
use serde::Deserialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// The port of `clustermesh-apiserver`.
const PORT: u16 = 2379;

/// Cilium's fields (`pkg/clustermesh/common/config.go`) have Cilium's names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    /// `https://host[:port]`.
    endpoints: Vec<String>,
    trusted_ca_file: String,
    cert_file: String,
    key_file: String,
    #[serde(default)]
    cilium_host_aliases: Vec<HostAlias>,
    /// Its `cluster.name`; in Cilium's folder that is the file's name, which counts here, too, where it is left out.
    name: Option<String>,
    /// Its `cluster.id`.
    id: u32,
    pod_prefixes: Vec<IpNet>,
    node_prefixes: Vec<IpNet>,
    #[serde(default)]
    service_prefixes: Vec<IpNet>,
    /// Its `maxConnectedClusters`.
    #[serde(default = "default_clusters")]
    max_connected_clusters: u32,
    #[serde(default)]
    encryption: Encryption,
    /// Hashes of the CAs of the cluster that joins it which it was given.
    #[serde(default)]
    knows_cas: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostAlias {
    hostname: String,
    ips: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encryption {
    #[default]
    Wireguard,
    None,
}

const fn default_clusters() -> u32 {
    255
}

pub(super) fn read(path: &Path) -> Result<v1::ConnectCiliumRequest, Failure> {
    let object = || format!("file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(Exit::Usage, object(), &e))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    request(&text, stem).map_err(|wrong| {
        Failure::said(Exit::Usage, object(), wrong).hint("what belongs into it, with an example: docs/cilium.md")
    })
}

fn request(text: &str, stem: &str) -> Result<v1::ConnectCiliumRequest, String> {
    let file: Written = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut endpoints = Vec::new();
    for url in &file.endpoints {
        endpoints.extend(addresses(url, &file.cilium_host_aliases)?);
    }
    let prefixes = |list: &[IpNet]| list.iter().map(prefix_message).collect();
    let encryption = match file.encryption {
        Encryption::Wireguard => v1::Encryption::Wireguard,
        Encryption::None => v1::Encryption::None,
    };
    Ok(v1::ConnectCiliumRequest {
        name: file.name.unwrap_or_else(|| stem.to_owned()),
        id: file.id,
        endpoints,
        trusted_ca_file: file.trusted_ca_file,
        cert_file: file.cert_file,
        key_file: file.key_file,
        pod_prefixes: prefixes(&file.pod_prefixes),
        node_prefixes: prefixes(&file.node_prefixes),
        service_prefixes: prefixes(&file.service_prefixes),
        max_connected_clusters: file.max_connected_clusters,
        encryption: encryption.into(),
        knows_cas: file.knows_cas,
    })
}

/// Where to connect for one URL: the addresses of its alias, or its own host. Its host is the name to be proved.
fn addresses(url: &str, aliases: &[HostAlias]) -> Result<Vec<v1::CiliumEndpoint>, String> {
    let wrong = |why: &str| format!("endpoint {url:?} {why}");
    let authority = match url.split_once("://") {
        Some(("https", authority)) => authority.trim_end_matches('/'),
        Some(("http", _)) => return Err(wrong("is without TLS, which this version does not call: give an https one")),
        _ => return Err(wrong("is not of the form https://host:port")),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, port.parse::<u16>().map_err(|_named_here| wrong("has no valid port"))?)
        }
        _ => (authority, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(wrong("is not of the form https://host:port"));
    }
    let alias = aliases.iter().find(|alias| alias.hostname == host);
    let dialled = match alias {
        Some(alias) if alias.ips.is_empty() => return Err(format!("cilium-host-aliases: {host} has no ips")),
        Some(alias) => alias.ips.iter().map(|ip| std::net::SocketAddr::new(*ip, port).to_string()).collect(),
        None if host.contains(':') => vec![format!("[{host}]:{port}")],
        None => vec![format!("{host}:{port}")],
    };
    let endpoint = |address| v1::CiliumEndpoint { address, server_name: host.to_owned() };
    Ok(dialled.into_iter().map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
endpoints: ['https://cluster-c.mesh.cilium.io:32379']
trusted-ca-file: /etc/c/ca.crt
cert-file: /etc/c/tls.crt
key-file: /etc/c/tls.key
cilium-host-aliases: [{hostname: cluster-c.mesh.cilium.io, ips: [10.0.0.9, 10.0.0.10]}]
id: 3
pod-prefixes: [10.3.0.0/16]
node-prefixes: [172.30.3.0/24]
";

    #[test]
    fn ciliums_own_configuration_is_read_with_what_it_leaves_out() {
        let read = request(FILE, "cluster-c").unwrap();
        assert_eq!((read.name.as_str(), read.id, read.max_connected_clusters), ("cluster-c", 3, 255));
        let endpoints: Vec<_> = read.endpoints.iter().map(|e| (e.address.as_str(), e.server_name.as_str())).collect();
        let name = "cluster-c.mesh.cilium.io";
        assert_eq!(endpoints, [("10.0.0.9:32379", name), ("10.0.0.10:32379", name)]);
        assert_eq!(read.encryption, i32::from(v1::Encryption::Wireguard));
        let named = request(&format!("{FILE}name: other\nencryption: none\n"), "cluster-c").unwrap();
        assert_eq!((named.name.as_str(), named.encryption), ("other", i32::from(v1::Encryption::None)));
    }

    #[test]
    fn an_endpoint_is_a_name_or_an_address_with_a_port_or_without() {
        let of = |url: &str| addresses(url, &[]).map(|all| (all[0].address.clone(), all[0].server_name.clone()));
        assert_eq!(of("https://etcd.example:1234").unwrap(), ("etcd.example:1234".into(), "etcd.example".into()));
        assert_eq!(of("https://etcd.example/").unwrap(), ("etcd.example:2379".into(), "etcd.example".into()));
        assert_eq!(of("https://[fd00::1]:7").unwrap(), ("[fd00::1]:7".into(), "fd00::1".into()));
        assert_eq!(of("https://[fd00::1]").unwrap(), ("[fd00::1]:2379".into(), "fd00::1".into()));
        for bad in ["http://etcd.example", "etcd.example:2379", "https://", "https://x:y", "https://a/b:1", "ftp://x"] {
            assert!(of(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_file_that_says_too_little_or_something_unknown_is_refused_by_the_fields_name() {
        let without =
            |field: &str| FILE.lines().filter(|line| !line.starts_with(field)).fold(String::new(), |t, l| t + l + "\n");
        for field in ["endpoints", "trusted-ca-file", "cert-file", "key-file", "id", "pod-prefixes", "node-prefixes"] {
            let error = request(&without(field), "c").unwrap_err();
            assert!(error.contains(field), "{field}: {error}");
        }
        assert!(request(&format!("{FILE}password: x\n"), "c").unwrap_err().contains("password"));
        let alias = FILE.replace("[10.0.0.9, 10.0.0.10]", "[]");
        assert!(request(&alias, "c").unwrap_err().contains("has no ips"));
    }
}
