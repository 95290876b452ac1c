//! One way from a client to a server of the other cluster, and what came of it.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use serde::Serialize;
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::processes::check_from;
use topology_tests::kubernetes::release::{Pod, Release};
use topology_tests::load::check::{Checked, Question};
use topology_tests::place::Place;

use crate::ANSWERED;

/// Programs of the node itself, and pods with its network, are no clients of the mesh in this version (README, "Not yet").
const NOT_FOR_HOSTS: &str = "not in this version, fails closed";

/// A way and its result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cell {
    pub(crate) way: String,
    pub(crate) result: String,
    passed: bool,
}

impl Cell {
    pub(crate) fn is_failure(&self) -> bool {
        !self.passed
    }
}

/// What one cluster has for this test.
pub(crate) struct Side<'a> {
    release: &'a Release<'a>,
    asker: Pod,
    server: Pod,
    /// Of the asker, and of its node.
    places: [Place; 2],
}

impl<'a> Side<'a> {
    pub(crate) fn of(run: &Kubernetes, release: &'a Release<'a>) -> Result<Self> {
        let one = |label: String| release.pods(&label, 1).map(|mut pods| pods.remove(0));
        let (asker, server) = (one("app=asker".into())?, one(format!("app=web-{}", release.name()))?);
        let node = release.cluster.node(&asker.node)?;
        let places = [run.pod_place(node, &asker.name)?, node.place()?];
        Ok(Self { release, asker, server, places })
    }

    /// From this cluster's clients to the other's servers.
    pub(crate) fn ask(&self, other: &Side<'_>) -> Result<Vec<Cell>> {
        let service = self.release.cluster_ip(&format!("web-{}", other.release.name()))?;
        let pod: Ipv4Addr = other.server.ip.parse()?;
        let mut cells = Vec::new();
        for (name, address, ports) in [("pod -> pod", pod, [8080, 9090]), ("pod -> Service", service, [80, 90])] {
            for (protocol, scheme, port) in [("TCP", "http", ports[0]), ("UDP", "udp", ports[1])] {
                let question: Question = format!("{scheme}://{address}:{port}").parse()?;
                cells.push(self.ask_in_the_pod(other, format!("{name}, {protocol}"), question));
            }
        }
        for (protocol, scheme, port) in [("TCP", "http", 80), ("UDP", "udp", 90)] {
            let question: Question = format!("{scheme}://{service}:{port}").parse()?;
            cells.push(self.ask_on_the_host(format!("host -> Service, {protocol}"), question)?);
        }
        Ok(cells)
    }

    fn ask_in_the_pod(&self, other: &Side<'_>, way: String, question: Question) -> Cell {
        let answered = wait_for(&way, ANSWERED, || {
            let answer = one(&self.places[0], question)?;
            if let Some(error) = &answer.error {
                anyhow::bail!("{error}");
            }
            ensure!(answer.answer.cluster == other.release.name(), "answered by {}", answer.answer.cluster);
            ensure!(
                answer.answer.peer.starts_with(&format!("{}:", self.asker.ip)),
                "the server saw {} and not {}",
                answer.answer.peer,
                self.asker.ip
            );
            Ok(Some(()))
        });
        let result = answered.as_ref().map_or_else(|error| format!("{error:#}"), |()| "pass".to_owned());
        Cell { way, result, passed: answered.is_ok() }
    }

    /// Has no answer in this version. That it is not sent in clear instead is seen on the WAN, at the end of the run.
    fn ask_on_the_host(&self, way: String, question: Question) -> Result<Cell> {
        let answer = one(&self.places[1], question)?;
        let result = if answer.error.is_some() { NOT_FOR_HOSTS } else { "pass" };
        Ok(Cell { way, result: result.to_owned(), passed: true })
    }
}

fn one(place: &Place, question: Question) -> Result<Checked> {
    let mut answers = check_from(place, &[question])?;
    ensure!(answers.len() == 1, "lab-load did not report");
    Ok(answers.remove(0))
}
