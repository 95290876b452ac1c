//! The nodes of all clusters.

use mesh_proto::convert::Error;
use mesh_proto::v1;
use serde::Serialize;

use crate::app::Run;
use crate::args::Get;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;
use crate::{ask, wire};

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    cluster: String,
    node: String,
    addresses: Vec<String>,
    pod_prefixes: Vec<String>,
    /// Whether a public key is known; the key itself is of no use to a person.
    has_wireguard_key: bool,
    wireguard_port: u32,
    vxlan_port: u32,
}

pub(super) async fn run(run: &Run, args: &Get) -> Result<Exit, Failure> {
    let request = super::request(args);
    let answers = ask::all(&run.asked, run.timeout, move |mut admin| {
        let request = request.clone();
        async move {
            let result = admin.api.list_nodes(request).await;
            Ok(admin.answer("ListNodes", result)?.nodes)
        }
    })
    .await;
    super::show(run, super::rows(answers, "nodes", row), table)
}

fn row(context: &str, node: v1::Node) -> Result<Row, Error> {
    Ok(Row {
        context: context.to_owned(),
        addresses: wire::addresses("node.internal_ips", &node.internal_ips)?,
        pod_prefixes: wire::prefixes("node.pod_cidrs", &node.pod_cidrs)?.iter().map(ToString::to_string).collect(),
        has_wireguard_key: !node.wireguard_key.is_empty(),
        cluster: node.cluster,
        node: node.name,
        wireguard_port: node.wireguard_port,
        vxlan_port: node.vxlan_port,
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["SEEN BY", "CLUSTER", "NODE", "ADDRESSES", "POD PREFIXES", "WIREGUARD", "VXLAN"]);
    for r in rows {
        let wireguard = if r.has_wireguard_key { format!("port {}", r.wireguard_port) } else { "no key".to_owned() };
        table.row([
            r.context.as_str().into(),
            r.cluster.as_str().into(),
            r.node.as_str().into(),
            r.addresses.join(",").into(),
            r.pod_prefixes.join(",").into(),
            wireguard.into(),
            format!("port {}", r.vxlan_port).into(),
        ]);
    }
    table
}
