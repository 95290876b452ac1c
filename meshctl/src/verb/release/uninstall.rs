//! Taking a release out: Helm deletes it and cleans the nodes; what is not the chart's own goes after it, and data only when
//! that was asked for.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, ListParams};
use mesh_proto::v1;

use super::helm::{Action, Helm, Options};
use super::only;
use crate::admin::Admin;
use crate::app::Run;
use crate::args::kubernetes::Uninstall;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::release::LOOK_AGAIN;
use crate::kubernetes::{Cluster, Error, Release};
use crate::output;

/// What [`crate::kubernetes::account`] makes.
const OURS: &str = "app.kubernetes.io/component=meshctl,app.kubernetes.io/managed-by=meshctl";

/// How long a namespace may take to end.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) async fn uninstall(run: &Run, args: &Uninstall) -> Result<Exit, Failure> {
    let (access, cluster) = only(run).await?;
    let failed = |error: &Error| error.failure(&cluster.context);
    let release = Release::find(&cluster).await.map_err(|error| failed(&error))?;
    let helm = Helm::find()?;
    joined(run, args).await?;
    let options = Options {
        access: &access,
        release: &release.instance,
        namespace: &release.namespace,
        values: &[],
        set: &[],
        is_dry: args.dry_run,
    };
    helm.run(Action::Uninstall, &options).await?;
    if args.dry_run {
        output::note("nothing was changed: this was a dry run");
        return Ok(Exit::Ok);
    }
    accounts(&cluster, &release).await.map_err(|error| failed(&error))?;
    if args.delete_state {
        state(&cluster, &release).await.map_err(|error| failed(&error))?;
    } else {
        output::note(format!(
            "namespace {} and the volumes in it stay, with the CA and the state; --delete-state removes them",
            release.namespace
        ));
    }
    Ok(Exit::Ok)
}

/// Other clusters would wait for one that is gone.
async fn joined(run: &Run, args: &Uninstall) -> Result<(), Failure> {
    let [context] = run.asked.as_slice() else { return Ok(()) };
    let peers = async {
        let mut admin = Box::pin(Admin::connect(context, run.timeout)).await?;
        let result = admin.api.list_peers(v1::ListPeersRequest {}).await;
        admin.answer("ListPeers", result)
    };
    match peers.await {
        Ok(list) if !list.peers.is_empty() && !args.force && !args.dry_run => {
            let names: Vec<_> = list.peers.iter().map(|peer| peer.name.as_str()).collect();
            Err(Failure::said(Exit::Conflict, &context.name, format!("it is joined to {}", names.join(", ")))
                .hint(format!("meshctl disconnect {} {}, or --force to leave them waiting", context.name, names[0])))
        }
        // One that cannot be asked is to be removed all the more.
        _ => Ok(()),
    }
}

async fn accounts(cluster: &Cluster, release: &Release) -> Result<(), Error> {
    let ours = ListParams::default().labels(&format!("{OURS},app.kubernetes.io/instance={}", release.instance));
    let now = DeleteParams::default();
    let client = || cluster.client.clone();
    let accounts = Api::<ServiceAccount>::namespaced(client(), &release.namespace);
    cluster.ask("deletecollection", "serviceaccounts", accounts.delete_collection(&now, &ours)).await?;
    let bindings = Api::<ClusterRoleBinding>::all(client());
    cluster
        .ask(
            "deletecollection",
            "clusterrolebindings.rbac.authorization.k8s.io",
            bindings.delete_collection(&now, &ours),
        )
        .await?;
    let roles = Api::<ClusterRole>::all(client());
    cluster
        .ask("deletecollection", "clusterroles.rbac.authorization.k8s.io", roles.delete_collection(&now, &ours))
        .await?;
    Ok(())
}

async fn state(cluster: &Cluster, release: &Release) -> Result<(), Error> {
    let volumes = Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), &release.namespace);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", release.instance));
    let now = DeleteParams::default();
    cluster.ask("deletecollection", "persistentvolumeclaims", volumes.delete_collection(&now, &ours)).await?;
    let spaces = Api::<Namespace>::all(cluster.client.clone());
    cluster.ask("delete", "namespaces", spaces.delete(&release.namespace, &now)).await?;
    gone(cluster, &spaces, &release.namespace).await
}

/// Until the namespace is: an install in one that is still ending would be refused.
async fn gone(cluster: &Cluster, spaces: &Api<Namespace>, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cluster.ask("get", "namespaces", spaces.get(name)).await {
            Err(error) if error.is_absent() => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) if Instant::now() > deadline => {
                output::note(format!(
                    "namespace {name} is still ending: `kubectl get namespace {name} -o yaml` says what it waits for"
                ));
                return Ok(());
            }
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
