//! Numbers and the label sets that they stand for.

use mesh_proto::v1;
use serde::Serialize;

use crate::app::Run;
use crate::args::Get;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    identity: u32,
    labels: Vec<String>,
}

pub(super) async fn run(run: &Run, args: &Get) -> Result<Exit, Failure> {
    let request = super::request(args);
    let answers = ask::all(&run.asked, run.timeout, move |mut admin| {
        let request = request.clone();
        async move {
            let result = admin.api.list_identities(request).await;
            Ok(admin.answer("ListIdentities", result)?.identities)
        }
    })
    .await;
    let row = |context: &str, identity: v1::Identity| Ok(row(context, &identity));
    super::show(run, super::rows(answers, "identities", row), table)
}

/// Cilium's sorted list ends each label with `;`.
fn row(context: &str, identity: &v1::Identity) -> Row {
    let labels = identity.labels.split(';').filter(|l| !l.is_empty()).map(str::to_owned).collect();
    Row { context: context.to_owned(), identity: identity.number, labels }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["SEEN BY", "IDENTITY", "LABELS"]);
    for r in rows {
        table.row([r.context.as_str().into(), r.identity.to_string().into(), r.labels.join(",").into()]);
    }
    table
}
