//! A test from its beginning to its end: plan, make, wait, ask all cells, say why some failed, remove everything.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use mesh_proto::v1;

use super::cell::{self, Cell, Client, Outcome, To};
use super::diagnose::{Agent, Side, diagnose};
use super::objects::COMPONENT;
use super::place::{self, Place, Ready};
use super::report::{self, Report, Row};
use super::{Answer, SERVICE_TCP_PORT, SERVICE_UDP_PORT, TCP_PORT, UDP_PORT};
use crate::admin::Admin;
use crate::app::Run;
use crate::args::kubernetes::{ConnectivityTest, Protocol};
use crate::config::{Address, Context};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::{Cluster, release::LOOK_AGAIN, undo};
use crate::output;
use crate::pair::Named;
use crate::verb::peers::Peer;

/// Questions at a time: each is a process in a pod.
const AT_A_TIME: usize = 6;

pub(crate) async fn test(run: &Run, args: &ConnectivityTest) -> Result<Exit, Failure> {
    let named = Named {
        a: args.a.as_deref(),
        b: args.b.as_deref(),
        contexts: &run.named,
        destination: args.destination_context.as_deref(),
    };
    let (a, b) = named.both()?;
    if a == b {
        return Err(Failure::said(Exit::Usage, a, "a test is of two clusters"));
    }
    let contexts = [run.context(a)?, run.context(b)?];
    let namespace = format!("isthmus-connectivity-{}", undo::run_name());
    let mut places = Vec::new();
    for (number, context) in contexts.iter().enumerate() {
        let cluster = open(run, context).await?;
        let planned = Place::plan(cluster, number, contexts.len(), &namespace, args.image.as_deref()).await;
        places.push(planned.map_err(|error| error.failure(&context.name))?);
    }
    output::note(format!("making pods in namespace {namespace} of {a} and {b}; it is removed at the end"));
    let tested = undo::unless_interrupted(tested(run, args, &contexts, &places)).await;
    join_all(places.iter().map(Place::remove)).await;
    let report = match tested {
        Ok(report) => report?,
        Err(interrupted) => return Err(Failure::said(Exit::Failed, "connectivity test", interrupted.to_string())),
    };
    report::show(run, &report)?;
    Ok(if report.failed() == 0 { Exit::Ok } else { Exit::Degraded })
}

/// Removes what earlier tests left that were killed.
pub(crate) async fn clean(run: &Run) -> Result<Exit, Failure> {
    for context in &run.asked {
        let cluster = open(run, context).await?;
        let api = Api::<Namespace>::all(cluster.client.clone());
        let found = cluster.ask("list", "namespaces", api.list(&ListParams::default().labels(COMPONENT))).await;
        let found = found.map_err(|error| error.failure(&context.name))?;
        for namespace in found.items.into_iter().filter_map(|space| space.metadata.name) {
            output::note(format!("{}: removing namespace {namespace}", context.name));
            place::remove(&cluster, &namespace).await;
        }
    }
    Ok(Exit::Ok)
}

async fn open(run: &Run, context: &Context) -> Result<Cluster, Failure> {
    match context.addresses.first() {
        Some(Address::Kubernetes(access)) => {
            Cluster::open(access, run.timeout).await.map_err(|error| error.failure(&context.name))
        }
        _ => Err(Failure::said(
            Exit::Usage,
            &context.name,
            "it is no context of a kubeconfig: no pods can be made in it",
        )
        .hint("give the context a kube_context, or name one of the kubeconfig")),
    }
}

async fn tested(run: &Run, args: &ConnectivityTest, contexts: &[Context], places: &[Place]) -> Result<Report, Failure> {
    let begun = Instant::now();
    try_join_all(
        places.iter().map(|place| async { place.make().await.map_err(|error| error.failure(&place.cluster.context)) }),
    )
    .await?;
    let patience = Duration::from_secs(u64::from(args.pods_timeout));
    let ready: Vec<Ready> = try_join_all(
        places
            .iter()
            .map(|place| async { place.ready(patience).await.map_err(|error| error.failure(&place.cluster.context)) }),
    )
    .await?;
    let clients: Vec<Vec<Client>> = ready.iter().map(|ready| ready.clients.clone()).collect();
    let cells = cell::matrix(&clients);
    output::note(format!("pods run after {:.1} s; asking {} ways", begun.elapsed().as_secs_f32(), cells.len()));
    let names: Vec<String> = places.iter().map(|place| place.wanted.cluster.clone()).collect();
    let asked = stream::iter(cells).map(|cell| {
        let (names, ready) = (&names, &ready);
        async move {
            let outcome = asked(args, &places[cell.from], ready, names, &cell).await;
            (cell, outcome)
        }
    });
    let done: Vec<(Cell, Outcome)> = asked.buffered(AT_A_TIME).collect().await;
    Ok(explained(run, contexts, places, done).await)
}

/// Asks until the answer is right or the time is over: Services of another cluster take a moment to arrive.
async fn asked(args: &ConnectivityTest, place: &Place, ready: &[Ready], names: &[String], cell: &Cell) -> Outcome {
    let address = match (cell.target, cell.protocol) {
        (To::Pod, Protocol::Tcp) => format!("{}:{TCP_PORT}", ready[cell.to].server),
        (To::Pod, Protocol::Udp) => format!("{}:{UDP_PORT}", ready[cell.to].server),
        (To::Service, Protocol::Tcp) => format!("{}:{SERVICE_TCP_PORT}", ready[cell.from].services[cell.to]),
        (To::Service, Protocol::Udp) => format!("{}:{SERVICE_UDP_PORT}", ready[cell.from].services[cell.to]),
    };
    let within = args.answer_timeout.saturating_mul(1000).to_string();
    let words = ["/usr/bin/meshctl", "connectivity", "ask", cell.protocol.name(), &address, "--within-ms", &within];
    let command = words.map(str::to_owned);
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(u64::from(args.wait));
    loop {
        let why = match place.exec(&cell.pod, &command).await {
            Ok(Ok(text)) => match serde_json::from_str::<Answer>(&text) {
                Ok(answer) => match cell.wrong(&answer, names) {
                    None => return Outcome::Reached { answer, after: begun.elapsed() },
                    Some(wrong) => wrong,
                },
                Err(_other) => format!("what answers at {address} is no server of this test"),
            },
            Ok(Err(said)) => last_words(&said),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Outcome::NotReached { why };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Of what a command says on standard error, without the names that the report has anyway.
fn last_words(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default().trim_start_matches("meshctl: ");
    let text = line.split_once(": ").map_or(line, |(_, text)| text).trim();
    if text.is_empty() { "no answer, and no word why".to_owned() } else { text.to_owned() }
}

/// Asks both meshes only where something failed.
async fn explained(run: &Run, contexts: &[Context], places: &[Place], done: Vec<(Cell, Outcome)>) -> Report {
    let failed: Vec<&Cell> = done
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::NotReached { .. }))
        .map(|(cell, _)| cell)
        .collect();
    let sides = if failed.is_empty() {
        Vec::new()
    } else {
        output::note(format!("{} ways failed: asking both meshes why", failed.len()));
        join_all(contexts.iter().zip(places).map(|(context, place)| side(run, context, &place.wanted.cluster))).await
    };
    let namespace = places.first().map_or("", |place| place.wanted.namespace.as_str());
    let rows = done.iter().map(|(cell, outcome)| {
        let (from, to) = (&contexts[cell.from].name, &contexts[cell.to].name);
        match outcome {
            Outcome::Reached { answer, after } => Row::passed(from, to, cell, answer, *after),
            Outcome::NotReached { why } => {
                Row::failed(from, to, cell, why, diagnose(cell, why, &failed, &sides, namespace))
            }
        }
    });
    Report { rows: rows.collect() }
}

async fn side(run: &Run, context: &Context, cluster: &str) -> Side {
    let mut side = Side { context: context.name.clone(), cluster: cluster.to_owned(), ..Side::default() };
    match Box::pin(told(run, context)).await {
        Ok((status, declared)) => {
            side.peers = status
                .peers
                .into_iter()
                .map(|peer| Peer::new(&context.name, peer))
                .map(|peer| (peer.name.clone(), peer.state.clone(), peer.reason.clone()))
                .collect();
            side.agents = status.agents.into_iter().map(agent).collect();
            side.has_service_prefixes = !declared.service_prefixes.is_empty();
        }
        Err(failure) => side.silent = Some(failure.one_line()),
    }
    side
}

async fn told(run: &Run, context: &Context) -> Result<(v1::GetStatusResponse, v1::ClusterDeclaration), Failure> {
    let mut admin = Admin::connect(context, run.timeout).await?;
    let result = admin.api.get_status(v1::GetStatusRequest {}).await;
    let status = admin.answer("GetStatus", result)?;
    let result = admin.api.get_declaration(v1::GetDeclarationRequest {}).await;
    Ok((status, admin.answer("GetDeclaration", result)?))
}

fn agent(agent: v1::AgentStatus) -> Agent {
    let is_clear = ["", "none"].contains(&agent.wireguard_backend.as_str());
    let report = agent.report.unwrap_or_default();
    let down = report.paths.into_iter().filter(|path| !path.up).map(|path| (path.cluster, path.node));
    Agent {
        node: agent.node,
        is_connected: agent.connected,
        has_tunnel: is_clear || report.tunnel_up,
        down: down.collect(),
    }
}
