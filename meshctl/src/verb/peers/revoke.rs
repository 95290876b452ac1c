//! `meshctl peers revoke NAME`: one side's trust in a cluster ends, without asking that cluster.

use mesh_proto::v1;
use serde::Serialize;

use crate::admin::Admin;
use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Serialize)]
struct Revoked {
    context: String,
    peer: String,
    was_connected: bool,
}

pub(crate) async fn revoke(run: &Run, name: &str) -> Result<Exit, Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(Failure::said(Exit::Usage, "peers revoke", "several contexts: trust is one cluster's to end")
            .hint("name it with --context"));
    };
    let mut admin = Admin::connect(context, run.timeout).await?;
    let result = admin.api.disconnect_peer(v1::DisconnectPeerRequest { peer_name: name.to_owned() }).await;
    let was_connected = admin.answer("DisconnectPeer", result)?.was_connected;
    let revoked = Revoked { context: context.name.clone(), peer: name.to_owned(), was_connected };
    run.output.data(&revoked, |revoked, _| {
        let Revoked { context, peer, was_connected } = revoked;
        let word = if *was_connected { "is trusted no more" } else { "was not joined" };
        format!("{peer} {word} by {context}\n")
    })?;
    if was_connected {
        output::note(format!("{name} still trusts this cluster: `meshctl disconnect` ends both sides"));
    }
    Ok(Exit::Ok)
}
