//! `node-agent bpf dump`: the maps of this node in words. Reads pins; needs no running agent.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;

use agent_ebpf::maps::{Access, Error as MapError};
use agent_ebpf::{Maps, Pins};
use agent_ebpf_common::verdict::{direction, reason, verdict};
use agent_ebpf_common::{Endpoint, IpEntry};
use clap::ValueEnum;
use serde_json::{Value, json};

/// Columns in the order in which a table shows them.
type Row = Vec<(&'static str, Value)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Map {
    Ipcache,
    Nodes,
    Endpoints,
    Services,
    Backends,
    Ct,
    Sockets,
    Counters,
    Config,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the map (has an agent ever run here? is --bpffs right?)")]
    Map(#[from] MapError),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

pub fn run(bpffs: &Path, map: Map, format: Format) -> Result<(), Error> {
    let maps = Maps::open(&Pins::under(bpffs), Access::ReadOnly)?;
    let rows = rows(&maps, map)?;
    let text = match format {
        Format::Json => format!("{}\n", Value::Array(rows.into_iter().map(object).collect())),
        Format::Table => table(&rows),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::Output),
    }
}

fn rows(maps: &Maps, map: Map) -> Result<Vec<Row>, MapError> {
    let mut rows = match map {
        Map::Ipcache => maps.ipcache.entries()?.into_iter().map(|(prefix, e)| ip_entry(prefix, &e)).collect(),
        Map::Nodes => {
            let row_of = |(address, node): (IpAddr, agent_ebpf_common::Node)| {
                vec![("address", json!(address)), ("cluster", json!(node.cluster))]
            };
            maps.nodes.entries()?.into_iter().map(row_of).collect()
        }
        Map::Endpoints => maps.endpoints.entries()?.into_iter().map(|(a, e)| endpoint(a, &e)).collect(),
        Map::Services => services(maps)?,
        Map::Backends => {
            let row_of = |(number, b): (u32, agent_ebpf_common::Backend)| {
                vec![
                    ("number", json!(number)),
                    ("address", json!(socket(IpAddr::from(b.addr), b.port_be))),
                    ("protocol", json!(protocol(b.proto))),
                    ("cluster", json!(b.cluster)),
                ]
            };
            maps.backends.entries()?.into_iter().map(row_of).collect()
        }
        Map::Ct => {
            let row_of = |(key, target): (agent_ebpf_common::FlowKey, agent_ebpf_common::FlowTarget)| {
                vec![
                    ("source", json!(socket(key.src.into(), key.sport_be))),
                    ("service", json!(socket(key.dst.into(), key.dport_be))),
                    ("backend", json!(socket(target.addr.into(), target.port_be))),
                    ("protocol", json!(protocol(u8::try_from(key.proto).unwrap_or(0)))),
                ]
            };
            maps.flows.entries()?.into_iter().map(row_of).collect()
        }
        Map::Sockets => {
            let row_of = |(cookie, origin): (u64, agent_ebpf_common::SockOrigin)| {
                vec![
                    ("cookie", json!(cookie)),
                    ("service", json!(socket(origin.service.into(), origin.service_port_be))),
                    ("backend", json!(socket(origin.backend.into(), origin.backend_port_be))),
                ]
            };
            maps.sockets.entries()?.into_iter().map(row_of).collect()
        }
        Map::Counters => counters(maps)?,
        Map::Config => vec![config(maps)?],
    };
    if !matches!(map, Map::Counters | Map::Backends) {
        rows.sort_by_cached_key(|row| row.first().map(|(_, value)| value.to_string()));
    }
    Ok(rows)
}

fn object(row: Row) -> Value {
    Value::Object(row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn socket(address: IpAddr, port_be: u16) -> String {
    std::net::SocketAddr::new(address, u16::from_be(port_be)).to_string()
}

fn protocol(number: u8) -> &'static str {
    match number {
        agent_ebpf_common::PROTO_TCP => "TCP",
        agent_ebpf_common::PROTO_UDP => "UDP",
        _ => "other",
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

fn ip_entry(prefix: ipnet::IpNet, entry: &IpEntry) -> Row {
    let node = (!entry.node.is_unset()).then(|| IpAddr::from(entry.node));
    let kind = match (entry.is_own(), entry.is_remote()) {
        (true, _) => "own",
        (false, true) => "remote",
        (false, false) => "unknown",
    };
    vec![
        ("prefix", json!(prefix)),
        ("cluster", json!(entry.cluster)),
        ("identity", json!(entry.identity)),
        ("node", json!(node)),
        ("kind", json!(kind)),
        ("drop", json!(entry.is_dropped())),
    ]
}

fn endpoint(address: IpAddr, entry: &Endpoint) -> Row {
    let delivery = if entry.how == Endpoint::DELIVER_MAC { "mac" } else { "neighbour" };
    vec![
        ("address", json!(address)),
        ("identity", json!(entry.identity)),
        ("ifindex", json!(entry.ifindex)),
        ("master", json!(entry.master)),
        ("delivery", json!(delivery)),
        ("pod_mac", json!(mac(entry.dmac))),
        ("gateway_mac", json!(mac(entry.smac))),
    ]
}

/// With the backends' addresses and their shares of new connections.
fn services(maps: &Maps) -> Result<Vec<Row>, MapError> {
    let backends: std::collections::BTreeMap<u32, agent_ebpf_common::Backend> =
        maps.backends.entries()?.into_iter().collect();
    let mut out = Vec::new();
    for (key, service) in maps.services.entries()? {
        let mut shares = std::collections::BTreeMap::new();
        match service.table_len {
            0 if service.backends == 1 => drop(shares.insert(service.backend, 1)),
            0 => {}
            len => {
                for number in maps.maglev.read(service.table_offset, len)? {
                    *shares.entry(number).or_insert(0) += 1;
                }
            }
        }
        let used = shares.iter().map(|(number, slots)| match backends.get(number) {
            Some(b) => json!({"address": socket(b.addr.into(), b.port_be), "cluster": b.cluster, "slots": slots}),
            None => json!({"address": null, "number": number, "slots": slots}),
        });
        out.push(vec![
            ("frontend", json!(socket(key.addr.into(), key.port_be))),
            ("protocol", json!(protocol(key.proto))),
            ("id", json!(service.id)),
            ("table", json!(service.table_len)),
            ("backends", Value::Array(used.collect())),
        ]);
    }
    Ok(out)
}

fn counters(maps: &Maps) -> Result<Vec<Row>, MapError> {
    let row_of = |(key, value): (agent_ebpf_common::CounterKey, agent_ebpf_common::CounterValue)| {
        vec![
            ("program", json!(direction::name(key.direction))),
            ("verdict", json!(verdict::name(key.verdict))),
            ("reason", json!(reason::name(key.reason))),
            ("identity", json!(key.identity)),
            ("cluster", json!(key.cluster)),
            ("packets", json!(value.packets)),
            ("bytes", json!(value.bytes)),
        ]
    };
    Ok(maps.counters.read()?.into_iter().map(row_of).collect())
}

fn config(maps: &Maps) -> Result<Row, MapError> {
    let config = maps.config.get()?;
    Ok(vec![
        ("configured", json!(config.is_set())),
        ("cluster", json!(config.cluster)),
        ("vxlan_ifindex", json!(config.vxlan_ifindex)),
        ("encryption_required", json!(config.requires_encryption())),
        ("mtu", json!(config.mtu)),
        ("mss", json!(config.mss)),
        ("vxlan_port", json!(config.vxlan_port)),
        ("identity_shift", json!(config.identity_shift)),
    ])
}

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return "(empty)\n".to_owned() };
    let names: Vec<&str> = first.iter().map(|(name, _)| *name).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|(_, value)| cell(value)).collect()).collect();
    let width = |i: usize| cells.iter().map(|c| c[i].len()).chain([names[i].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head = line(names.clone()).to_uppercase();
    let body = cells.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(body).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(share).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn share(item: &Value) -> String {
    format!("{}*{}", item["address"].as_str().unwrap_or("?"), item["slots"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_an_empty_map_says_so() {
        let rows = [("10.2.0.0/16", 2), ("10.2.1.5/32", 2)].map(|(prefix, cluster)| {
            let entry = IpEntry { cluster, flags: IpEntry::FLAG_REMOTE | IpEntry::FLAG_DROP, ..IpEntry::default() };
            ip_entry(prefix.parse().unwrap(), &entry)
        });
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("PREFIX") && lines[1].contains("remote") && lines.len() == 3, "{text}");
        assert_eq!(table(&[]), "(empty)\n");
    }
}
