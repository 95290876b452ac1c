//! Wiring: configuration, the contexts that are asked, the verb, the exit code.

use std::time::Duration;

use crate::args::certs::Certs;
use crate::args::store::{Check, Members, Snapshot, Store};
use crate::args::{Args, Bpf, Cilium, Peers, PeersAction, Token, Verb};
use crate::config::{Config, Context};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::{config, verb};

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) config: Config,
    /// The contexts to ask, in the file's order.
    pub(crate) asked: Vec<Context>,
    pub(crate) timeout: Duration,
    pub(crate) output: Output,
    pub(crate) format: crate::output::Format,
}

impl Run {
    pub(crate) fn context(&self, name: &str) -> Result<&Context, Failure> {
        self.config.contexts.iter().find(|c| c.name == name).ok_or_else(|| unknown_context(&self.config, name))
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

fn unknown_context(config: &Config, name: &str) -> Failure {
    let known: Vec<_> = config.contexts.iter().map(|c| c.name.as_str()).collect();
    Failure::said(Exit::Usage, name, "no such context").hint(format!("the configuration file has {}", known.join(", ")))
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
    let optional =
        (matches!(args.verb, Verb::Version | Verb::Bpf(_)) || is_offline(&args.verb)) && args.contexts.is_empty();
    let config = match config::load(args.config.as_deref()) {
        // Both work on a machine where nothing has been set up yet.
        Err(_missing) if optional && args.config.is_none() => Config::default(),
        loaded => loaded?,
    };
    let mut asked = Vec::new();
    for name in &args.contexts {
        let found = config.contexts.iter().find(|c| c.name == *name);
        asked.push(found.cloned().ok_or_else(|| unknown_context(&config, name))?);
    }
    if asked.is_empty() {
        asked.clone_from(&config.contexts);
    }
    let timeout = Duration::from_secs(u64::from(args.timeout));
    Ok(Run { config, asked, timeout, output, format: args.output })
}

/// Verbs that work on files only.
fn is_offline(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Store(Store::Check(Check { file: Some(_) }) | Store::Snapshot(Snapshot::Restore(_)))
            | Verb::Certs(Certs::CreateCa(_))
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
