//! The part of the command line that says what this server trusts to its cluster's Kubernetes beside objects.

use clap::Args;
use mesh_runtime::Mistakes;

use crate::kubernetes::{NamespacedName, is_label};

#[derive(Debug, Args)]
pub(super) struct KubernetesArgs {
    /// With --source kubernetes: the Secret of the cluster's CA, for all replicas; made if absent. In the place of --ca-dir
    #[arg(long, env = "ISTHMUS_KUBERNETES_CA_SECRET", value_name = "NAMESPACE/NAME")]
    kubernetes_ca_secret: Option<String>,
    /// With --source kubernetes: the ConfigMap from which agents learn the cluster's CAs; made if absent
    #[arg(long, env = "ISTHMUS_KUBERNETES_TRUST_CONFIGMAP", value_name = "NAMESPACE/NAME")]
    kubernetes_trust_configmap: Option<String>,
    /// With --source kubernetes: the ServiceAccount of the agents' pods, which enrol by its token. Default: by tokens of
    /// meshctl alone
    #[arg(long, env = "ISTHMUS_AGENT_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME")]
    agent_service_account: Option<String>,
    /// With --source kubernetes: ClusterPeerings and the MeshConfig count, and the Secrets that they name are in this namespace.
    /// Default: such objects are not looked at
    #[arg(long, env = "ISTHMUS_OBJECTS_NAMESPACE", value_name = "NAMESPACE")]
    objects_namespace: Option<String>,
    /// With --source kubernetes: make the objects of the MCS API (ServiceImports, their Services and endpoint slices,
    /// conditions of ServiceExports)
    #[arg(long, env = "ISTHMUS_MCS_API")]
    mcs_api: bool,
}

/// What is where. Each is `None` where it was not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubernetesChoices {
    pub ca_secret: Option<NamespacedName>,
    pub trust_configmap: Option<NamespacedName>,
    pub agent_account: Option<NamespacedName>,
    /// Of the Secrets that the mesh's own objects name.
    pub objects_namespace: Option<String>,
    /// The objects of the MCS API are made.
    pub mcs_api: bool,
}

impl KubernetesArgs {
    /// `is_source`: objects come from an API server, which these are of, too.
    pub(super) fn check(self, mistakes: &mut Mistakes, is_source: bool) -> KubernetesChoices {
        let objects_namespace = self.objects_namespace.filter(|text| !text.is_empty());
        if let Some(text) = &objects_namespace {
            if !is_source {
                mistakes.add("--objects-namespace", "goes with --source kubernetes only");
            }
            if !is_label(text) {
                mistakes.add("--objects-namespace", format!("{text:?} is not the name of a namespace"));
            }
        }
        if self.mcs_api && !is_source {
            mistakes.add("--mcs-api", "goes with --source kubernetes only");
        }
        let mut read = |flag: &str, text: Option<String>| {
            // An empty variable of the environment is none.
            let text = text.filter(|text| !text.is_empty())?;
            if !is_source {
                mistakes.add(flag, "goes with --source kubernetes only");
            }
            mistakes.check(flag, text.parse())
        };
        KubernetesChoices {
            objects_namespace,
            ca_secret: read("--kubernetes-ca-secret", self.kubernetes_ca_secret),
            trust_configmap: read("--kubernetes-trust-configmap", self.kubernetes_trust_configmap),
            agent_account: read("--agent-service-account", self.agent_service_account),
            mcs_api: self.mcs_api,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        kubernetes: KubernetesArgs,
    }

    #[test]
    fn objects_need_the_name_of_a_namespace_and_an_api_server() {
        let check = |is_source| {
            let line = Line::try_parse_from(["program", "--objects-namespace=a/b"]).expect("known flags");
            let mut mistakes = Mistakes::default();
            line.kubernetes.check(&mut mistakes, is_source);
            mistakes.finish().unwrap_err().to_string()
        };
        assert!(check(true).contains("--objects-namespace: \"a/b\" is not the name of a namespace"));
        assert!(check(false).contains("--objects-namespace: goes with --source kubernetes only"));
    }

    const FLAGS: [&str; 3] = ["--kubernetes-ca-secret", "--kubernetes-trust-configmap", "--agent-service-account"];

    fn check(value: &str, is_source: bool) -> Result<KubernetesChoices, String> {
        let flags = FLAGS.iter().map(|flag| format!("{flag}={value}"));
        let line = Line::try_parse_from(std::iter::once("program".to_owned()).chain(flags)).expect("known flags");
        let mut mistakes = Mistakes::default();
        let choices = line.kubernetes.check(&mut mistakes, is_source);
        mistakes.finish().map(|()| choices).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn names_have_a_namespace_and_go_with_the_kubernetes_source() {
        let choices = check("mesh/it", true).unwrap();
        assert_eq!(choices.ca_secret.unwrap().to_string(), "mesh/it");
        assert_eq!(choices.agent_account.unwrap().account_user(), "system:serviceaccount:mesh:it");
        assert_eq!(check("", false).unwrap(), KubernetesChoices::default());
        let line = Line::try_parse_from(["program", "--mcs-api"]).expect("known flags");
        let mut mistakes = Mistakes::default();
        assert!(line.kubernetes.check(&mut mistakes, false).mcs_api);
        assert!(mistakes.finish().unwrap_err().to_string().contains("--mcs-api: goes with --source kubernetes only"));
        let text = check("it", false).unwrap_err();
        for flag in FLAGS {
            assert!(text.contains(&format!("{flag}: goes with --source kubernetes only")), "{text}");
            assert!(text.contains(&format!("{flag}: \"it\" is not NAMESPACE/NAME")), "{text}");
        }
    }
}
