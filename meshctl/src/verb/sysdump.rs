//! `meshctl sysdump`: what somebody else needs to find out what is wrong, in one file, of each cluster that is asked. Reads
//! only. No secret goes into the file, and values of Secrets are not even read.

mod archive;
mod gather;
mod scrub;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use self::archive::Archive;
use self::gather::Folder;
use crate::app::Run;
use crate::args::kubernetes::Sysdump;
use crate::config::Address;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    files: usize,
    bytes: u64,
    /// What could not be had, and why.
    missing: Vec<String>,
}

pub(crate) async fn run(run: &Run, args: &Sysdump) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    let root = format!("isthmus-sysdump-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{root}.tar.gz")));
    let failed = |error: &std::io::Error| Failure::new(Exit::Failed, path.display().to_string(), error);
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let mut archive = Archive::create(&path, &root, seconds).map_err(|error| failed(&error))?;
    let mut missing = Vec::new();
    for context in &run.asked {
        let Some(Address::Kubernetes(access)) = context.addresses.first() else {
            missing.push(format!("{}: it is no context of a kubeconfig", context.name));
            continue;
        };
        let mut folder = Folder { archive: &mut archive, context: &context.name, missing: Vec::new() };
        let filled = Box::pin(folder.fill(run, args, context, access)).await;
        missing.extend(folder.missing.into_iter().map(|what| format!("{}: {what}", context.name)));
        filled.map_err(|error| failed(&error))?;
    }
    let about = serde_json::json!({
        "meshctl": env!("CARGO_PKG_VERSION"), "at": now.to_string(), "missing": missing,
        "contexts": run.asked.iter().map(|context| context.name.as_str()).collect::<Vec<_>>(),
    });
    archive.json("about.json", about).map_err(|error| failed(&error))?;
    let files = archive.files;
    let file = archive.finish().map_err(|error| failed(&error))?;
    let bytes = std::fs::metadata(&file).map_err(|error| failed(&error))?.len();
    let written = Written { file, files, bytes, missing };
    run.output.data(&written, |written, _colour| {
        let mut text = format!("{}: {} files, {} bytes\n", written.file.display(), written.files, written.bytes);
        for what in &written.missing {
            let line = format!("  not in it: {what}\n");
            text.push_str(&line);
        }
        text
    })?;
    output::note(
        "names, addresses and logs of your clusters are in it; keys, tokens and passwords were taken out: look before you send it",
    );
    Ok(if written.missing.is_empty() { Exit::Ok } else { Exit::Degraded })
}
