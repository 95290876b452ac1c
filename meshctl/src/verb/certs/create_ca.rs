//! `meshctl certs create-ca`: the CA of a cluster before its first start, for whoever hands it to several replicas.

use certs::CaFolder;
use mesh_types::ClusterName;
use serde::Serialize;

use crate::args::certs::CreateCa;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Output};

#[derive(Debug, Serialize)]
struct Created {
    cluster: String,
    uuid: String,
    folder: String,
}

pub(crate) fn create_ca(output: Output, args: &CreateCa) -> Result<Exit, Failure> {
    let folder = args.out.display().to_string();
    let cluster = ClusterName::new(args.cluster.clone())
        .map_err(|error| Failure::new(Exit::Usage, format!("cluster {:?}", args.cluster), &error))?;
    if args.out.exists() {
        return Err(Failure::said(Exit::Conflict, folder, "it exists already; nothing was changed")
            .hint("a cluster's CA is made once: name a folder that is not there yet"));
    }
    let (_, cas) = CaFolder::open(&args.out, &cluster).map_err(|error| Failure::new(Exit::Failed, &folder, &error))?;
    let created = Created { cluster: cluster.to_string(), uuid: cas.current.uuid().to_string(), folder };
    output.data(&created, |c, _colour| {
        format!("{}/ca.crt and ca.key: the CA of {} (uuid {})\n", c.folder, c.cluster, c.uuid)
    })?;
    output::note(
        "ca.key signs everything of this cluster: hand it over (a Secret, --ca-seed-dir), then delete it here",
    );
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn a_ca_is_made_once_and_belongs_to_its_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let args = CreateCa { cluster: "east".to_owned(), out: folder.path().join("ca") };
        let output = Output::new(Format::Json, true);
        assert_eq!(create_ca(output, &args).unwrap(), Exit::Ok);
        let (_, made) = CaFolder::open(&args.out, &ClusterName::new("east").unwrap()).unwrap();
        assert_eq!(create_ca(output, &args).unwrap_err().exit, Exit::Conflict);
        let (_, now) = CaFolder::open(&args.out, &ClusterName::new("east").unwrap()).unwrap();
        assert_eq!(now.current.hash(), made.current.hash());
        let wrong = CreateCa { cluster: "Not Good".to_owned(), out: folder.path().join("x") };
        assert_eq!(create_ca(output, &wrong).unwrap_err().exit, Exit::Usage);
    }
}
