//! `meshctl store`: what keeps everything else. Each replica is asked by itself, since they may differ.

pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod members;
pub(crate) mod snapshot;
pub(crate) mod status;

use mesh_proto::v1;

use crate::admin::Admin;
use crate::app::Run;
use crate::config::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// One replica that answered.
struct Replica {
    context: String,
    admin: Admin,
    store: v1::GetStoreResponse,
}

/// Asks every replica of every context that is asked.
async fn replicas(run: &Run) -> (Vec<Replica>, Vec<Failure>) {
    let (mut replicas, mut failures) = (Vec::new(), Vec::new());
    for context in &run.asked {
        for address in &context.addresses {
            let one = Context { name: context.name.clone(), addresses: vec![address.clone()] };
            match replica(&one, run).await {
                Ok(replica) => replicas.push(replica),
                Err(failure) => failures.push(failure),
            }
        }
    }
    (replicas, failures)
}

async fn replica(context: &Context, run: &Run) -> Result<Replica, Failure> {
    let mut admin = Admin::connect(context, run.timeout).await?;
    let answer = admin.store.get_store(v1::GetStoreRequest {}).await;
    let store = admin.answer("GetStore", answer)?;
    Ok(Replica { context: context.name.clone(), admin, store })
}

/// What the run comes to when these replicas answered and these did not.
fn exit(replicas: &[Replica], failures: &[Failure]) -> Exit {
    match (replicas.is_empty(), failures.is_empty()) {
        (_, true) => Exit::Ok,
        (false, false) => Exit::Degraded,
        (true, false) => failures.iter().map(|failure| failure.exit).max().unwrap_or(Exit::Failed),
    }
}

/// The one context that a change is for.
fn only(run: &Run) -> Result<&Context, Failure> {
    match &run.asked[..] {
        [one] => Ok(one),
        several => {
            let names: Vec<&str> = several.iter().map(|context| context.name.as_str()).collect();
            let text = format!("it is for one cluster, and there are {}", names.join(", "));
            Err(Failure::said(Exit::Usage, "store", text).hint("name one with --context"))
        }
    }
}

/// A member's id, as etcdctl writes it.
fn member_id(id: u64) -> String {
    format!("{id:x}")
}
