//! `meshctl store members`: who keeps the store, and changes to that.

use mesh_proto::v1;
use serde::Serialize;

use super::{member_id, only};
use crate::admin::Admin;
use crate::app::Run;
use crate::args::store::MembersChange;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
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

fn rows(context: &str, members: Vec<v1::StoreMember>, leader: u64) -> Vec<Row> {
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
    members.into_iter().map(row).collect()
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.store.get_store(v1::GetStoreRequest {}).await;
        admin.answer("GetStore", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let rows: Vec<Row> =
        answers.answers.into_iter().flat_map(|(context, store)| rows(&context, store.members, store.leader)).collect();
    show(run, &rows)?;
    Ok(exit)
}

pub(crate) async fn change(run: &Run, change: &MembersChange) -> Result<Exit, Failure> {
    let context = only(run)?;
    let mut admin = Admin::connect(context, run.timeout).await?;
    let (members, next) = match change {
        MembersChange::Add { replica: (id, host) } => {
            let answer = admin.store.add_store_member(v1::AddStoreMemberRequest { id: *id, host: host.clone() }).await;
            let next = format!(
                "start mesh-apiserver on {host} with an empty --state-dir, the cluster's --ca-dir, --replica-id={id}, \
                 --replica-join and a --replica for every replica"
            );
            (admin.answer("AddStoreMember", answer)?.members, next)
        }
        MembersChange::Remove { id } => {
            let answer = admin.store.remove_store_member(v1::RemoveStoreMemberRequest { id: *id }).await;
            let next = format!("stop replica {} and delete its --state-dir", member_id(*id));
            (admin.answer("RemoveStoreMember", answer)?.members, next)
        }
    };
    let answer = admin.store.get_store(v1::GetStoreRequest {}).await;
    let leader = admin.answer("GetStore", answer)?.leader;
    show(run, &rows(&context.name, members, leader))?;
    output::note(next);
    Ok(Exit::Ok)
}

fn show(run: &Run, rows: &[Row]) -> Result<(), Failure> {
    run.output.data(&rows, |rows, colour| {
        let mut table = Table::new(["CLUSTER", "MEMBER", "NAME", "ROLE", "PEERS AT", "CLIENTS AT"]);
        for row in *rows {
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
    })
}
