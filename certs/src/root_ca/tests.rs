use std::os::unix::fs::PermissionsExt;

use rcgen::KeyPair;

use super::*;
use crate::csr::PendingLeaf;
use crate::testing::{ca, cluster as name, soon};

#[test]
fn the_first_start_makes_a_ca_and_later_ones_read_it() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("state/ca");
    let made = RootCa::load_or_create(&dir, &name("a")).unwrap();
    let read = RootCa::load_or_create(&dir, &name("a")).unwrap();
    assert_eq!((made.uuid(), made.bundle()), (read.uuid(), read.bundle()));
    assert_eq!(fs::metadata(dir.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    let beside = fs::read_dir(dir.parent().unwrap()).unwrap();
    let mut beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, [".ca.lock", "ca"]);
    assert!(read.bundle().expires_at() > validity::now());
}

#[test]
fn a_ca_that_others_may_read_or_that_is_another_clusters_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("ca");
    RootCa::load_or_create(&dir, &name("a")).unwrap();
    let text = RootCa::load_or_create(&dir, &name("b")).unwrap_err().to_string();
    assert!(text.contains("is the CA of cluster \"a\""), "{text}");

    fs::set_permissions(dir.join(KEY_FILE), fs::Permissions::from_mode(0o640)).unwrap();
    let text = RootCa::load_or_create(&dir, &name("a")).unwrap_err().to_string();
    assert!(text.contains("ca.key may be read by others (mode 0640)") && text.contains("chmod 600"), "{text}");
}

#[test]
fn a_ca_in_pieces_is_never_replaced_silently() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("ca");
    RootCa::load_or_create(&dir, &name("a")).unwrap();

    SecretKey::generate().unwrap().save(&dir.join(KEY_FILE)).unwrap();
    assert!(matches!(RootCa::load_or_create(&dir, &name("a")), Err(Error::OtherKey { .. })));
    fs::write(dir.join(KEY_FILE), "-----BEGIN PRIVATE KEY-----\nzz\n").unwrap();
    assert!(matches!(RootCa::load_or_create(&dir, &name("a")), Err(Error::Secret(_))));
    fs::remove_file(dir.join(KEY_FILE)).unwrap();
    let text = RootCa::load_or_create(&dir, &name("a")).unwrap_err().to_string();
    assert!(text.contains("ca.key is missing beside the rest"), "{text}");
}

#[test]
fn leaves_carry_the_name_and_the_spiffe_id_of_their_kind() {
    let ca = ca("a");
    let leaves = [
        (ca.issue_server(&ServerNames::default(), soon()).unwrap(), "mesh-apiserver", "server/mesh-apiserver"),
        (ca.issue_remote(soon()).unwrap(), "remote-a", "remote/a"),
        (ca.issue_admin(soon()).unwrap(), "admin-a", "admin/a"),
        (ca.issue_local(soon()).unwrap(), "local-a", "local/a"),
    ];
    for (leaf, common_name, path) in leaves {
        assert_eq!(leaf.common_name(), common_name);
        assert_eq!(leaf.spiffe_id(), Some(&*format!("spiffe://{}/{path}", ca.uuid())));
    }
    let wide = Validity { not_after: Timestamp::MAX, ..soon() };
    assert_eq!(ca.issue_admin(wide).unwrap().validity().not_after, ca.not_after);
    let odd = ServerNames { dns: vec!["ü".into()], ips: Vec::new() };
    assert!(matches!(ca.issue_server(&odd, soon()), Err(Error::Name { .. })));
}

#[test]
fn an_agents_name_is_the_issuers_choice_not_the_requests() {
    let ca = ca("a");
    let pending = PendingLeaf::generate("admin-a").unwrap();
    let pem = ca.sign_agent(pending.csr_pem(), &NodeName("a1".into()), soon()).unwrap();
    let leaf = pending.complete(&pem).unwrap();
    assert_eq!(leaf.common_name(), "agent-a1");
    assert_eq!(leaf.spiffe_id(), Some(&*format!("spiffe://{}/agent/a1", ca.uuid())));
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let ca = ca("a");
    let node = NodeName("a1".into());
    let good = PendingLeaf::generate("x").unwrap();
    let sign = |pem: &str| ca.sign_agent(pem, &node, soon());
    assert!(matches!(sign("hello"), Err(Error::Csr(csr::Error::Pem))));
    assert!(matches!(sign(&"x".repeat(20_000)), Err(Error::Csr(csr::Error::TooLarge { .. }))));

    // One bit of the public key or its proof flipped: the signature no longer covers it.
    let mut der =
        rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(good.csr_pem().as_bytes()).unwrap().to_vec();
    let middle = der.len() / 2;
    der[middle] ^= 1;
    let broken = pem::encode("CERTIFICATE REQUEST", &der);
    assert!(matches!(sign(&broken), Err(Error::Csr(csr::Error::Malformed(_)))));

    let other_kind = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = CertificateParams::default().serialize_request(&other_kind).unwrap().pem().unwrap();
    assert!(matches!(sign(&request), Err(Error::Csr(csr::Error::KeyKind))));

    // The answer to one request does not fit the key of another.
    let other = PendingLeaf::generate("y").unwrap();
    let pem = sign(good.csr_pem()).unwrap();
    assert!(matches!(other.complete(&pem), Err(leaf::Error::OtherKey { .. })));
}

#[test]
fn of_several_that_start_at_once_one_makes_the_ca() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ca");
    let start = std::sync::Barrier::new(8);
    let uuids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    RootCa::load_or_create(&dir, &name("a")).unwrap().uuid()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(uuids.len(), 1, "{uuids:?}");
}
