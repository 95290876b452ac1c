//! `meshctl status`: is the mesh well, and if not, what is not.

mod problems;
mod render;
mod report;

use jiff::Timestamp;
use mesh_proto::v1;
use serde::Serialize;

use self::report::ClusterReport;
use crate::app::Run;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;

/// All that the verb shows.
#[derive(Debug, Serialize)]
struct Status {
    clusters: Vec<ClusterReport>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Unreachable {
    context: String,
    error: String,
}

/// What is not well in a status: object and text of each.
pub(crate) fn problems(context: &str, status: v1::GetStatusResponse) -> Vec<(String, String)> {
    let report = ClusterReport::new(context, status, Timestamp::now());
    report.problems.into_iter().map(|problem| (problem.object, problem.problem)).collect()
}

/// A status as the verb's own JSON has it.
pub(crate) fn json(context: &str, status: v1::GetStatusResponse) -> serde_json::Value {
    let report = ClusterReport::new(context, status, Timestamp::now());
    serde_json::to_value(report).unwrap_or_else(|error| error.to_string().into())
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.api.get_status(v1::GetStatusRequest {}).await;
        admin.answer("GetStatus", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let now = Timestamp::now();
    let unreachable = answers.failures.iter().map(|f| Unreachable { context: f.object.clone(), error: f.one_line() });
    let status = Status {
        unreachable: unreachable.collect(),
        clusters: answers.answers.into_iter().map(|(context, s)| ClusterReport::new(&context, s, now)).collect(),
    };
    run.output.data(&status, |status, colour| {
        let texts: Vec<_> = status.clusters.iter().map(|c| render::cluster(c, now, colour)).collect();
        texts.join("\n")
    })?;
    let well = status.clusters.iter().all(|c| c.problems.is_empty());
    Ok(if well { exit } else { exit.max(Exit::Degraded) })
}
