//! `meshctl disconnect A B`: both sides forget each other. A side that cannot be reached does not keep the other from it.

use mesh_proto::v1;
use serde::Serialize;

use crate::admin::Admin;
use crate::app::Run;
use crate::args::Disconnect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pair::Named;
use crate::table::Table;

#[derive(Debug, Serialize)]
struct Side {
    context: String,
    peer: String,
    was_connected: bool,
}

/// A reached cluster and the name it gives itself.
struct Reached {
    admin: Admin,
    cluster: String,
}

pub(crate) async fn run(run: &Run, args: &Disconnect) -> Result<Exit, Failure> {
    let named = Named {
        a: args.a.as_deref(),
        b: args.b.as_deref(),
        contexts: &run.named,
        destination: args.destination_context.as_deref(),
    };
    let (given_a, given_b) = named.both()?;
    if given_a == given_b {
        return Err(Failure::said(Exit::Usage, given_a, "a cluster is not joined to itself"));
    }
    let (a, b) = tokio::join!(reach(run, given_a), reach(run, given_b));
    let mut failures = Vec::new();
    let name_of = |side: &Result<Reached, Failure>, given: &str| match side {
        Ok(named) => named.cluster.clone(),
        Err(_unreached) => given.to_owned(),
    };
    let (name_a, name_b) = (name_of(&a, given_a), name_of(&b, given_b));
    let mut sides = Vec::new();
    for (side, peer) in [(a, name_b), (b, name_a)] {
        match forget(side, peer).await {
            Ok(side) => sides.push(side),
            Err(failure) => failures.push(failure),
        }
    }
    run.report(&failures);
    if sides.is_empty() {
        return Ok(failures.iter().map(|f| f.exit).max().unwrap_or(Exit::Failed));
    }
    run.output.data(&sides, |sides, colour| {
        let mut table = Table::new(["CLUSTER", "PEER", "RESULT"]);
        for side in sides {
            let result = if side.was_connected { "disconnected" } else { "was not connected" };
            table.row([side.context.as_str().into(), side.peer.as_str().into(), result.into()]);
        }
        table.render(colour)
    })?;
    if failures.is_empty() {
        return Ok(Exit::Ok);
    }
    output::note("one side still knows the other: run `meshctl disconnect` again when it can be reached");
    Ok(Exit::Degraded)
}

async fn reach(run: &Run, name: &str) -> Result<Reached, Failure> {
    let mut admin = Admin::connect(&run.context(name)?, run.timeout).await?;
    let result = admin.api.get_version(v1::GetVersionRequest {}).await;
    let cluster = admin.answer("GetVersion", result)?.cluster;
    Ok(Reached { admin, cluster })
}

async fn forget(side: Result<Reached, Failure>, peer: String) -> Result<Side, Failure> {
    let Reached { mut admin, .. } = side?;
    let result = admin.api.disconnect_peer(v1::DisconnectPeerRequest { peer_name: peer.clone() }).await;
    let was_connected = admin.answer("DisconnectPeer", result)?.was_connected;
    Ok(Side { context: admin.context, peer, was_connected })
}
