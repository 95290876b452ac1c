//! The part of the command line that says where objects come from.

use std::path::PathBuf;

use clap::Args;
use mesh_runtime::Mistakes;

use crate::source::kubernetes;

/// Set in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Where objects come from: manifests (a folder), or kubernetes (an API server)
    #[arg(long, env = "ISTHMUS_SOURCE", default_value = "manifests")]
    source: String,
    /// Folder of Kubernetes manifests to watch
    #[arg(long, env = "ISTHMUS_MANIFESTS_DIR", default_value = "/etc/isthmus/manifests")]
    manifests_dir: PathBuf,
    /// With --source kubernetes: the file that says where the API server is and who asks. Default: what a pod is given
    #[arg(long, env = "ISTHMUS_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<String>,
    /// With --kubeconfig: the context to use. Default: its current one
    #[arg(long, env = "ISTHMUS_KUBE_CONTEXT", value_name = "NAME")]
    kube_context: Option<String>,
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceChoice {
    Manifests(PathBuf),
    Kubernetes(kubernetes::Options),
}

impl SourceArgs {
    pub(super) fn check(self, mistakes: &mut Mistakes) -> Option<SourceChoice> {
        let is_in_a_pod = std::env::var_os(IN_A_POD).is_some();
        self.check_in(mistakes, is_in_a_pod)
    }

    fn check_in(self, mistakes: &mut Mistakes, is_in_a_pod: bool) -> Option<SourceChoice> {
        // An empty variable of the environment is none.
        let kubeconfig = self.kubeconfig.filter(|path| !path.is_empty()).map(PathBuf::from);
        let context = self.kube_context.filter(|name| !name.is_empty());
        match self.source.as_str() {
            "manifests" => {
                for (flag, is_given) in [("--kubeconfig", kubeconfig.is_some()), ("--kube-context", context.is_some())]
                {
                    if is_given {
                        mistakes.add(flag, "goes with --source kubernetes only");
                    }
                }
                Some(SourceChoice::Manifests(self.manifests_dir))
            }
            "kubernetes" => {
                if kubeconfig.is_none() && context.is_some() {
                    mistakes.add("--kube-context", "names a context of --kubeconfig, which is missing");
                }
                if kubeconfig.is_none() && !is_in_a_pod {
                    mistakes.add(
                        "--kubeconfig",
                        "is missing: this is no pod, so nothing else says where the API server is",
                    );
                }
                Some(SourceChoice::Kubernetes(kubernetes::Options { kubeconfig, context }))
            }
            other => {
                mistakes.add("--source", format!("{other:?} is unknown: use manifests or kubernetes"));
                None
            }
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
        source: SourceArgs,
    }

    fn check(flags: &[&str], is_in_a_pod: bool) -> Result<SourceChoice, String> {
        let line = Line::try_parse_from([&["program"], flags].concat()).expect("known flags");
        let mut mistakes = Mistakes::default();
        let choice = line.source.check_in(&mut mistakes, is_in_a_pod);
        mistakes.finish().map_err(|mistakes| mistakes.to_string())?;
        Ok(choice.expect("no mistakes"))
    }

    #[test]
    fn a_pod_needs_no_kubeconfig_and_others_do() {
        let none = SourceChoice::Kubernetes(kubernetes::Options::default());
        assert_eq!(check(&["--source=kubernetes", "--kubeconfig="], true).unwrap(), none);
        let text = check(&["--source=kubernetes"], false).unwrap_err();
        assert!(text.contains("--kubeconfig: is missing: this is no pod"), "{text}");
        let options = kubernetes::Options { kubeconfig: Some("/f".into()), context: Some("east".to_owned()) };
        let flags = ["--source=kubernetes", "--kubeconfig=/f", "--kube-context=east"];
        assert_eq!(check(&flags, false).unwrap(), SourceChoice::Kubernetes(options));
    }

    #[test]
    fn flags_of_the_other_source_are_mistakes() {
        assert_eq!(check(&[], true).unwrap(), SourceChoice::Manifests("/etc/isthmus/manifests".into()));
        let text = check(&["--kubeconfig=/f", "--kube-context=east"], false).unwrap_err();
        for flag in ["--kubeconfig", "--kube-context"] {
            assert!(text.contains(&format!("{flag}: goes with --source kubernetes only")), "{text}");
        }
        let text = check(&["--source=kubernetes", "--kube-context=east"], true).unwrap_err();
        assert!(text.contains("--kube-context: names a context of --kubeconfig, which is missing"), "{text}");
        let text = check(&["--source=kubectl"], true).unwrap_err();
        assert!(text.contains("--source: \"kubectl\" is unknown: use manifests or kubernetes"), "{text}");
    }
}
