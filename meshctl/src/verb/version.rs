//! `meshctl version`: this command's version, and that of every cluster that answers.

use mesh_proto::v1;
use serde::Serialize;

use crate::app::Run;
use crate::ask;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::Table;

#[derive(Debug, Serialize)]
struct Versions {
    client: Client,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Client {
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Server {
    context: String,
    cluster: String,
    cluster_id: u32,
    version: String,
    commit: String,
}

pub(crate) async fn run(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, async |mut admin| {
        let result = admin.api.get_version(v1::GetVersionRequest {}).await;
        admin.answer("GetVersion", result)
    })
    .await;
    run.report(&answers.failures);
    let exit = answers.exit();
    let servers = answers
        .answers
        .into_iter()
        .map(|(context, v)| Server {
            context,
            cluster: v.cluster,
            cluster_id: v.cluster_id,
            version: v.version,
            commit: v.commit,
        })
        .collect();
    let versions = Versions { client: Client { version: env!("CARGO_PKG_VERSION") }, servers };
    run.output.data(&versions, |versions, colour| {
        let mut table = Table::new(["WHO", "CLUSTER", "ID", "VERSION", "COMMIT"]);
        table.row(["meshctl".into(), "".into(), "".into(), versions.client.version.into(), "".into()]);
        for s in &versions.servers {
            table.row([
                s.context.as_str().into(),
                s.cluster.as_str().into(),
                s.cluster_id.to_string().into(),
                s.version.as_str().into(),
                s.commit.as_str().into(),
            ]);
        }
        table.render(colour)
    })?;
    Ok(exit)
}
