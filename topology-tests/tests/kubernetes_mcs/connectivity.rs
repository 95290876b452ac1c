//! Cases in which pods ask the Service by its name in the cluster set.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use topology_tests::deadline::wait_for;

use crate::dns;
use crate::hello::{PORT, port};
use crate::world::{SERVED, Side, World};

const TRIES: usize = 20;
/// Answers in a row that must all be right.
const IN_A_ROW: usize = 10;

/// Who answers, at an address of the cluster set over TCP.
fn tcp(ip: &str, port: u16) -> String {
    let request = r"printf 'GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n'";
    format!("({request}; sleep 0.2) | nc -w 2 {ip} {port} | grep '^{{'")
}

fn udp(ip: &str, port: u16) -> String {
    format!("ask-udp {ip}:{port}")
}

/// The address that DNS says of the name in the cluster set.
fn address(side: &Side<'_>) -> Result<String> {
    wait_for(&format!("{}: an address in DNS", side.cluster()), SERVED, || {
        Ok(dns::addresses(side, &side.domain(dns::CLUSTER_SET))?.into_iter().next())
    })
}

/// The cluster that answers what a script asks.
fn answering(side: &Side<'_>, script: &str) -> Result<String> {
    let said = side.sh(script)?;
    let answer = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let cluster = answer.as_ref().and_then(|answer| answer["cluster"].as_str()).map(str::to_owned);
    cluster.with_context(|| format!("{}: {said:?}", side.cluster()))
}

/// Answers of one cluster, and of no other, so often in a row.
fn only(side: &Side<'_>, script: &str, cluster: &str) -> Result<()> {
    wait_for(&format!("{}: an answer to {script}", side.cluster()), SERVED, || answering(side, script).map(Some))?;
    for _ in 0..IN_A_ROW {
        let found = answering(side, script)?;
        ensure!(found == cluster, "{}: {found} answers {script}", side.cluster());
    }
    Ok(())
}

/// The Service with its pods in both clusters.
fn in_both<'w>(world: &'w World<'_>, namespace: &'w str, changes: [&Value; 2]) -> Result<[Side<'w>; 2]> {
    let sides = world.sides(namespace);
    for (side, changes) in sides.iter().zip(changes) {
        side.serve(changes)?;
        side.run("Deployment", 1)?;
    }
    Ok(sides)
}

pub(crate) fn not_exported(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    a.serve(&json!({}))?;
    a.run("Deployment", 1)?;
    for side in [a, b] {
        for _ in 0..TRIES {
            let found = dns::addresses(&side, &side.domain(dns::CLUSTER_SET))?;
            ensure!(found.is_empty(), "{}: {found:?}", side.cluster());
        }
        ensure!(side.import()?.is_none() && side.slices()?.is_empty(), "{}: something was made", side.cluster());
    }
    Ok(())
}

pub(crate) fn through_dns(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = world.sides(namespace);
    a.serve(&json!({}))?;
    a.run("Deployment", 1)?;
    a.export()?;
    for side in [a, b] {
        let ip = address(&side)?;
        for script in [tcp(&ip, PORT), udp(&ip, PORT)] {
            let answer = || answering(&side, &script).map(Some);
            let found = wait_for(&format!("{}: an answer to {script}", side.cluster()), SERVED, answer)?;
            ensure!(found == a.cluster(), "{found} answers");
        }
    }
    Ok(())
}

pub(crate) fn only_the_exporter(world: &World<'_>, namespace: &str) -> Result<()> {
    let [a, b] = in_both(world, namespace, [&json!({}), &json!({})])?;
    a.export()?;
    for side in [a, b] {
        only(&side, &tcp(&address(&side)?, PORT), a.cluster())?;
    }
    Ok(())
}

/// Ports of two clusters, the first one the oldest.
fn strict(world: &World<'_>, namespace: &str, ports: [Value; 2], leads: &[(u16, usize)]) -> Result<()> {
    let [first, second] = ports.map(|port| json!({ "ports": [port] }));
    let sides = in_both(world, namespace, [&first, &second])?;
    sides[0].export()?;
    sides[0].export_is_older()?;
    sides[1].export()?;
    for side in &sides {
        side.awaits_condition("Conflict", "True")?;
    }
    for side in &sides {
        let ip = address(side)?;
        for (port, cluster) in leads {
            only(side, &tcp(&ip, *port), sides[*cluster].cluster())?;
        }
    }
    Ok(())
}

pub(crate) fn one_name_two_numbers(world: &World<'_>, namespace: &str) -> Result<()> {
    strict(world, namespace, [port("tcp", "TCP", PORT), port("tcp", "TCP", PORT + 1)], &[(PORT, 0)])?;
    // The number that lost leads nowhere.
    for side in world.sides(namespace) {
        let said = side.sh(&tcp(&address(&side)?, PORT + 1))?;
        if said.contains("cluster") {
            bail!("{}: {said}", side.cluster());
        }
    }
    Ok(())
}

pub(crate) fn different_names(world: &World<'_>, namespace: &str) -> Result<()> {
    let ports = [port("one", "TCP", PORT), port("two", "TCP", PORT + 1)];
    strict(world, namespace, ports, &[(PORT, 0), (PORT + 1, 1)])
}
