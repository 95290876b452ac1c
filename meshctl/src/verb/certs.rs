//! `meshctl certs`: when what expires, and how far a rotation is.

mod create_ca;
pub(crate) mod report;
mod rotate;

pub(crate) use create_ca::create_ca;
use jiff::Timestamp;
use mesh_proto::v1;
pub(crate) use rotate::rotate;

use self::report::{Report, render};
use crate::app::Run;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;

/// Certificates as the verb's own JSON has them.
pub(crate) fn json(context: &str, found: v1::GetCertificatesResponse) -> serde_json::Value {
    let report = Report::new(context, found, Timestamp::now());
    serde_json::to_value(report).unwrap_or_else(|error| error.to_string().into())
}

pub(crate) async fn status(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.api.get_certificates(v1::GetCertificatesRequest {}).await;
        admin.answer("GetCertificates", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let reports: Vec<Report> =
        answers.answers.into_iter().map(|(context, found)| Report::new(&context, found, Timestamp::now())).collect();
    let is_well = reports.iter().all(|report| report.problems.is_empty());
    run.output.data(&reports, |reports, colour| {
        reports.iter().map(|report| render(report, colour)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if is_well { exit } else { exit.max(Exit::Degraded) })
}
