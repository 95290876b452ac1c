//! The replicas of a cluster's API server, from flags: which ones there are, and which one this is.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::Args;
use mesh_runtime::Mistakes;

/// What a group of replicas may count: an even number tolerates no more failures than the odd one below it.
const SIZES: [usize; 3] = [1, 3, 5];

#[derive(Debug, Args)]
pub(super) struct ReplicaArgs {
    /// Number of this replica, one of those in --replica
    #[arg(long, env = "ISTHMUS_REPLICA_ID", default_value = "1")]
    replica_id: String,
    /// A replica of this cluster's API server and the host at which the others reach it, ID=HOST; repeat it for all 3 (or
    /// 5), this one included, and give all replicas the same list. Without it there is one replica
    #[arg(long, env = "ISTHMUS_REPLICA", value_delimiter = ',', value_name = "ID=HOST")]
    replica: Vec<String>,
    /// With an empty --state-dir: join the group that the other replicas form already, which has been told of this one by
    /// `meshctl store members add`
    #[arg(long, env = "ISTHMUS_REPLICA_JOIN")]
    replica_join: bool,
    /// Where the other replicas connect; the port is the same on all of them
    #[arg(long, env = "ISTHMUS_LISTEN_RAFT", default_value = "0.0.0.0:2380")]
    listen_raft: String,
}

/// All replicas of a cluster's API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// This one.
    pub own: u64,
    /// Where others reach each, by number; empty where there is one.
    pub hosts: BTreeMap<u64, String>,
    /// An empty replica joins a group instead of founding one.
    pub joins: bool,
    pub listen: SocketAddr,
}

impl Replicas {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.hosts.len().max(1)
    }

    pub fn others_hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|(id, _)| **id != self.own).map(|(_, host)| host.as_str())
    }

    /// `host:port` of every other replica.
    pub fn others(&self, port: u16) -> BTreeMap<u64, String> {
        let others = self.hosts.iter().filter(|(id, _)| **id != self.own);
        others.map(|(id, host)| (*id, endpoint(host, port))).collect()
    }
}

/// IPv6 addresses need brackets before a port.
pub fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl ReplicaArgs {
    pub(super) fn check(&self, m: &mut Mistakes) -> Option<Replicas> {
        let own = self.replica_id.parse::<u64>().ok().filter(|id| *id != 0);
        if own.is_none() {
            m.add("--replica-id", format!("{:?} is not a number from 1", self.replica_id));
        }
        let mut hosts = BTreeMap::new();
        for entry in self.replica.iter().filter(|entry| !entry.is_empty()) {
            let parts = entry.split_once('=').and_then(|(id, host)| Some((id.parse::<u64>().ok()?, host)));
            let Some((id, host)) = parts.filter(|(id, host)| *id != 0 && is_host(host)) else {
                m.add("--replica", format!("{entry:?} is not ID=HOST, such as 1=10.0.0.1"));
                continue;
            };
            if hosts.values().any(|known| known == host) {
                m.add("--replica", format!("{host} is named twice: replicas have hosts of their own"));
            }
            if hosts.insert(id, host.to_owned()).is_some() {
                m.add("--replica", format!("{id} is named twice"));
            }
        }
        if !hosts.is_empty() {
            if !SIZES.contains(&hosts.len()) {
                m.add("--replica", format!("{} replicas are not possible: use 1, 3 or 5", hosts.len()));
            }
            if let Some(own) = own.filter(|own| !hosts.contains_key(own)) {
                m.add("--replica-id", format!("{own} is not among --replica"));
            }
        }
        let listen = super::parsed::<SocketAddr>(m, "--listen-raft", &self.listen_raft, "ADDRESS:PORT")?;
        Some(Replicas { own: own?, hosts, joins: self.replica_join, listen })
    }
}

/// A DNS name or an IP address, without a port.
pub fn is_host(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    text.parse::<std::net::IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(is_name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        replicas: ReplicaArgs,
    }

    fn check(flags: &[&str]) -> Result<Replicas, String> {
        let line = Line::try_parse_from([&["test"], flags].concat()).expect("known flags");
        let mut mistakes = Mistakes::default();
        let replicas = line.replicas.check(&mut mistakes);
        mistakes.finish().map_err(|mistakes| mistakes.to_string())?;
        Ok(replicas.expect("a setting without a value has a mistake"))
    }

    #[test]
    fn without_flags_there_is_one_replica() {
        let one = check(&[]).unwrap();
        assert_eq!((one.own, one.count(), one.others(2380).len()), (1, 1, 0));
    }

    #[test]
    fn each_of_three_knows_the_two_others() {
        let three = check(&["--replica-id", "2", "--replica", "1=10.0.0.1,2=r2.example,3=fd00::3"]).unwrap();
        let others: Vec<(u64, String)> = three.others(2380).into_iter().collect();
        assert_eq!(others, [(1, "10.0.0.1:2380".to_owned()), (3, "[fd00::3]:2380".to_owned())]);
    }

    #[test]
    fn lists_that_make_no_group_are_refused() {
        for (flags, part) in [
            (vec!["--replica", "1=a,2=b"], "--replica: 2 replicas are not possible: use 1, 3 or 5"),
            (vec!["--replica", "1=a,1=b,3=c"], "--replica: 1 is named twice"),
            (vec!["--replica", "1=a,2=a,3=c"], "--replica: a is named twice: replicas have hosts of their own"),
            (vec!["--replica", "a,2=b:2380,0=c"], "--replica: \"a\" is not ID=HOST, such as 1=10.0.0.1"),
            (vec!["--replica", "a,2=b:2380,0=c"], "--replica: \"2=b:2380\" is not ID=HOST"),
            (vec!["--replica-id", "4", "--replica", "1=a,2=b,3=c"], "--replica-id: 4 is not among --replica"),
            (vec!["--replica-id", "zero"], "--replica-id: \"zero\" is not a number from 1"),
        ] {
            let text = check(&flags).unwrap_err();
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }
}
