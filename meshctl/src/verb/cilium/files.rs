//! The text of one of Cilium's clustermesh files (`pkg/clustermesh/common/config.go`, the chart's `clustermesh-config`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mesh_proto::v1;
use serde::Serialize;

/// By which a file of ours is known, so that those of clusters that have parted can be taken away.
const HEADER: &str = "# Written by `meshctl cilium config`. Replace it by a rename, never write over it.\n";

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Written {
    pub(super) file: String,
    pub(super) what: String,
    /// `written`, `unchanged` or `removed`.
    pub(super) done: &'static str,
}

impl Written {
    pub(super) fn new(file: &str, what: &str) -> Self {
        Self { file: file.to_owned(), what: what.to_owned(), done: "written" }
    }

    pub(super) fn unchanged(file: &str, what: &str) -> Self {
        Self { done: "unchanged", ..Self::new(file, what) }
    }

    pub(super) fn removed(file: &str) -> Self {
        Self { done: "removed", ..Self::new(file, "a cluster that is joined no more") }
    }
}

pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// How to reach the etcd API of `own`; the files are those of CA, certificate and key, in the folder `mounted`.
pub(super) fn entry(own: &v1::ClusterDeclaration, mounted: &Path, files: [&str; 3]) -> Result<String, String> {
    let (endpoints, aliases) = endpoints(own)?;
    let mut lines = vec!["endpoints:".to_owned()];
    lines.extend(endpoints.iter().map(|endpoint| format!("- {endpoint}")));
    let fields = ["trusted-ca-file", "cert-file", "key-file"].into_iter().zip(files);
    lines.extend(fields.map(|(field, file)| format!("{field}: {}", mounted.join(file).display())));
    if !aliases.is_empty() {
        lines.push(format!("cilium-host-aliases:\n- hostname: {}\n  ips:", host(own)));
        lines.extend(aliases.iter().map(|ip| format!("  - {ip}")));
    }
    Ok(format!("{HEADER}{}\n", lines.join("\n")))
}

fn host(own: &v1::ClusterDeclaration) -> String {
    format!("{}.mesh.cilium.io", own.name)
}

/// URLs, and the addresses that Cilium's name for the cluster stands for. Replicas at addresses with one port are one name;
/// what is known by a name of its own is called by that.
fn endpoints(own: &v1::ClusterDeclaration) -> Result<(Vec<String>, Vec<IpAddr>), String> {
    let mut by_port: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    let mut urls = Vec::new();
    for endpoint in &own.etcd_endpoints {
        match endpoint.parse::<SocketAddr>() {
            Ok(address) => by_port.entry(address.port()).or_default().push(address.ip()),
            Err(_a_name) => urls.push(format!("https://{endpoint}")),
        }
    }
    let mut aliases = Vec::new();
    if by_port.len() == 1 {
        for (port, ips) in by_port {
            urls.insert(0, format!("https://{}:{port}", host(own)));
            aliases = ips;
        }
    } else {
        let addresses = by_port.into_iter().flat_map(|(port, ips)| ips.into_iter().map(move |ip| (ip, port)));
        urls.extend(addresses.map(|address| format!("https://{}", SocketAddr::from(address))));
    }
    if urls.is_empty() {
        Err("it knows no address at which others reach its etcd API".to_owned())
    } else {
        Ok((urls, aliases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(endpoints: &[&str]) -> v1::ClusterDeclaration {
        let etcd_endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        v1::ClusterDeclaration { name: "east".into(), etcd_endpoints, ..v1::ClusterDeclaration::default() }
    }

    #[test]
    fn replicas_are_one_name_with_several_addresses() {
        let own = own(&["10.0.0.1:2379", "10.0.0.2:2379"]);
        let text = entry(&own, Path::new("/var/lib/cilium/clustermesh"), ["ca.crt", "c.crt", "c.key"]).unwrap();
        let want = "endpoints:\n- https://east.mesh.cilium.io:2379\n\
                    trusted-ca-file: /var/lib/cilium/clustermesh/ca.crt\n\
                    cert-file: /var/lib/cilium/clustermesh/c.crt\n\
                    key-file: /var/lib/cilium/clustermesh/c.key\n\
                    cilium-host-aliases:\n- hostname: east.mesh.cilium.io\n  ips:\n  - 10.0.0.1\n  - 10.0.0.2\n";
        assert_eq!(text, format!("{HEADER}{want}"));
        assert!(is_ours(&text));
    }

    #[test]
    fn names_are_called_by_name_and_several_ports_by_address() {
        let of = |list: &[&str]| endpoints(&own(list)).unwrap().0;
        assert_eq!(of(&["mesh.example:2379"]), ["https://mesh.example:2379"]);
        assert_eq!(of(&["10.0.0.1:1", "10.0.0.1:2"]), ["https://10.0.0.1:1", "https://10.0.0.1:2"]);
        assert_eq!(of(&["[fd00::1]:1", "10.0.0.1:2"]), ["https://[fd00::1]:1", "https://10.0.0.1:2"]);
        assert!(endpoints(&own(&[])).is_err());
    }
}
