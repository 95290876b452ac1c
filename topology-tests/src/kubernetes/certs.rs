//! The trust of one cluster: its CA, the leaves of its components, the key that signs the tokens of service accounts, and
//! kubeconfigs, all made anew for each run. Keys lie in files that only root reads, and are never printed.

use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::json;

/// Names that pods know the API server by.
const SERVER_NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// A cluster's CA and the folder of its files.
pub struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

/// Who a leaf is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user, as Kubernetes reads it.
    pub name: &'a str,
    pub group: Option<&'a str>,
    pub dns_names: &'a [&'a str],
    pub addresses: &'a [Ipv4Addr],
}

impl<'a> Subject<'a> {
    pub fn user(name: &'a str) -> Self {
        Self { name, group: None, dns_names: &[], addresses: &[] }
    }

    pub fn of_group(name: &'a str, group: &'a str) -> Self {
        Self { group: Some(group), ..Self::user(name) }
    }
}

impl Pki {
    /// Makes the CA, the API server's leaves and the key of service accounts: `ca`, `apiserver`, `kubelet-client`,
    /// `front-proxy-client` with `.crt` and `.key`, `sa.key` and `sa.pub`.
    pub fn create(folder: &Path, addresses: &[Ipv4Addr]) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let key = KeyPair::generate().context("make the CA's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kube-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let authority_pem = params.self_signed(&key).context("sign the CA")?.pem();
        write(&folder.join("ca.key"), &key.serialize_pem())?;
        write(&folder.join("ca.crt"), &authority_pem)?;
        let accounts = KeyPair::generate().context("make the key of service accounts")?;
        write(&folder.join("sa.key"), &accounts.serialize_pem())?;
        write(&folder.join("sa.pub"), &accounts.public_key_pem())?;
        let pki = Self { folder: folder.to_owned(), authority: Issuer::new(params, key), authority_pem };
        pki.write_leaf(
            folder,
            "apiserver",
            &Subject { dns_names: &SERVER_NAMES, addresses, ..Subject::user("kube-apiserver") },
        )?;
        pki.write_leaf(folder, "kubelet-client", &Subject::of_group("apiserver-kubelet-client", MASTERS))?;
        pki.write_leaf(folder, "front-proxy-client", &Subject::user("front-proxy-client"))?;
        Ok(pki)
    }

    /// A file of this folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes `NAME.crt` and `NAME.key` into a folder.
    pub fn write_leaf(&self, folder: &Path, name: &str, subject: &Subject<'_>) -> Result<()> {
        let (certificate, key) = self.leaf(subject)?;
        write(&folder.join(format!("{name}.crt")), &certificate)?;
        write(&folder.join(format!("{name}.key")), &key)
    }

    /// Writes a kubeconfig that holds all it needs; its one context has the cluster's name.
    pub fn write_kubeconfig(&self, path: &Path, cluster: &str, server: &str, subject: &Subject<'_>) -> Result<()> {
        let (certificate, key) = self.leaf(subject)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": subject.name } }],
            "clusters": [{
                "name": cluster,
                "cluster": { "server": server, "certificate-authority-data": BASE64.encode(&self.authority_pem) },
            }],
            "users": [{
                "name": subject.name,
                "user": {
                    "client-certificate-data": BASE64.encode(certificate),
                    "client-key-data": BASE64.encode(key),
                },
            }],
        });
        write(path, &serde_json::to_string_pretty(&config).context("encode a kubeconfig")?)
    }

    fn leaf(&self, subject: &Subject<'_>) -> Result<(String, String)> {
        let of = || format!("make a certificate for {}", subject.name);
        let names: Vec<String> = subject.dns_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).with_context(of)?;
        params.subject_alt_names.extend(subject.addresses.iter().map(|ip| SanType::IpAddress((*ip).into())));
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, subject.name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().with_context(of)?;
        let certificate = params.signed_by(&key, &self.authority).with_context(of)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_for_their_owner_only_and_a_kubeconfig_holds_all_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(folder.path(), &[Ipv4Addr::LOCALHOST]).unwrap();
        let path = folder.path().join("admin.kubeconfig");
        pki.write_kubeconfig(&path, "one", "https://127.0.0.1:1", &Subject::of_group("admin", MASTERS)).unwrap();
        for file in [path.clone(), pki.file("ca.key"), pki.file("sa.key"), pki.file("apiserver.key")] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
        }
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let key = config["users"][0]["user"]["client-key-data"].as_str().unwrap();
        assert!(String::from_utf8(BASE64.decode(key).unwrap()).unwrap().contains("PRIVATE KEY"));
    }
}
