//! `meshctl certs rotate`: asks for it, and shows how it goes on. The cluster does it: a meshctl that is gone stops nothing.

use std::time::{Duration, Instant};

use mesh_proto::v1;
use serde::Serialize;

use super::report::{Party, Rotation, short};
use crate::admin::Admin;
use crate::app::Run;
use crate::args::certs::Rotate;
use crate::config::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// How often it is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Serialize)]
struct Renewed {
    context: String,
    names: Vec<String>,
    /// Who has not renewed its leaf yet.
    awaited: Vec<Party>,
}

#[derive(Debug, Serialize)]
struct Rotated {
    context: String,
    #[serde(flatten)]
    rotation: Rotation,
}

pub(crate) async fn rotate(run: &Run, args: &Rotate) -> Result<Exit, Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(Failure::said(Exit::Usage, "certs rotate", "several contexts: a CA is one cluster's")
            .hint("name it with --context"));
    };
    let wait = if args.no_wait { Duration::ZERO } else { Duration::from_secs(args.wait.into()) };
    match &args.leaf {
        Some(name) => leaves(run, context, name, wait).await,
        None => ca(run, context, args.abort, wait).await,
    }
}

async fn leaves(run: &Run, context: &Context, name: &str, wait: Duration) -> Result<Exit, Failure> {
    let mut admin = Admin::connect(context, run.timeout).await?;
    let names = if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
    let result = admin.api.rotate_leaves(v1::RotateLeavesRequest { names }).await;
    let names = admin.answer("RotateLeaves", result)?.names;
    let asked = Instant::now();
    let mut said = String::new();
    let awaited = loop {
        let awaited = match certificates(run, context).await {
            Ok(found) => found.leaves_awaited,
            Err(failure) if asked.elapsed() < wait => {
                say(&mut said, format!("{}, asking again", failure.one_line()));
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if awaited.is_empty() || asked.elapsed() >= wait {
            break awaited;
        }
        let parties: Vec<_> = awaited.iter().map(|one| one.party.as_str()).collect();
        say(&mut said, format!("waiting for {}", parties.join(", ")));
        tokio::time::sleep(ASK_EVERY).await;
    };
    let awaited = awaited.into_iter().map(Party::from).collect();
    let renewed = Renewed { context: context.name.clone(), names, awaited };
    run.output.data(&renewed, |renewed, _| {
        let word = if renewed.awaited.is_empty() { "renewed" } else { "asked for" };
        let mut text = format!("{}: {word} {}\n", renewed.context, renewed.names.join(", "));
        text.extend(renewed.awaited.iter().map(|Party { party, what }| format!("  ! {party} {what}\n")));
        text
    })?;
    let is_done = renewed.awaited.is_empty() || wait.is_zero();
    Ok(if is_done { Exit::Ok } else { Exit::Degraded })
}

async fn ca(run: &Run, context: &Context, abort: bool, wait: Duration) -> Result<Exit, Failure> {
    let mut admin = Admin::connect(context, run.timeout).await?;
    let begun = if abort {
        let result = admin.api.abort_ca_rotation(v1::AbortCaRotationRequest {}).await;
        admin.answer("AbortCaRotation", result)?.rotation
    } else {
        warn_of_tokens(run, context).await?;
        let result = admin.api.rotate_ca(v1::RotateCaRequest {}).await;
        admin.answer("RotateCa", result)?.rotation
    };
    let begun = begun.unwrap_or_default();
    let wanted = if abort { "aborted" } else { "done" };
    let asked = Instant::now();
    let mut said = String::new();
    let mut rotation = Rotation::from(begun.clone());
    while !rotation.is_over && asked.elapsed() < wait {
        say(&mut said, progress(&rotation));
        tokio::time::sleep(ASK_EVERY).await;
        match certificates(run, context).await {
            Ok(found) => {
                // Another one that was begun since then is not this one.
                let same = found.rotation.filter(|now| now.new_ca == begun.new_ca);
                rotation = same.map_or(rotation, Rotation::from);
            }
            Err(failure) => say(&mut said, format!("{}, asking again", failure.one_line())),
        }
    }
    let is_over = rotation.is_over;
    let is_wanted = rotation.stage == wanted;
    let rotated = Rotated { context: context.name.clone(), rotation };
    run.output.data(&rotated, |rotated, _| text(rotated))?;
    if is_over && is_wanted && !abort {
        output::note(
            "copies of admin.crt, admin.key and ca.crt of the state folder have to be made again, and so have leaves that \
             were signed by hand (users of the store, local-<cluster>)",
        );
    }
    Ok(match (is_over, is_wanted) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Failed,
        (false, _) if wait.is_zero() => Exit::Ok,
        (false, _) => Exit::Degraded,
    })
}

async fn warn_of_tokens(run: &Run, context: &Context) -> Result<(), Failure> {
    let open = certificates(run, context).await?.open_tokens;
    if open > 0 {
        output::note(format!(
            "{open} unused tokens name the CA in use: they are refused once leaves are of the new one (`meshctl token list`)"
        ));
    }
    Ok(())
}

/// Each time over a connection of its own: a replica may restart, and leaves change meanwhile.
async fn certificates(run: &Run, context: &Context) -> Result<v1::GetCertificatesResponse, Failure> {
    let mut admin = Admin::connect(context, run.timeout).await?;
    let result = admin.api.get_certificates(v1::GetCertificatesRequest {}).await;
    admin.answer("GetCertificates", result)
}

fn progress(rotation: &Rotation) -> String {
    let waits: Vec<_> = rotation.awaited.iter().map(|one| format!("{} {}", one.party, one.what)).collect();
    let waits = if waits.is_empty() { String::new() } else { format!(", waiting: {}", waits.join("; ")) };
    format!("{}{waits}", rotation.stage)
}

/// A line to the person, once.
fn say(said: &mut String, line: String) {
    if *said != line {
        output::note(&line);
        *said = line;
    }
}

fn text(rotated: &Rotated) -> String {
    let Rotated { context, rotation } = rotated;
    let (old, new) = (short(&rotation.old_ca), short(&rotation.new_ca));
    let mut text = match rotation.stage.as_str() {
        "done" => format!("{context}: CA {new} is in use, {old} is trusted no more\n"),
        "aborted" => format!("{context}: CA {old} stays in use, {new} is trusted no more\n"),
        stage => format!("{context}: at stage {stage}, CA {old} -> {new}; it goes on by itself\n"),
    };
    text.extend(rotation.awaited.iter().map(|Party { party, what }| format!("  ! waits: {party} {what}\n")));
    text
}
