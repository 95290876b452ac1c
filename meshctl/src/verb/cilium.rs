//! `meshctl cilium config`: the folder from which Cilium learns which clusters to follow, where, and as whom.
//!
//! A file is replaced as a whole: Cilium takes one that is written over for a cluster's removal, and holds the new one back
//! for minutes. The key is made here and stays here; the API server signs a request for it.

mod files;

use std::collections::BTreeSet;
use std::path::Path;

use certs::{Leaf, PendingLeaf};
use jiff::Timestamp;
use mesh_proto::v1;
use mesh_runtime::file;
use serde::Serialize;

use self::files::{Written, entry, is_ours};
use crate::admin::Admin;
use crate::age;
use crate::app::Run;
use crate::args::{CiliumConfig, Reader};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::table::Table;

/// The names that Cilium's chart has for them.
const LOCAL_CA: &str = "local-etcd-client-ca.crt";
const LOCAL_CERT: &str = "local-etcd-client.crt";
const LOCAL_KEY: &str = "local-etcd-client.key";
const COMMON_CERT: &str = "common-etcd-client.crt";
const COMMON_KEY: &str = "common-etcd-client.key";

#[derive(Debug, Serialize)]
struct Folder {
    cluster: String,
    files: Vec<Written>,
    /// When the certificate in it ends; none is written for another cluster's Cilium.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

pub(crate) async fn config(run: &Run, args: &CiliumConfig) -> Result<Exit, Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(Failure::said(Exit::Usage, "cilium config", "several contexts: a folder is for one cluster")
            .hint("name it with --context"));
    };
    let mut admin = Admin::connect(context, run.timeout).await?;
    let result = admin.api.get_declaration(v1::GetDeclarationRequest {}).await;
    let own = admin.answer("GetDeclaration", result)?;
    std::fs::create_dir_all(&args.out).map_err(|e| Failure::new(Exit::Failed, shown(&args.out), &e))?;
    let folder = match args.reader {
        Reader::Local => local(&mut admin, &own, args).await?,
        Reader::Remote => remote(&own, args)?,
    };
    run.output.data(&folder, table)?;
    match args.reader {
        Reader::Local => output::note(format!(
            "next: mount {} at {} of Cilium's agents and operator; run the same again before the certificate ends, and \
             whenever clusters are joined or parted",
            args.out.display(),
            args.mounted_at.display()
        )),
        Reader::Remote => output::note(format!(
            "next: put these files beside {COMMON_CERT} and {COMMON_KEY} of the other cluster, and join it here, so that \
             its certificate is known: `meshctl connect {} --cilium FILE`",
            own.name
        )),
    }
    Ok(Exit::Ok)
}

/// A file for each peer, all of which are read from here.
async fn local(admin: &mut Admin, own: &v1::ClusterDeclaration, args: &CiliumConfig) -> Result<Folder, Failure> {
    let result = admin.api.list_peers(v1::ListPeersRequest {}).await;
    let peers = admin.answer("ListPeers", result)?.peers;
    let pending = pending(args, &own.name)?;
    let request = v1::IssueLocalRequest { csr_pem: pending.csr_pem().to_owned() };
    let result = admin.api.issue_local(request).await;
    let answer = admin.answer("IssueLocal", result)?;
    let leaf = pending
        .complete(&answer.certificate_pem)
        .map_err(|e| Failure::new(Exit::Failed, format!("{}: the certificate it sent", admin.context), &e))?;
    let (cert, key) = (args.out.join(LOCAL_CERT), args.out.join(LOCAL_KEY));
    leaf.save(&cert, &key).map_err(|e| Failure::new(Exit::Failed, shown(&args.out), &e))?;
    let mut files = vec![write(args, LOCAL_CA, &answer.trust_bundle_pem, "CAs of the API server")?];
    files.push(Written::new(LOCAL_CERT, &format!("certificate local-{}", own.name)));
    files.push(Written::new(LOCAL_KEY, "its key"));
    for peer in &peers {
        let text = entry(own, &args.mounted_at, [LOCAL_CA, LOCAL_CERT, LOCAL_KEY]).map_err(unusable(own))?;
        files.push(write(args, &peer.name, &text, "how to follow this cluster")?);
    }
    let kept: BTreeSet<&str> = files.iter().map(|written| written.file.as_str()).collect();
    let gone = remove_former(&args.out, &kept)?;
    files.extend(gone);
    Ok(Folder { cluster: own.name.clone(), files, expires: age::timestamp(answer.expires_unix_nanos) })
}

/// One file: how to follow this cluster with a certificate that the other one has already.
fn remote(own: &v1::ClusterDeclaration, args: &CiliumConfig) -> Result<Folder, Failure> {
    let ca = format!("{}.etcd-client-ca.crt", own.name);
    let text = entry(own, &args.mounted_at, [&ca, COMMON_CERT, COMMON_KEY]).map_err(unusable(own))?;
    let files = vec![
        write(args, &ca, &own.trust_bundle_pem, "CAs of the API server")?,
        write(args, &own.name, &text, "how to follow this cluster")?,
    ];
    Ok(Folder { cluster: own.name.clone(), files, expires: None })
}

/// A request for the key that is there already, so that the pair on disk is never one of two keys.
fn pending(args: &CiliumConfig, cluster: &str) -> Result<PendingLeaf, Failure> {
    let hint = format!("local-{cluster}");
    let (cert, key) = (args.out.join(LOCAL_CERT), args.out.join(LOCAL_KEY));
    let made = match Leaf::load(&cert, &key) {
        Ok(leaf) => PendingLeaf::for_key(leaf.key().clone(), &hint),
        Err(_none_or_unusable) => PendingLeaf::generate(&hint),
    };
    made.map_err(|e| Failure::new(Exit::Failed, "a new key", &e))
}

fn write(args: &CiliumConfig, name: &str, text: &str, what: &str) -> Result<Written, Failure> {
    let path = args.out.join(name);
    if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(Written::unchanged(name, what));
    }
    file::write_atomic(&path, text.as_bytes(), 0o644).map_err(|e| Failure::new(Exit::Failed, shown(&path), &e))?;
    Ok(Written::new(name, what))
}

/// Files of clusters that are no peers any more; only what this command wrote.
fn remove_former(dir: &Path, kept: &BTreeSet<&str>) -> Result<Vec<Written>, Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::new(Exit::Failed, shown(path), &e);
    let mut gone = Vec::new();
    for found in std::fs::read_dir(dir).map_err(|e| failed(dir, e))? {
        let path = found.map_err(|e| failed(dir, e))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !kept.contains(name) && std::fs::read_to_string(&path).is_ok_and(|text| is_ours(&text)) {
            std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
            gone.push(Written::removed(name));
        }
    }
    Ok(gone)
}

fn unusable(own: &v1::ClusterDeclaration) -> impl Fn(String) -> Failure {
    let name = own.name.clone();
    move |why| Failure::said(Exit::Failed, name.clone(), why).hint("start its API servers with --advertise-address")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn table(folder: &Folder, colour: bool) -> String {
    let mut table = Table::new(["FILE", "WHAT", "DONE"]);
    for file in &folder.files {
        table.row([file.file.as_str().into(), file.what.as_str().into(), file.done.into()]);
    }
    let text = table.render(colour);
    match folder.expires {
        Some(expires) => format!("{text}\nthe certificate ends at {expires}\n"),
        None => text,
    }
}
