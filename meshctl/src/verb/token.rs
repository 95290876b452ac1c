//! `meshctl token create`: a token on stdout, everything about it on stderr. It is never an argument and never logged.

mod known;

pub(crate) use known::{list, revoke};
use mesh_proto::v1;
use serde::Serialize;

use crate::admin::Admin;
use crate::age;
use crate::app::Run;
use crate::args::TokenCreate;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};

#[derive(Serialize)]
struct Created {
    token: String,
    id: String,
    expires: Option<jiff::Timestamp>,
}

pub(crate) async fn create(run: &Run, args: &TokenCreate) -> Result<Exit, Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(Failure::said(Exit::Usage, "token create", "several contexts: a token is made by one cluster")
            .hint("name it with --context"));
    };
    let mut admin = Admin::connect(context, run.timeout).await?;
    let (created, next) = match (&args.peer, args.peer_id, &args.node) {
        (Some(peer), Some(id), _) => {
            let request = v1::CreateJoinTokenRequest { peer_name: peer.clone(), peer_id: id, ttl_seconds: args.ttl };
            let result = admin.api.create_join_token(request).await;
            let next = format!("only {peer} (id {id}) can use it: `meshctl connect {peer} --token-file FILE` there");
            (admin.answer("CreateJoinToken", result)?, next)
        }
        (_, _, Some(node)) => {
            let request = v1::CreateNodeTokenRequest { node: node.clone(), ttl_seconds: args.ttl };
            let result = admin.api.create_node_token(request).await;
            let next = format!("only node {node} can use it: give it to node-agent there as a file");
            (admin.answer("CreateNodeToken", result)?, next)
        }
        _ => return Err(Failure::said(Exit::Usage, "token create", "neither --peer with --peer-id nor --node")),
    };
    let made = Created { expires: age::timestamp(created.expires_unix_nanos), token: created.token, id: created.id };
    run.output.data(&made, |made, _| format!("{}\n", made.token))?;
    if run.format == Format::Table {
        let expires = made.expires.map_or_else(|| "never".to_owned(), |t| t.to_string());
        output::note(format!("token {} of {} expires {expires}; {next}", made.id, context.name));
    }
    Ok(Exit::Ok)
}
