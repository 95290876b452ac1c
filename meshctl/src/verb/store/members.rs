//! `meshctl store members`.

use mesh_proto::v1;
use serde::Serialize;

use super::member_id;
use crate::app::Run;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    id: String,
    name: String,
    role: &'static str,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
}

fn rows(context: &str, store: v1::GetStoreResponse) -> Vec<Row> {
    let leader = store.leader;
    let row = |member: v1::StoreMember| Row {
        context: context.to_owned(),
        id: member_id(member.id),
        name: member.name,
        role: match (member.is_learner, member.id == leader) {
            (true, _) => "learner",
            (_, true) => "leader",
            _ => "voter",
        },
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
    };
    store.members.into_iter().map(row).collect()
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.store.get_store(v1::GetStoreRequest {}).await;
        admin.answer("GetStore", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let rows: Vec<Row> = answers.answers.into_iter().flat_map(|(context, store)| rows(&context, store)).collect();
    run.output.data(&rows, |rows, colour| {
        let mut table = Table::new(["CLUSTER", "MEMBER", "NAME", "ROLE", "PEERS AT", "CLIENTS AT"]);
        for row in rows {
            table.row([
                row.context.as_str().into(),
                row.id.as_str().into(),
                row.name.as_str().into(),
                row.role.into(),
                row.peer_urls.join(",").into(),
                row.client_urls.join(",").into(),
            ]);
        }
        table.render(colour)
    })?;
    Ok(exit)
}
