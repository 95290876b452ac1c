//! Where others reach this server, from flags: what peers and tokens are told, and what stands in its certificate.

use std::net::IpAddr;

use certs::ServerNames;
use clap::Args;
use mesh_runtime::Mistakes;

use super::replicas::{endpoint, is_host};

#[derive(Debug, Args)]
pub(super) struct AdvertiseArgs {
    /// IP address or DNS name at which others reach this server; repeatable. Told to peers, and in the server's certificate
    #[arg(long, env = "ISTHMUS_ADVERTISE_ADDRESS", value_delimiter = ',', value_name = "HOST")]
    advertise_address: Vec<String>,
    /// Port at which others reach the etcd API at those addresses, where it is another than --listen-etcd's: that of a
    /// NodePort or a load balancer
    #[arg(long, env = "ISTHMUS_ADVERTISE_ETCD_PORT", default_value = "", value_name = "PORT")]
    advertise_etcd_port: String,
    /// The same for --listen-mesh
    #[arg(long, env = "ISTHMUS_ADVERTISE_MESH_PORT", default_value = "", value_name = "PORT")]
    advertise_mesh_port: String,
}

/// Where others reach this server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    /// IP addresses and DNS names, in the order in which they are tried.
    pub hosts: Vec<String>,
    /// `None`: the one that it listens on.
    pub etcd_port: Option<u16>,
    /// `None`: the one that it listens on.
    pub mesh_port: Option<u16>,
}

impl Advertised {
    /// `host:port` of the etcd API for others; `listens` is the port that this server has.
    pub fn etcd_endpoints(&self, listens: u16) -> Vec<String> {
        self.endpoints(self.etcd_port.unwrap_or(listens))
    }

    /// `host:port` for agents, meshctl and joining clusters; `listens` is the port that this server has.
    pub fn mesh_endpoints(&self, listens: u16) -> Vec<String> {
        self.endpoints(self.mesh_port.unwrap_or(listens))
    }

    fn endpoints(&self, port: u16) -> Vec<String> {
        self.hosts.iter().map(|host| endpoint(host, port)).collect()
    }

    /// What the server's certificate holds beside the cluster's own names.
    pub fn server_names(&self) -> ServerNames {
        let mut names = ServerNames { dns: Vec::new(), ips: Vec::new() };
        for host in &self.hosts {
            match host.parse::<IpAddr>() {
                Ok(ip) => names.ips.push(ip),
                Err(_a_name) => names.dns.push(host.clone()),
            }
        }
        names
    }
}

impl AdvertiseArgs {
    pub(super) fn check(&self, m: &mut Mistakes) -> Advertised {
        let mut hosts: Vec<String> = Vec::new();
        for text in self.advertise_address.iter().filter(|text| !text.is_empty()) {
            match host(text) {
                Some(host) if !hosts.contains(&host) => hosts.push(host),
                Some(_known) => {}
                None => m.add("--advertise-address", format!("{text:?} is neither an IP address nor a DNS name")),
            }
        }
        let etcd_port = port(m, "--advertise-etcd-port", &self.advertise_etcd_port);
        let mesh_port = port(m, "--advertise-mesh-port", &self.advertise_mesh_port);
        if hosts.is_empty() && (etcd_port.is_some() || mesh_port.is_some()) {
            m.add("--advertise-address", "is missing: a port alone is no place to connect to");
        }
        Advertised { hosts, etcd_port, mesh_port }
    }
}

/// In the form in which it is told. A name that ends in digits only is an address with a mistake in it.
fn host(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_string());
    }
    let labels: Vec<&str> = text.split('.').collect();
    let is_label = |label: &&str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let ends_in_a_number = labels.last().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    (is_host(text) && labels.iter().all(is_label) && !ends_in_a_number).then(|| text.to_ascii_lowercase())
}

fn port(m: &mut Mistakes, flag: &str, text: &str) -> Option<u16> {
    if text.is_empty() {
        return None;
    }
    let port = text.parse().ok().filter(|port| *port != 0);
    if port.is_none() {
        m.add(flag, format!("{text:?} is not a port (1 to 65535)"));
    }
    port
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        advertise: AdvertiseArgs,
    }

    fn check(flags: &[&str]) -> Result<Advertised, String> {
        let line = Line::try_parse_from([&["test"], flags].concat()).expect("known flags");
        let mut mistakes = Mistakes::default();
        let advertised = line.advertise.check(&mut mistakes);
        mistakes.finish().map_err(|mistakes| mistakes.to_string())?;
        Ok(advertised)
    }

    #[test]
    fn others_are_told_the_ports_of_the_way_in_and_not_those_that_are_listened_on() {
        let plain = check(&["--advertise-address", "10.0.0.1,fd00::1,10.0.0.1"]).unwrap();
        assert_eq!(plain.etcd_endpoints(2379), ["10.0.0.1:2379", "[fd00::1]:2379"]);
        let ports = ["--advertise-etcd-port", "32379", "--advertise-mesh-port", "32382"];
        let behind = check(&[&["--advertise-address", "10.0.0.1,Mesh.example.org"], &ports[..]].concat()).unwrap();
        assert_eq!(behind.etcd_endpoints(2379), ["10.0.0.1:32379", "mesh.example.org:32379"]);
        assert_eq!(behind.mesh_endpoints(2382), ["10.0.0.1:32382", "mesh.example.org:32382"]);
    }

    #[test]
    fn addresses_and_names_both_stand_in_the_certificate() {
        let names = check(&["--advertise-address", "lb.example.org,192.0.2.7"]).unwrap().server_names();
        assert_eq!(names.dns, ["lb.example.org"]);
        assert_eq!(names.ips, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_nobody_could_connect_to_is_refused() {
        for (flags, part) in [
            (
                &["--advertise-address", "10.0.0.999"][..],
                "--advertise-address: \"10.0.0.999\" is neither an IP address",
            ),
            (&["--advertise-address", "mesh..org"], "\"mesh..org\" is neither"),
            (&["--advertise-address", "10.0.0.1:2379"], "\"10.0.0.1:2379\" is neither"),
            (&["--advertise-etcd-port", "32379"], "--advertise-address: is missing: a port alone"),
            (&["--advertise-address", "a", "--advertise-mesh-port", "0"], "--advertise-mesh-port: \"0\" is not a port"),
        ] {
            let text = check(flags).unwrap_err();
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }
}
