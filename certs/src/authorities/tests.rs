use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer};

use super::*;
use crate::testing::{ca, chain, cluster as name, forged, soon};
use crate::{RootCa, Validity};

/// Clusters a (own), b and c (joined).
struct Mesh {
    a: RootCa,
    b: RootCa,
    c: RootCa,
    authorities: Arc<Authorities>,
}

impl Mesh {
    fn new() -> Self {
        let [a, b, c] = ["cluster-a", "cluster-b", "cluster-c"].map(ca);
        let authorities = Authorities::new(name("cluster-a"), a.bundle()).unwrap();
        authorities.set_peer(&name("cluster-b"), b.bundle()).unwrap();
        authorities.set_peer(&name("cluster-c"), c.bundle()).unwrap();
        Self { a, b, c, authorities }
    }

    fn principal(&self, chain: &[CertificateDer<'_>]) -> Result<Principal, PrincipalError> {
        self.authorities.principal_of(chain, UnixTime::now())
    }
}

#[test]
fn the_verifying_ca_is_part_of_the_principal() {
    let mesh = Mesh::new();
    let admin = mesh.principal(&chain(&mesh.a.issue_admin(soon()).unwrap())).unwrap();
    assert_eq!(admin.to_string(), "\"admin-cluster-a\" (this cluster's CA)");
    let remote = mesh.principal(&chain(&mesh.b.issue_remote(soon()).unwrap())).unwrap();
    assert_eq!(remote.to_string(), "\"remote-cluster-b\" (the CA of cluster-b)");
}

#[test]
fn a_peer_cannot_speak_for_this_cluster_nor_for_another() {
    let mesh = Mesh::new();
    for claim in ["admin-cluster-a", "admin-cluster-b", "remote-cluster-c", "mesh-apiserver", "agent-a1"] {
        let error = mesh.principal(&chain(&forged(&mesh.b, &[claim]))).unwrap_err();
        assert_eq!(error, PrincipalError::PeerOverreach { name: claim.into(), peer: name("cluster-b") });
        let text = error.to_string();
        assert!(text.contains(claim) && text.contains("the CA of cluster-b"), "{text}");
    }
    assert!(mesh.principal(&chain(&forged(&mesh.b, &["remote"]))).is_ok());
}

#[test]
fn one_common_name_is_needed() {
    let mesh = Mesh::new();
    let error = mesh.principal(&chain(&forged(&mesh.b, &[]))).unwrap_err();
    assert!(matches!(error, PrincipalError::CommonNames { count: 0, .. }), "{error}");
    assert!(matches!(mesh.principal(&[]), Err(PrincipalError::Malformed(_))));
}

#[test]
fn a_stranger_and_a_rebuilt_cluster_are_unknown_issuers() {
    let mesh = Mesh::new();
    for cluster in ["cluster-d", "cluster-b"] {
        let stranger = ca(cluster);
        let error = mesh.principal(&chain(&stranger.issue_remote(soon()).unwrap())).unwrap_err();
        assert!(matches!(error, PrincipalError::UnknownIssuer { .. }), "{error}");
        assert!(error.to_string().contains(&format!("isthmus-ca-{cluster}")), "{error}");
    }
}

#[test]
fn an_expired_and_a_premature_leaf_say_who_when_and_what_to_do() {
    let mesh = Mesh::new();
    let second = |second| Timestamp::from_second(second).unwrap();
    let expired = Validity { not_before: second(1_000_000), not_after: second(2_000_000) };
    let error = mesh.principal(&chain(&mesh.b.issue_remote(expired).unwrap())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "certificate \"remote-cluster-b\", signed by the CA of cluster-b, expired at 1970-01-24T03:33:20Z: renew it, and \
         check the clocks of both sides"
    );
    let early = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000_000));
    let error = mesh.authorities.principal_of(&chain(&mesh.a.issue_admin(soon()).unwrap()), early).unwrap_err();
    assert!(matches!(error, PrincipalError::NotYetValid { authority: Authority::Own, .. }), "{error}");
}

#[test]
fn the_direct_issuer_counts_even_when_another_ca_signed_that_issuer() {
    let mesh = Mesh::new();
    // Cluster b signs c's CA certificate: by that, c's leaves chain to b as well.
    let c_as_intermediate = {
        let issuer = Issuer::from_ca_cert_der(&mesh.b.certificate, mesh.b.issuer.key()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "isthmus-ca-cluster-c");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        soon().apply_to(&mut params);
        params.signed_by(mesh.c.issuer.key(), &issuer).unwrap().der().clone()
    };
    let mut with_detour = chain(&mesh.c.issue_remote(soon()).unwrap());
    with_detour.push(c_as_intermediate.clone());
    let principal = mesh.principal(&with_detour).unwrap();
    assert_eq!(principal.authority, Authority::Peer(name("cluster-c")));

    // Without c the detour is a valid chain to b, but b may not vouch for c.
    assert!(mesh.authorities.remove_peer(&name("cluster-c")));
    let error = mesh.principal(&with_detour).unwrap_err();
    assert_eq!(error, PrincipalError::PeerOverreach { name: "remote-cluster-c".into(), peer: name("cluster-b") });
}

#[test]
fn peers_come_and_go_and_never_share_a_ca() {
    let mesh = Mesh::new();
    let (b, d) = (name("cluster-b"), name("cluster-d"));
    assert!(!mesh.authorities.set_peer(&b, mesh.b.bundle()).unwrap());
    let error = mesh.authorities.set_peer(&d, mesh.b.bundle()).unwrap_err().to_string();
    assert!(error.contains("cluster-d") && error.contains("cluster-b has as well"), "{error}");
    let error = mesh.authorities.set_peer(&d, mesh.a.bundle()).unwrap_err().to_string();
    assert!(error.contains("that this cluster has as well"), "{error}");
    assert!(matches!(mesh.authorities.set_peer(&name("cluster-a"), mesh.b.bundle()), Err(Error::OwnName { .. })));

    let leaf = chain(&mesh.b.issue_remote(soon()).unwrap());
    assert!(mesh.authorities.remove_peer(&b) && !mesh.authorities.remove_peer(&b));
    assert!(matches!(mesh.principal(&leaf), Err(PrincipalError::UnknownIssuer { .. })));
    assert_eq!(mesh.authorities.peers(), [name("cluster-c")]);
    mesh.authorities.set_peer(&b, mesh.b.bundle()).unwrap();
    assert!(mesh.principal(&leaf).is_ok());
    assert_eq!(mesh.authorities.peer_bundle(&b), Some(mesh.b.bundle()));
}

#[test]
fn a_server_leaf_is_no_client_of_a_peer_but_a_replica_of_its_own_cluster() {
    let mesh = Mesh::new();
    let server = chain(&mesh.a.issue_server(&crate::ServerNames::default(), soon()).unwrap());
    assert_eq!(mesh.principal(&server).unwrap().role(), Role::Replica);
    let server = chain(&mesh.b.issue_server(&crate::ServerNames::default(), soon()).unwrap());
    assert!(matches!(mesh.principal(&server), Err(PrincipalError::PeerOverreach { .. })));
}

#[test]
fn an_expired_leaf_of_a_stranger_is_a_strangers() {
    let mesh = Mesh::new();
    let second = |second| Timestamp::from_second(second).unwrap();
    let expired = Validity { not_before: second(1_000_000), not_after: second(2_000_000) };
    let error = mesh.principal(&chain(&ca("cluster-d").issue_remote(expired).unwrap())).unwrap_err();
    assert!(matches!(error, PrincipalError::UnknownIssuer { .. }), "{error}");
}

#[test]
fn a_user_of_the_store_is_vouched_for_by_the_own_ca_and_only_while_it_is_one() {
    let mesh = Mesh::new();
    let users = ["alice", "admin-cluster-b", "remote", "admin-cluster-a"];
    let by = |ca: &RootCa, name: &str| mesh.principal(&chain(&ca.issue_user(name, soon()).unwrap()));
    let error = by(&mesh.a, "alice").unwrap_err();
    assert!(error.to_string().contains("`etcdctl user add alice --no-password`"), "{error}");

    mesh.authorities.set_users(users.map(str::to_owned).into());
    for user in ["alice", "admin-cluster-b", "remote"] {
        let principal = by(&mesh.a, user).unwrap();
        assert_eq!(principal.role(), Role::User(user));
        assert!(
            !principal.is_admin() && principal.peer().is_none() && mesh.authorities.trusts(&principal, &mesh.a.hash())
        );
    }
    // A name of the table is what it was.
    assert_eq!(by(&mesh.a, "admin-cluster-a").unwrap().role(), Role::Admin);
    assert_eq!(by(&mesh.a, "agent-n1").unwrap().role(), Role::Agent("n1"));
    // A peer's CA gains nothing.
    for name in ["alice", "admin-cluster-b"] {
        assert!(matches!(by(&mesh.b, name), Err(PrincipalError::PeerOverreach { .. })), "{name}");
    }
    assert!(matches!(by(&mesh.b, "remote").unwrap().role(), Role::Remote(_)));

    let alice = by(&mesh.a, "alice").unwrap();
    mesh.authorities.set_users(BTreeSet::new());
    assert!(!mesh.authorities.trusts(&alice, &mesh.a.hash()), "a handshake under way is not in time");
    assert!(matches!(by(&mesh.a, "alice"), Err(PrincipalError::UnknownName { .. })));
}

/// Clusters d and e of one Cilium mesh: both trust the CA of d, and e one of its own as well.
#[test]
fn cilium_clusters_with_one_ca_are_told_apart_by_name_or_not_at_all() {
    let mesh = Mesh::new();
    let (d, e) = (name("cluster-d"), name("cluster-e"));
    let (shared, of_e) = (ca("cluster-d"), ca("cluster-e"));
    mesh.authorities.set_cilium_peer(&d, shared.bundle()).unwrap();
    let by = |ca: &RootCa, claim: &str| mesh.principal(&chain(&forged(ca, &[claim])));
    assert_eq!(by(&shared, "remote").unwrap().role(), Role::Remote(&d), "it is the only one yet");

    mesh.authorities.set_cilium_peer(&e, shared.bundle().merge(&of_e.bundle()).unwrap()).unwrap();
    assert_eq!(by(&shared, "remote-cluster-d").unwrap().role(), Role::Remote(&d));
    assert_eq!(by(&shared, "remote-cluster-e").unwrap().role(), Role::Remote(&e));
    let either = by(&shared, "remote").unwrap();
    assert_eq!(either.role(), Role::SharedRemote(&[d.clone(), e.clone()].into()));
    assert!(either.may_be(&d) && either.may_be(&e) && !either.may_be(&name("cluster-b")) && either.peer().is_none());
    for claim in ["remote-cluster-b", "admin-cluster-a", "agent-n1"] {
        assert!(matches!(by(&shared, claim), Err(PrincipalError::SharedOverreach { .. })), "{claim}");
    }
    // What only one of them trusts vouches for that one alone.
    assert_eq!(by(&of_e, "remote").unwrap().role(), Role::Remote(&e));
    assert!(matches!(by(&of_e, "remote-cluster-d"), Err(PrincipalError::PeerOverreach { .. })));

    // An Isthmus cluster has its CA for itself, whoever comes first.
    assert!(matches!(mesh.authorities.set_peer(&name("cluster-f"), shared.bundle()), Err(Error::SharedCa { .. })));
    assert!(matches!(mesh.authorities.set_cilium_peer(&d, mesh.b.bundle()), Err(Error::SharedCa { .. })));
    assert!(matches!(mesh.authorities.set_cilium_peer(&d, mesh.a.bundle()), Err(Error::SharedCa { .. })));

    assert!(mesh.authorities.trusts(&either, &shared.hash()) && mesh.authorities.remove_peer(&e));
    assert!(!mesh.authorities.trusts(&either, &shared.hash()), "it comes again, as the one that is left");
    assert_eq!(by(&shared, "remote").unwrap().role(), Role::Remote(&d));
}

#[test]
fn each_of_two_cas_of_a_cluster_vouches_for_itself_and_one_that_is_dropped_vouches_no_more() {
    let mesh = Mesh::new();
    let next = mesh.a.successor().unwrap();
    assert_eq!((next.uuid(), next.cluster()), (mesh.a.uuid(), mesh.a.cluster()));
    let by = |ca: &RootCa| {
        let leaf = ca.issue_admin(soon()).unwrap();
        mesh.authorities.verify(&chain(&leaf), UnixTime::now()).map(|verified| (verified.principal, verified.ca))
    };
    assert!(by(&next).is_err());
    let both = mesh.a.bundle().merge(&next.bundle()).unwrap();
    assert!(mesh.authorities.set_own(both.clone()).unwrap() && !mesh.authorities.set_own(both.clone()).unwrap());
    for ca in [&mesh.a, &next] {
        assert_eq!(by(ca).unwrap().1, ca.hash());
        assert_eq!(both.issuer_of(&ca.issue_remote(soon()).unwrap()), Some(ca.hash()));
    }
    assert_eq!(both.issuer_of(&mesh.b.issue_remote(soon()).unwrap()), None);
    let (admin, ca) = by(&mesh.a).unwrap();
    assert!(mesh.authorities.trusts(&admin, &ca));
    mesh.authorities.set_own(both.without(&mesh.a.hash()).unwrap()).unwrap();
    assert!(by(&mesh.a).is_err() && by(&next).is_ok());
    assert!(!mesh.authorities.trusts(&admin, &ca), "its open connections are to be cut");
    assert_eq!(next.bundle().without(&next.hash()), None);
}
