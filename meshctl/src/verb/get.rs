//! `meshctl get`: the merged view's objects. One file a kind; each turns messages into rows, and rows into a table.

mod endpoints;
mod identities;
mod nodes;
mod services;

use mesh_proto::convert;
use serde::Serialize;

use crate::app::Run;
use crate::args::{Get, Kind};
use crate::ask::Answers;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;

pub(crate) async fn run(run: &Run, args: &Get) -> Result<Exit, Failure> {
    match args.kind {
        Kind::Services => services::run(run, args).await,
        Kind::Endpoints => endpoints::run(run, args).await,
        Kind::Nodes => nodes::run(run, args).await,
        Kind::Identities => identities::run(run, args).await,
    }
}

fn request(args: &Get) -> mesh_proto::v1::ListRequest {
    mesh_proto::v1::ListRequest { namespace: args.namespace.clone(), cluster: args.cluster.clone() }
}

/// Turns all answers' messages into rows. A message that cannot be read is reported alone; the others are shown.
fn rows<M, R>(
    answers: Answers<Vec<M>>,
    kind: &str,
    row: impl Fn(&str, M) -> Result<R, convert::Error>,
) -> (Vec<R>, Vec<Failure>, Exit) {
    let mut exit = answers.exit();
    let mut failures = answers.failures;
    let mut rows = Vec::new();
    for (context, messages) in answers.answers {
        for message in messages {
            match row(&context, message) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    exit = exit.max(Exit::Degraded);
                    failures.push(Failure::new(Exit::Degraded, format!("{context}: one of its {kind}"), &error));
                }
            }
        }
    }
    (rows, failures, exit)
}

/// Shows the rows, as data, and the failures.
fn show<R: Serialize>(
    run: &Run,
    (rows, failures, exit): (Vec<R>, Vec<Failure>, Exit),
    table: impl FnOnce(&[R]) -> Table,
) -> Result<Exit, Failure> {
    run.report(&failures);
    run.output.data(&rows, |rows, colour| {
        let table = table(rows);
        if run.several() { table.render(colour) } else { table.without("SEEN BY").render(colour) }
    })?;
    Ok(exit)
}
