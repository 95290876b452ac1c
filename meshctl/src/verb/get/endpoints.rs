//! Addresses and who they are.

use ipnet::IpNet;
use mesh_proto::convert::{Error, prefix};
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
    prefix: IpNet,
    namespace: String,
    pod: String,
    identity: u32,
    host: String,
}

pub(super) async fn run(run: &Run, args: &Get) -> Result<Exit, Failure> {
    let request = super::request(args);
    let answers = ask::all(&run.asked, run.timeout, move |mut admin| {
        let request = request.clone();
        async move {
            let result = admin.api.list_endpoints(request).await;
            Ok(admin.answer("ListEndpoints", result)?.endpoints)
        }
    })
    .await;
    super::show(run, super::rows(answers, "endpoints", row), table)
}

fn row(context: &str, ip: v1::Ip) -> Result<Row, Error> {
    Ok(Row {
        context: context.to_owned(),
        prefix: prefix("ip.prefix", ip.prefix.as_ref())?,
        host: wire::address("ip.host", &ip.host)?,
        cluster: ip.cluster,
        namespace: ip.namespace,
        pod: ip.pod,
        identity: ip.identity,
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["SEEN BY", "CLUSTER", "ADDRESS", "NAMESPACE", "POD", "IDENTITY", "NODE ADDRESS"]);
    for r in rows {
        table.row([
            r.context.as_str().into(),
            r.cluster.as_str().into(),
            wire::short_prefix(r.prefix).into(),
            r.namespace.as_str().into(),
            r.pod.as_str().into(),
            r.identity.to_string().into(),
            r.host.as_str().into(),
        ]);
    }
    table
}
