//! `--store` and what belongs to it.

use std::net::IpAddr;
use std::path::PathBuf;

use mesh_runtime::Mistakes;

const EXTERNAL: &str = "external=";

#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// Where state is kept: embedded, or external=https://HOST:2379[,https://...] for an etcd (3.5.8 or later, started with
    /// --max-txn-ops=1024 or more) that holds nothing but this cluster's state
    #[arg(long, env = "ISTHMUS_STORE", default_value = "embedded", value_name = "WHERE")]
    store: String,
    /// PEM file of the CA that the external etcd's certificates come from
    #[arg(long, env = "ISTHMUS_STORE_CA", value_name = "FILE")]
    store_ca: Option<PathBuf>,
    /// PEM file of the client certificate that the external etcd wants to see
    #[arg(long, env = "ISTHMUS_STORE_CERT", value_name = "FILE")]
    store_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, env = "ISTHMUS_STORE_KEY", value_name = "FILE")]
    store_key: Option<PathBuf>,
    /// Bytes of kept versions in memory at which the embedded store refuses writes (NOSPACE) until room is made
    #[arg(long, env = "ISTHMUS_STORE_QUOTA_BYTES", default_value_t = 2 << 30, value_name = "BYTES")]
    pub(super) store_quota_bytes: u64,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// In the state folder.
    Embedded,
    External(ExternalStore),
}

impl std::fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::External(store) => f.write_str(&store.endpoints.join(",")),
        }
    }
}

/// An etcd that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalStore {
    pub endpoints: Vec<String>,
    /// Files; `None` for an etcd on this machine that is reached in clear.
    pub tls: Option<StoreTls>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreTls {
    pub ca: PathBuf,
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl StoreArgs {
    /// A value does not mean that there was no mistake.
    pub(super) fn check(self, mistakes: &mut Mistakes) -> Option<StoreChoice> {
        let Some(list) = self.store.strip_prefix(EXTERNAL) else {
            if self.store == "embedded" {
                self.refuse_files(mistakes);
                return Some(StoreChoice::Embedded);
            }
            mistakes.add(
                "--store",
                format!("{:?} is unknown: use embedded, or external=https://HOST:2379[,https://...]", self.store),
            );
            return None;
        };
        let endpoints: Vec<String> = list.split(',').filter(|e| !e.is_empty()).map(str::to_owned).collect();
        if endpoints.is_empty() {
            mistakes.add("--store", "external= needs at least one endpoint, such as external=https://10.0.0.1:2379");
        }
        let (clear, secure): (Vec<&String>, Vec<&String>) =
            endpoints.iter().partition(|endpoint| endpoint.starts_with("http://"));
        for endpoint in secure.iter().filter(|endpoint| !endpoint.starts_with("https://")) {
            mistakes.add("--store", format!("{endpoint:?} is not an https:// URL"));
        }
        for endpoint in clear.iter().filter(|endpoint| !is_local(endpoint)) {
            mistakes
                .add("--store", format!("{endpoint:?} would send every key in clear over the network: use https://"));
        }
        if !clear.is_empty() && !secure.is_empty() {
            mistakes.add("--store", "endpoints are either all https:// or all http://");
        }
        if self.store_cert.is_some() != self.store_key.is_some() {
            mistakes.add("--store-cert", "--store-cert and --store-key go together");
        }
        let tls = if secure.is_empty() {
            self.refuse_files(mistakes);
            None
        } else if let Some(ca) = self.store_ca {
            Some(StoreTls { ca, identity: self.store_cert.zip(self.store_key) })
        } else {
            mistakes.add("--store-ca", "is missing: without it the external etcd could be anybody");
            None
        };
        Some(StoreChoice::External(ExternalStore { endpoints, tls }))
    }

    fn refuse_files(&self, mistakes: &mut Mistakes) {
        let given =
            [("--store-ca", &self.store_ca), ("--store-cert", &self.store_cert), ("--store-key", &self.store_key)];
        for (flag, _) in given.into_iter().filter(|(_, file)| file.is_some()) {
            mistakes.add(flag, "is for an external store with https:// endpoints");
        }
    }
}

/// An address of this machine; a name could be anywhere.
fn is_local(endpoint: &str) -> bool {
    let host = endpoint.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        store: StoreArgs,
    }

    fn check(flags: &[&str]) -> Result<StoreChoice, String> {
        let args = Only::try_parse_from([&["x"], flags].concat()).expect("known flags");
        let mut mistakes = Mistakes::default();
        let choice = args.store.check(&mut mistakes);
        mistakes.finish().map_err(|mistakes| mistakes.to_string())?;
        Ok(choice.expect("no mistake"))
    }

    #[test]
    fn an_external_store_is_named_by_its_endpoints_and_files() {
        assert_eq!(check(&[]), Ok(StoreChoice::Embedded));
        let two = ["--store", "external=https://a:2379,https://b:2379", "--store-ca", "ca.pem"];
        let Ok(StoreChoice::External(store)) = check(&two) else { panic!() };
        assert_eq!(store.endpoints, ["https://a:2379", "https://b:2379"]);
        assert_eq!(store.tls, Some(StoreTls { ca: "ca.pem".into(), identity: None }));
        let local = check(&["--store", "external=http://127.0.0.1:2379,http://[::1]:2379"]).unwrap();
        assert!(matches!(local, StoreChoice::External(ExternalStore { tls: None, .. })));
    }

    #[test]
    fn what_would_not_work_or_not_be_safe_is_a_mistake() {
        for (flags, text) in [
            (&["--store", "etcd"][..], "\"etcd\" is unknown: use embedded, or external=https://HOST:2379"),
            (&["--store", "external="], "external= needs at least one endpoint"),
            (&["--store", "external=a:2379", "--store-ca", "x"], "\"a:2379\" is not an https:// URL"),
            (&["--store", "external=http://10.0.0.1:2379"], "would send every key in clear over the network"),
            (&["--store", "external=https://a:2379"], "--store-ca: is missing"),
            (&["--store", "external=https://a:1", "--store-ca", "x", "--store-cert", "y"], "go together"),
            (&["--store-ca", "x"], "--store-ca: is for an external store"),
        ] {
            let mistakes = check(flags).unwrap_err();
            assert!(mistakes.contains(text), "{text}\nis not in\n{mistakes}");
        }
    }
}
