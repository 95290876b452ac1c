//! `meshctl certs` against a cluster whose rotation goes on by one stage each time it is asked.

use mesh_proto::v1;
use serde_json::Value;
use tonic::Status;

use crate::cluster::Cluster;
use crate::{Mesh, run};

const STAGES: [&str; 5] = ["distribute", "overlap", "switch", "retire", "done"];

/// What the cluster says of its certificates.
#[derive(Default)]
pub(crate) struct Certs {
    pub(crate) has_expired_leaf: bool,
    /// Stays at its stage, and waits for this party.
    pub(crate) awaited: Option<&'static str>,
    stage: Option<usize>,
    is_aborted: bool,
}

impl Certs {
    fn rotation(&self) -> Option<v1::CaRotation> {
        let stage = if self.is_aborted { "aborted" } else { STAGES[self.stage?] };
        let awaited = self
            .awaited
            .iter()
            .map(|party| v1::MissingParty { party: (*party).to_owned(), what: "cannot be asked now".to_owned() });
        Some(v1::CaRotation {
            stage: stage.to_owned(),
            old_ca: format!("sha256:{}", "a".repeat(64)),
            new_ca: format!("sha256:{}", "b".repeat(64)),
            started_unix_nanos: 1,
            since_unix_nanos: 1,
            awaited: awaited.collect(),
            is_over: ["done", "aborted"].contains(&stage),
        })
    }

    pub(crate) fn shown(&mut self, name: &str) -> v1::GetCertificatesResponse {
        let now = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
        let rotation = self.rotation();
        if self.awaited.is_none() {
            self.stage = self.stage.map(|stage| (stage + 1).min(STAGES.len() - 1));
        }
        let not_after = if self.has_expired_leaf { now - 1_000_000_000 } else { now * 2 };
        v1::GetCertificatesResponse {
            certificates: vec![v1::Certificate {
                holder: "replica 1".into(),
                name: format!("admin-{name}"),
                is_ca: false,
                ca: "sha256:aa".into(),
                not_before_unix_nanos: 1,
                not_after_unix_nanos: not_after,
                renew_unix_nanos: not_after - 1,
            }],
            rotation,
            now_unix_nanos: now,
            open_tokens: 2,
            ..Default::default()
        }
    }

    pub(crate) fn renew(&mut self) {
        self.has_expired_leaf = false;
    }

    pub(crate) fn begin(&mut self) -> Result<v1::CaRotation, Status> {
        if self.rotation().is_some_and(|rotation| !rotation.is_over) {
            return Err(Status::failed_precondition("a rotation is at stage distribute already"));
        }
        (self.stage, self.is_aborted) = (Some(0), false);
        Ok(self.rotation().unwrap())
    }

    pub(crate) fn abort(&mut self) -> Result<v1::CaRotation, Status> {
        let running = self.rotation().filter(|rotation| !rotation.is_over);
        running.ok_or_else(|| Status::failed_precondition("no rotation of the CA is running"))?;
        self.is_aborted = true;
        self.awaited = None;
        Ok(self.rotation().unwrap())
    }
}

#[test]
fn an_expired_certificate_is_degraded_until_it_is_renewed() {
    let a = Cluster::start("cluster-a", 1);
    a.certs(|certs| certs.has_expired_leaf = true);
    let mesh = Mesh::new(&[&a]);
    let found = mesh.run(&["certs", "status"]);
    assert_eq!(found.code, 2, "{}", found.stderr);
    assert!(found.stdout.contains("admin-cluster-a") && found.stdout.contains("expired"), "{}", found.stdout);
    assert!(found.stdout.contains("`meshctl certs rotate --leaf=admin-cluster-a` renews it"), "{}", found.stdout);
    assert_eq!(mesh.run(&["certs", "status", "-o", "json"]).json()[0]["certificates"][0]["state"], "expired");
    let renewed = mesh.run(&["certs", "rotate", "--leaf=admin-cluster-a", "-o", "json"]);
    assert_eq!((renewed.code, &renewed.json()["names"][0]), (0, &Value::from("admin-cluster-a")));
    assert_eq!(mesh.run(&["certs", "status"]).code, 0);
}

#[test]
fn a_rotation_is_shown_stage_by_stage_and_one_that_waits_is_left_and_taken_back() {
    let a = Cluster::start("cluster-a", 1);
    let mesh = Mesh::new(&[&a]);
    let nothing = mesh.run(&["certs", "rotate", "--ca", "--abort"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (65, ""));
    assert!(nothing.stderr.contains("no rotation of the CA is running"), "{}", nothing.stderr);
    let done = mesh.run(&["certs", "rotate", "--ca"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("CA bbbbbbbbbbbb is in use, aaaaaaaaaaaa is trusted no more"), "{}", done.stdout);
    for part in ["2 unused tokens name the CA in use", "overlap", "switch", "retire", "copies of admin.crt"] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }

    a.certs(|certs| certs.awaited = Some("peer cluster-b"));
    let left = mesh.run(&["certs", "rotate", "--ca", "--no-wait", "-o", "json"]);
    assert_eq!((left.code, &left.json()["stage"]), (0, &Value::from("distribute")));
    let again = mesh.run(&["certs", "rotate", "--ca"]);
    assert_eq!(again.code, 65, "{}", again.stderr);
    let status = mesh.run(&["certs", "status"]);
    assert_eq!(status.code, 2);
    assert!(status.stdout.contains("rotation waits: peer cluster-b cannot be asked now"), "{}", status.stdout);
    let aborted = mesh.run(&["certs", "rotate", "--ca", "--abort"]);
    assert_eq!(aborted.code, 0, "{}", aborted.stderr);
    assert!(aborted.stdout.contains("CA aaaaaaaaaaaa stays in use"), "{}", aborted.stdout);
    assert_eq!(mesh.run(&["certs", "status"]).code, 0);
    let b = Cluster::start("cluster-b", 2);
    let two = Mesh::new(&[&a, &b]);
    let several = run(&two.config(), &["certs", "rotate", "--ca"]);
    assert_eq!(several.code, 64, "{}", several.stderr);
}
