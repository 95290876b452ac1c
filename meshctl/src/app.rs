//! Wiring: configuration, the contexts that are asked, the verb, the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::args::certs::Certs;
use crate::args::kubernetes::Connectivity;
use crate::args::store::{Check, Members, Snapshot, Store};
use crate::args::{Args, Bpf, Cilium, Peers, PeersAction, Token, Verb};
use crate::config::Context;
use crate::contexts::Contexts;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::{config, verb};

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Run {
    /// The commands that lead to nodes, of the configuration file.
    pub(crate) nodes: BTreeMap<String, Vec<String>>,
    contexts: Contexts,
    /// The contexts to ask, in the order of their names' sources.
    pub(crate) asked: Vec<Context>,
    /// `--context`, as given.
    pub(crate) named: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) output: Output,
    pub(crate) format: Format,
}

impl Run {
    pub(crate) fn context(&self, name: &str) -> Result<Context, Failure> {
        self.contexts.named(name)
    }

    /// Whether a column that names the context is worth its space.
    pub(crate) fn several(&self) -> bool {
        self.asked.len() > 1
    }

    /// Reports the failures and returns what the run comes to with them.
    pub(crate) fn report(&self, failures: &[Failure]) {
        for failure in failures {
            self.output.failure(failure);
        }
    }
}

pub(crate) fn run(args: Args) -> Exit {
    let output = Output::new(args.output, args.no_color);
    match prepare(&args, output).and_then(|run| execute(&run, args.verb)) {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

fn prepare(args: &Args, output: Output) -> Result<Run, Failure> {
    if args.output == Format::Junit && !matches!(args.verb, Verb::Connectivity(_)) {
        let text = "junit is for `meshctl connectivity test` only";
        return Err(Failure::said(Exit::Usage, "--output", text));
    }
    let asks_nobody = is_offline(&args.verb) && args.contexts.is_empty() && args.config.is_none();
    let config = match config::load(args.config.as_deref()) {
        // A command that asks no cluster works whatever the file says.
        Err(_unusable) if asks_nobody => None,
        loaded => loaded?,
    };
    let nodes = config.as_ref().map(|config| config.nodes.clone()).unwrap_or_default();
    let contexts = Contexts::new(config, args.kubeconfig.clone(), args.mesh_namespace.clone());
    let asked = if !args.contexts.is_empty() {
        args.contexts.iter().map(|name| contexts.named(name)).collect::<Result<_, _>>()?
    } else if args.all_contexts {
        contexts.all()?
    } else {
        match contexts.usual() {
            // Versions are told of nobody, too, and two clusters may be named as arguments.
            Err(_nobody) if asks_nobody || names_clusters(&args.verb) => Vec::new(),
            usual => usual?,
        }
    };
    let timeout = Duration::from_secs(u64::from(args.timeout));
    Ok(Run { nodes, contexts, asked, named: args.contexts.clone(), timeout, output, format: args.output })
}

/// Verbs whose clusters are arguments of their own.
fn names_clusters(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Connect(_) | Verb::Preflight(_) | Verb::Disconnect(_) | Verb::Connectivity(Connectivity::Test(_))
    )
}

/// Verbs that work on this machine, or work without a cluster as well.
fn is_offline(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Store(Store::Check(Check { file: Some(_) }) | Store::Snapshot(Snapshot::Restore(_)))
            | Verb::Certs(Certs::CreateCa(_))
            | Verb::Version
            | Verb::Bpf(_)
            | Verb::Connectivity(Connectivity::Serve(_) | Connectivity::Idle | Connectivity::Ask(_))
    )
}

fn execute(run: &Run, verb: Verb) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failed, "tokio runtime", &e))?;
    runtime.block_on(async {
        match verb {
            Verb::Connect(connect) => verb::connect::run(run, &connect).await,
            Verb::Preflight(preflight) => verb::preflight::run(run, &preflight).await,
            Verb::Troubleshoot(troubleshoot) => verb::troubleshoot::run(run, &troubleshoot).await,
            Verb::Disconnect(disconnect) => verb::disconnect::run(run, &disconnect).await,
            Verb::Peers(Peers { action: None }) => verb::peers::run(run).await,
            Verb::Peers(Peers { action: Some(PeersAction::Revoke(peer)) }) => {
                verb::peers::revoke(run, &peer.name).await
            }
            Verb::Check(check) => verb::check::run(run, &check).await,
            Verb::Connectivity(connectivity) => match connectivity {
                Connectivity::Test(test) => verb::connectivity::test(run, &test).await,
                Connectivity::Clean => verb::connectivity::clean(run).await,
                Connectivity::Serve(serve) => verb::connectivity::serve(&serve).await,
                Connectivity::Idle => verb::connectivity::idle().await,
                Connectivity::Ask(ask) => verb::connectivity::ask(&ask).await,
            },
            Verb::Install(install) => verb::release::install(run, &install).await,
            Verb::Upgrade(upgrade) => verb::release::upgrade(run, &upgrade).await,
            Verb::Uninstall(uninstall) => verb::release::uninstall(run, &uninstall).await,
            Verb::Sysdump(sysdump) => verb::sysdump::run(run, &sysdump).await,
            Verb::Status => verb::status::run(run).await,
            Verb::Get(get) => verb::get::run(run, &get).await,
            Verb::Certs(Certs::Status) => verb::certs::status(run).await,
            Verb::Certs(Certs::Rotate(rotate)) => verb::certs::rotate(run, &rotate).await,
            Verb::Certs(Certs::CreateCa(create)) => verb::certs::create_ca(run.output, &create),
            Verb::Token(Token::Create(create)) => verb::token::create(run, &create).await,
            Verb::Token(Token::List) => verb::token::list(run).await,
            Verb::Token(Token::Revoke(token)) => verb::token::revoke(run, &token.id).await,
            Verb::Cilium(Cilium::Config(config)) => verb::cilium::config(run, &config).await,
            Verb::Store(store) => match store {
                Store::Status => verb::store::status::run(run).await,
                Store::Members(Members { change: None }) => verb::store::members::run(run).await,
                Store::Members(Members { change: Some(change) }) => verb::store::members::change(run, &change).await,
                Store::Check(Check { file: Some(file) }) => verb::store::check::file(run.output, &file),
                Store::Check(Check { file: None }) => verb::store::check::run(run).await,
                Store::Compact(compact) => verb::store::compact::run(run, &compact).await,
                Store::Snapshot(Snapshot::Save(save)) => verb::store::snapshot::save(run, &save).await,
                Store::Snapshot(Snapshot::Restore(restore)) => {
                    verb::store::snapshot::restore(run.output, &restore).await
                }
            },
            Verb::Bpf(Bpf::Dump(dump)) => verb::bpf::dump(run, &dump),
            Verb::Version => verb::version::run(run).await,
        }
    })
}
