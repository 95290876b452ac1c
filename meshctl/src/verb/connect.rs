//! `meshctl connect A B`: compare both declarations, a token from B, redeemed at A, then wait until both are live.
//!
//! Nothing is changed before the comparison is clean; repeating it changes nothing. The token goes from one call to the
//! next in memory. With `--token-file` only A is asked, and the token comes from B's people; with `--cilium` as well, and
//! what it should know of the Cilium cluster comes from a file.

mod cilium;
mod compare;
mod steps;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mesh_proto::v1;
use serde::Serialize;
use tokio::time::sleep;

use self::compare::Declared;
use self::steps::Steps;
use crate::admin::Admin;
use crate::app::Run;
use crate::args::Connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pair::Named;
use crate::verb::peers::{self, Peer};

/// How often a session's state is asked for while waiting.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
struct Connected {
    already_connected: bool,
    /// Both sides' view of the other, or A's alone with a token file.
    sides: Vec<Peer>,
}

/// One cluster while it is being joined.
struct Side {
    admin: Admin,
    declared: Declared,
    peers: Vec<Peer>,
}

pub(crate) async fn run(run: &Run, args: &Connect) -> Result<Exit, Failure> {
    let named = Named {
        a: args.a.as_deref(),
        b: args.b.as_deref(),
        contexts: &run.named,
        destination: args.destination_context.as_deref(),
    };
    let (a, b) = named.resolve()?;
    match (b, &args.token_file, &args.cilium) {
        (Some(b), None, None) => pair(run, args, a, b).await,
        (None, Some(file), _) => with_token(run, args, a, file).await,
        (None, None, Some(file)) => with_cilium(run, args, a, file).await,
        (None, None, None) => Err(Failure::said(Exit::Usage, a, "it is not said what it is to be joined to")
            .hint("name a second context, or --token-file, or --cilium")),
        (Some(b), ..) => Err(Failure::said(Exit::Usage, b, "a second cluster and a file are two ways: keep one")),
    }
}

async fn pair(run: &Run, args: &Connect, a: &str, b: &str) -> Result<Exit, Failure> {
    let mut steps = Steps::new(4);
    let (a, b) = (run.context(a)?, run.context(b)?);
    let (a, b) = steps
        .run("ask both clusters what they declare", async {
            let (a, b) = tokio::join!(side(&a, run.timeout), side(&b, run.timeout));
            both(run, a, b)
        })
        .await?;
    let conflicts = compare::conflicts(&a.declared, &a.peers, &b.declared, &b.peers);
    steps.done("compare names, ids, prefixes, encryption", conflicts.is_empty());
    if !conflicts.is_empty() {
        for conflict in &conflicts {
            output::note(format!("  {conflict}"));
        }
        let object = format!("{} and {}", a.admin.context, b.admin.context);
        return Err(Failure::said(Exit::Conflict, object, "they cannot be joined; nothing was changed")
            .hint("change what is named above in one of the two, then repeat the command"));
    }
    for warning in compare::warnings(&a.declared, &b.declared) {
        output::note(format!("  note: {warning}"));
    }
    let knows = |side: &Side, other: &Side| side.peers.iter().any(|p| p.name == other.declared.name);
    let already = knows(&a, &b) && knows(&b, &a);
    if already {
        steps.skip("exchange trust", "both sides know each other already");
    } else {
        steps.run("exchange trust by a one-time token", exchange(run, &a, &b)).await?;
    }
    let ends = [(a.admin, b.declared.name), (b.admin, a.declared.name)];
    let sides = steps.run("wait until both sides are live", wait(run, args, &ends)).await?;
    finish(run, already, sides)
}

async fn with_token(run: &Run, args: &Connect, a: &str, file: &Path) -> Result<Exit, Failure> {
    let token = read_token(file)?;
    let mut steps = Steps::new(2);
    let mut admin = Admin::connect(&run.context(a)?, run.timeout).await?;
    let answer = steps
        .run("redeem the token at the cluster that made it", async {
            let result = admin.api.connect_peer(v1::ConnectPeerRequest { token }).await;
            admin.answer("ConnectPeer", result)
        })
        .await?;
    let ends = [(admin, answer.peer_name)];
    let sides = steps.run("wait until this side is live", wait(run, args, &ends)).await?;
    finish(run, answer.already_connected, sides)
}

async fn with_cilium(run: &Run, args: &Connect, a: &str, file: &Path) -> Result<Exit, Failure> {
    let request = cilium::read(file)?;
    let mut steps = Steps::new(2);
    let mut admin = Admin::connect(&run.context(a)?, run.timeout).await?;
    let answer = steps
        .run("compare, and ask the Cilium cluster who it is", async {
            let result = admin.api.connect_cilium(request).await;
            admin.answer("ConnectCilium", result)
        })
        .await?;
    let ends = [(admin, answer.peer_name)];
    let sides = steps.run("wait until this side is live", wait(run, args, &ends)).await?;
    finish(run, answer.already_connected, sides)
}

fn both(run: &Run, a: Result<Side, Failure>, b: Result<Side, Failure>) -> Result<(Side, Side), Failure> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => {
            run.output.failure(&a);
            Err(b)
        }
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}

async fn side(context: &crate::config::Context, timeout: Duration) -> Result<Side, Failure> {
    let mut admin = Admin::connect(context, timeout).await?;
    let result = admin.api.get_declaration(v1::GetDeclarationRequest {}).await;
    let declaration = admin.answer("GetDeclaration", result)?;
    let declared = Declared::try_from(declaration)
        .map_err(|e| Failure::new(Exit::Failed, format!("{}: its declaration", admin.context), &e))?;
    let peers = list(&mut admin).await?;
    Ok(Side { admin, declared, peers })
}

async fn list(admin: &mut Admin) -> Result<Vec<Peer>, Failure> {
    let result = admin.api.list_peers(v1::ListPeersRequest {}).await;
    let list = admin.answer("ListPeers", result)?;
    Ok(list.peers.into_iter().map(|p| Peer::new(&admin.context, p)).collect())
}

async fn exchange(run: &Run, a: &Side, b: &Side) -> Result<(), Failure> {
    let request = v1::CreateJoinTokenRequest {
        peer_name: a.declared.name.clone(),
        peer_id: a.declared.id,
        // It is redeemed at once: what is left of it afterwards is only risk.
        ttl_seconds: u32::try_from(run.timeout.as_secs()).unwrap_or(60).saturating_add(60),
    };
    let mut api = b.admin.api.clone();
    let token = b.admin.answer("CreateJoinToken", api.create_join_token(request).await)?.token;
    let mut api = a.admin.api.clone();
    a.admin.answer("ConnectPeer", api.connect_peer(v1::ConnectPeerRequest { token }).await)?;
    Ok(())
}

/// Each end's view of the other, as soon as all are live or the time is over.
async fn wait(run: &Run, args: &Connect, ends: &[(Admin, String)]) -> Result<Vec<Peer>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(u64::from(args.wait));
    loop {
        let is_late = Instant::now() >= deadline;
        let mut seen = Vec::new();
        for (admin, peer) in ends {
            // A session starts a moment after its peer is stored: until then it is not listed.
            match list(&mut admin.clone()).await?.into_iter().find(|p| p.name == *peer) {
                Some(found) => seen.push(found),
                None if is_late => return Err(unlisted(&admin.context, peer)),
                None => {}
            }
        }
        let all_live = seen.len() == ends.len() && seen.iter().all(Peer::is_live);
        if all_live || is_late {
            return Ok(seen);
        }
        sleep(POLL.min(run.timeout)).await;
    }
}

fn unlisted(context: &str, peer: &str) -> Failure {
    Failure::said(Exit::Failed, context, format!("it does not list {peer}, which it was joined to"))
        .hint(format!("was it disconnected meanwhile? see `meshctl peers -c {context}`"))
}

fn finish(run: &Run, already_connected: bool, sides: Vec<Peer>) -> Result<Exit, Failure> {
    let live = sides.iter().all(Peer::is_live);
    let connected = Connected { already_connected, sides };
    run.output.data(&connected, |c, colour| peers::table(&c.sides, Timestamp::now(), colour))?;
    if live {
        output::note(
            "next: annotate a Service with mesh.isthmus.io/global: \"true\" in both clusters, \
             then see `meshctl get services` and `meshctl status`",
        );
        return Ok(Exit::Ok);
    }
    output::note("they are joined, but not live yet: `meshctl status` says what they wait for");
    Ok(Exit::Degraded)
}

fn read_token(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| f.read_to_string(&mut text))
    };
    read.map_err(|e| Failure::new(Exit::Usage, format!("token file {}", file.display()), &e))?;
    match text.trim() {
        "" => Err(Failure::said(Exit::Usage, format!("token file {}", file.display()), "there is no token in it")),
        token => Ok(token.to_owned()),
    }
}
