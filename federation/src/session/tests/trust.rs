//! A peer that goes over to another CA, and one that says what it may not.

use certs::{ServerNames, TrustBundle};

use super::*;
use crate::trust::encode_trusted;

impl Mesh {
    async fn export_trust(&self, bundle: &TrustBundle) {
        self.b.store.put(PutRequest::new(keys::EXPORT_TRUST, bundle.pem())).await.unwrap();
    }

    /// The CAs that cluster-a trusts for its peer.
    async fn trusted(&self) -> TrustBundle {
        let record = peer::find(&*self.a, &name("cluster-b")).await.unwrap().unwrap();
        TrustBundle::from_pem(&record.declaration.trust_bundle_pem).unwrap()
    }

    async fn await_trusted(&self, bundle: &TrustBundle) {
        eventually("the peer's CAs are followed", || async { self.trusted().await == *bundle }).await;
    }

    fn board(&self) -> crate::session::Snapshot {
        self.handle().peers().remove(0)
    }
}

async fn live() -> Mesh {
    let mesh = Mesh::start().await;
    export(&*mesh.b.store, facts(1)).await;
    mesh.join().await;
    mesh.await_state(State::Live).await;
    mesh
}

#[tokio::test]
async fn a_peer_goes_over_to_another_ca_while_its_session_goes_on_where_it_was() {
    let mesh = live().await;
    let next = mesh.ca_b.successor().unwrap();
    let both = mesh.ca_b.bundle().merge(&next.bundle()).unwrap();
    mesh.export_trust(&both).await;
    mesh.await_trusted(&both).await;
    mesh.b.leaf.replace(next.issue_server(&ServerNames::default(), hour()).unwrap());
    export(&*mesh.b.store, facts(2)).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.2", true).await;
    assert_eq!((mesh.board().connections, mesh.board().relists), (1, 0), "the connection stays");
    assert_eq!(mesh.board().peer.declaration.trust_bundle_pem, both.pem());

    // The connection was made to a leaf of the CA that goes now.
    mesh.export_trust(&next.bundle()).await;
    mesh.await_trusted(&next.bundle()).await;
    eventually("a connection by the new CA", || async { mesh.board().connections == 2 }).await;
    export(&*mesh.b.store, facts(3)).await;
    mesh.await_key("cilium/cache/ip/v1/cluster-b/10.2.1.3", true).await;
    assert_eq!(mesh.board().relists, 0, "it goes on where it was");
    mesh.stop().await;
}

#[tokio::test]
async fn what_changed_while_the_session_was_away_is_followed_when_it_is_back() {
    let mut mesh = live().await;
    mesh.stop_federation().await;
    let next = mesh.ca_b.successor().unwrap();
    let both = mesh.ca_b.bundle().merge(&next.bundle()).unwrap();
    mesh.export_trust(&both).await;
    // An older step that the resumed watch tells of, too, must not win.
    mesh.export_trust(&mesh.ca_b.bundle()).await;
    mesh.export_trust(&both).await;
    mesh.start_federation();
    mesh.await_trusted(&both).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_peer_that_says_a_ca_of_another_cluster_is_shown_and_nothing_changes() {
    let mesh = live().await;
    let known = mesh.trusted().await;
    let own = Declaration { trust_bundle_pem: mesh.ca_a.bundle().pem(), ..declaration("cluster-a", 1) };
    peer::put_own(&*mesh.a, &own).await.unwrap();
    let stranger = RootCa::generate(&name("cluster-b")).unwrap();
    for (said, why) in [
        (known.merge(&mesh.ca_a.bundle()).unwrap(), "with a CA of cluster-a"),
        (stranger.bundle(), "without any of the CAs that are trusted for it"),
    ] {
        mesh.export_trust(&said).await;
        eventually(why, || async { mesh.board().trust_refusal.is_some_and(|text| text.contains(why)) }).await;
        assert_eq!(mesh.trusted().await, known);
    }
    assert_eq!(mesh.board().connections, 1, "the rest of the session goes on");
    mesh.export_trust(&known).await;
    eventually("the refusal is over", || async { mesh.board().trust_refusal.is_none() }).await;
    mesh.stop().await;
}

#[tokio::test]
async fn what_the_peer_trusts_of_this_cluster_is_heard_and_what_it_trusts_of_others_is_not() {
    let mesh = live().await;
    assert_eq!(mesh.board().trusts_us, None);
    let cas = std::collections::BTreeSet::from([mesh.ca_a.hash()]);
    let put = |cluster: &str, value: Vec<u8>| {
        let key = keys::export_trusted(&name(cluster));
        mesh.b.store.put(PutRequest::new(key, value))
    };
    put("cluster-c", encode_trusted(&[mesh.ca_b.hash()].into())).await.unwrap();
    put("cluster-a", encode_trusted(&cas)).await.unwrap();
    eventually("it is heard", || async { mesh.board().trusts_us == Some(cas.clone()) }).await;
    put("cluster-a", b"nonsense".to_vec()).await.unwrap();
    eventually("nonsense is nothing", || async { mesh.board().trusts_us.is_none() }).await;
    mesh.stop().await;
}
