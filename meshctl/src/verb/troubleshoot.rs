//! `meshctl troubleshoot`: the way to joined clusters, walked by each asked cluster's server from where it stands.

use std::time::Duration;

use mesh_proto::v1;
use serde::Serialize;

use crate::app::Run;
use crate::args::Troubleshoot;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Cell, Table, Tone};
use crate::{ask, output};

/// Names, connections and handshakes take up to 3 s each, reads 5 s: an answer about a lost peer takes longer than others.
const AT_LEAST: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Pass,
    Warn,
    Fail,
    NotReached,
}

/// One step, as a cluster went it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Step {
    context: String,
    peer: String,
    /// Empty for a step that is about no endpoint.
    endpoint: String,
    #[serde(rename = "step")]
    name: String,
    result: Outcome,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
}

pub(crate) async fn run(run: &Run, args: &Troubleshoot) -> Result<Exit, Failure> {
    let request = v1::TroubleshootRequest { peer_name: args.peer.clone() };
    let answers = ask::all(&run.asked, run.timeout.max(AT_LEAST), move |mut admin| {
        let request = request.clone();
        async move {
            let result = admin.api.troubleshoot(request).await;
            admin.answer("Troubleshoot", result)
        }
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let steps: Vec<Step> = answers.answers.into_iter().flat_map(|(context, answer)| steps(&context, answer)).collect();
    let several = run.several();
    run.output.data(&steps, |steps, colour| {
        let table = table(steps, args.all);
        if several { table.render(colour) } else { table.without("SEEN BY").render(colour) }
    })?;
    output::note(conclusion(&steps));
    let is_well = steps.iter().all(|step| matches!(step.result, Outcome::Pass | Outcome::Warn));
    Ok(if is_well { exit } else { exit.max(Exit::Degraded) })
}

fn steps(context: &str, answer: v1::TroubleshootResponse) -> Vec<Step> {
    let of_walk = |walk: v1::PeerWalk| {
        let peer = walk.peer_name;
        walk.steps.into_iter().map(move |step| Step {
            context: context.to_owned(),
            peer: peer.clone(),
            result: match step.result() {
                v1::WalkResult::Pass => Outcome::Pass,
                v1::WalkResult::Warn => Outcome::Warn,
                v1::WalkResult::Fail => Outcome::Fail,
                v1::WalkResult::NotReached => Outcome::NotReached,
            },
            endpoint: step.endpoint,
            name: step.step,
            text: step.text,
        })
    };
    answer.walks.into_iter().flat_map(of_walk).collect()
}

/// The first step that failed of each way is where it stops.
fn conclusion(steps: &[Step]) -> String {
    if steps.is_empty() {
        return "no cluster is joined; `meshctl connect A B` joins two".to_owned();
    }
    let failed = steps.iter().filter(|step| step.result == Outcome::Fail);
    let stops: Vec<String> = failed
        .map(|step| match step.endpoint.as_str() {
            "" => format!("{} at {}", step.peer, step.name),
            endpoint => format!("{} at {} ({endpoint})", step.peer, step.name),
        })
        .collect();
    if stops.is_empty() {
        return "every step passed; --all shows them".to_owned();
    }
    format!("faults: {}", stops.join(", "))
}

/// The steps that say something; with `all` every one.
fn table(steps: &[Step], all: bool) -> Table {
    let mut table = Table::new(["SEEN BY", "PEER", "ENDPOINT", "STEP", "RESULT", "WHAT"]);
    let shown = |step: &&Step| all || matches!(step.result, Outcome::Warn | Outcome::Fail);
    for step in steps.iter().filter(shown) {
        let result = match step.result {
            Outcome::Pass => Cell::toned("pass", Tone::Plain),
            Outcome::Warn => Cell::toned("warn", Tone::Warn),
            Outcome::Fail => Cell::toned("FAIL", Tone::Bad),
            Outcome::NotReached => Cell::toned("not reached", Tone::Plain),
        };
        table.row([
            step.context.as_str().into(),
            step.peer.as_str().into(),
            step.endpoint.as_str().into(),
            step.name.as_str().into(),
            result,
            step.text.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(step: &str, endpoint: &str, result: v1::WalkResult, text: &str) -> v1::WalkStep {
        v1::WalkStep { step: step.into(), endpoint: endpoint.into(), result: result.into(), text: text.into() }
    }

    #[test]
    fn where_a_way_stops_is_said_and_what_was_not_reached_is_not_passed() {
        use v1::WalkResult::{Fail, NotReached, Pass};
        let walk = v1::PeerWalk {
            peer_name: "west".into(),
            steps: vec![
                message("record", "", Pass, "west (id 2) has 1 endpoints"),
                message("resolve", "w:2379", Pass, "is 192.0.2.1:2379"),
                message("connect", "w:2379", Fail, "does not take connections"),
                message("tls", "w:2379", NotReached, ""),
            ],
        };
        let steps = steps("east", v1::TroubleshootResponse { walks: vec![walk] });
        assert_eq!(conclusion(&steps), "faults: west at connect (w:2379)");
        assert_eq!(
            table(&steps, false).render(false),
            "SEEN BY  PEER  ENDPOINT  STEP     RESULT  WHAT\n\
             east     west  w:2379    connect  FAIL    does not take connections\n"
        );
        assert!(table(&steps, true).render(false).contains("tls      not reached"));
        assert_eq!(conclusion(&steps[..2]), "every step passed; --all shows them");
        let json = serde_json::to_value(&steps[3]).unwrap();
        assert_eq!(json["result"], "not_reached");
    }
}
