//! The release in a cluster: `meshctl install`, `upgrade`, `uninstall`. Helm does them, with the chart that is built into this
//! program; this owns what comes before and after: the namespace, the prefixes of Services, waiting, what is left over.
//!
//! Helm's templates are rendered by Helm alone: nothing else renders them the same. Where there is no Helm this refuses, and
//! takes what Helm rendered elsewhere (`--manifests`).

mod chart;
mod helm;
mod install;
mod manifests;
mod uninstall;
mod wait;

pub(crate) use install::{install, upgrade};
pub(crate) use uninstall::uninstall;

use crate::app::Run;
use crate::config::Address;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::{Access, Cluster};

/// Where the chart takes images from by default.
pub(crate) const REGISTRY: &str = "ghcr.io/isthmus-mesh";

/// An image of this release, by the chart's defaults.
pub(crate) fn image(name: &str) -> String {
    format!("{REGISTRY}/{name}:{}", env!("CARGO_PKG_VERSION"))
}

/// The one cluster that is asked, which must be one of Kubernetes.
async fn only(run: &Run) -> Result<(Access, Cluster), Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(
            Failure::said(Exit::Usage, "arguments", "several clusters are meant").hint("name one: --context NAME")
        );
    };
    let Some(Address::Kubernetes(access)) = context.addresses.first() else {
        return Err(Failure::said(Exit::Usage, &context.name, "it is no context of a kubeconfig")
            .hint("the chart is for Kubernetes; docs/ARCHITECTURE.md has the other ways to run it"));
    };
    let cluster = Cluster::open(access, run.timeout).await.map_err(|error| error.failure(&context.name))?;
    Ok((access.clone(), cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_those_of_the_charts_defaults() {
        let chart = |file: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/isthmus").join(file);
            std::fs::read_to_string(path).unwrap()
        };
        assert!(chart("values.yaml").contains(&format!("registry: {REGISTRY}\n")));
        assert!(chart("Chart.yaml").contains(&format!("appVersion: {}\n", env!("CARGO_PKG_VERSION"))));
    }
}
