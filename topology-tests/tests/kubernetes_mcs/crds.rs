//! The MCS API's own CRDs, applied and served.

use anyhow::{Context as _, Result};
use topology_tests::deadline::wait_for;
use topology_tests::kubernetes::kubectl::Kubectl;
use topology_tests::kubernetes::mcs_api;

use crate::world::SEEN;

/// Applies them, and waits until the API server serves what they define.
pub(crate) fn install(kubectl: &Kubectl) -> Result<()> {
    for file in mcs_api::definitions()? {
        kubectl.apply(&std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?)?;
    }
    for resource in ["serviceexports", "serviceimports"] {
        let resource = format!("{resource}.v1beta1.multicluster.x-k8s.io");
        wait_for(&format!("{resource} to be served"), SEEN, || kubectl.run(&["get", &resource, "-A"]).map(Some))?;
    }
    Ok(())
}
