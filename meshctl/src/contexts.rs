//! Which clusters a command is about: those of the configuration file, and the contexts of the kubeconfig beside them.
//!
//! A name is looked for in the file first, so that a file goes on to mean what it meant.

use std::path::PathBuf;

use crate::config::{Address, Config, Context};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::{Access, kubeconfig};

/// Both sources of names. What is wrong with the kubeconfig matters only when it is needed.
#[derive(Debug)]
pub(crate) struct Contexts {
    config: Option<Config>,
    kube: Result<kubeconfig::Contexts, Failure>,
    kubeconfig: Option<PathBuf>,
    namespace: Option<String>,
}

impl Contexts {
    pub(crate) fn new(config: Option<Config>, kubeconfig: Option<PathBuf>, namespace: Option<String>) -> Self {
        let kube = kubeconfig::contexts(kubeconfig.as_deref()).map_err(|error| error.failure("kubeconfig"));
        Self { config, kube, kubeconfig, namespace }
    }

    /// One cluster by its name.
    pub(crate) fn named(&self, name: &str) -> Result<Context, Failure> {
        if let Some(found) = self.of_file().iter().find(|context| context.name == name) {
            return Ok(found.clone());
        }
        let kube = self.kube.as_ref().map_err(Failure::clone)?;
        if kube.names.iter().any(|known| known == name) {
            return Ok(self.of_kubernetes(name));
        }
        let mut known: Vec<String> = Vec::new();
        if !self.of_file().is_empty() {
            let names: Vec<_> = self.of_file().iter().map(|context| context.name.as_str()).collect();
            known.push(format!("the configuration file has {}", names.join(", ")));
        }
        known.push(if kube.names.is_empty() {
            "no kubeconfig has any (KUBECONFIG, ~/.kube/config, --kubeconfig)".to_owned()
        } else {
            format!("the kubeconfig has {}", kube.names.join(", "))
        });
        Err(Failure::said(Exit::Usage, name, "no such context").hint(known.join("; ")))
    }

    /// All that there are; a name that both have is the file's.
    pub(crate) fn all(&self) -> Result<Vec<Context>, Failure> {
        let kube = self.kube.as_ref().map_err(Failure::clone)?;
        let mut all = self.of_file().to_vec();
        for name in &kube.names {
            if !all.iter().any(|known| known.name == *name) {
                all.push(self.of_kubernetes(name));
            }
        }
        if all.is_empty() { Err(self.none()) } else { Ok(all) }
    }

    /// Those that are meant where none is named: the file's, else the kubeconfig's current one.
    pub(crate) fn usual(&self) -> Result<Vec<Context>, Failure> {
        if !self.of_file().is_empty() {
            return Ok(self.of_file().to_vec());
        }
        let kube = self.kube.as_ref().map_err(Failure::clone)?;
        match &kube.current {
            Some(current) => Ok(vec![self.of_kubernetes(current)]),
            None => Err(self.none()),
        }
    }

    fn of_file(&self) -> &[Context] {
        self.config.as_ref().map(|config| config.contexts.as_slice()).unwrap_or_default()
    }

    fn of_kubernetes(&self, name: &str) -> Context {
        let access =
            Access { kubeconfig: self.kubeconfig.clone(), context: name.to_owned(), namespace: self.namespace.clone() };
        Context { name: name.to_owned(), addresses: vec![Address::Kubernetes(access)] }
    }

    fn none(&self) -> Failure {
        let text = match self.kube.as_ref().map(|kube| kube.names.as_slice()) {
            Ok([]) | Err(_) => "no cluster is known: there is neither a configuration file nor a kubeconfig",
            Ok(_) => "no cluster is named: the kubeconfig has no current-context, and there is no configuration file",
        };
        Failure::said(Exit::Config, "configuration", text).hint(
            "name a context of the kubeconfig with --context, or write ~/.config/isthmus/meshctl.toml; `meshctl --help` shows \
             how it looks",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn contexts(file: Option<&str>, kube: (&[&str], Option<&str>)) -> Contexts {
        let kube = kubeconfig::Contexts {
            names: kube.0.iter().map(|name| (*name).to_owned()).collect(),
            current: kube.1.map(str::to_owned),
        };
        let config = file.map(|text| config::parse(text, Path::new("/etc")).unwrap());
        Contexts { config, kube: Ok(kube), kubeconfig: None, namespace: Some("m".to_owned()) }
    }

    fn names(found: Result<Vec<Context>, Failure>) -> Vec<String> {
        found.unwrap().into_iter().map(|context| context.name).collect()
    }

    #[test]
    fn a_files_contexts_come_first_and_kubernetes_adds_to_them() {
        let both = contexts(Some("[contexts.a]\nadmin_socket = \"s\"\n"), (&["a", "b"], Some("b")));
        assert_eq!(names(both.usual()), ["a"]);
        assert_eq!(names(both.all()), ["a", "b"]);
        assert!(matches!(both.named("a").unwrap().addresses[0], Address::Socket(_)));
        let Address::Kubernetes(access) = &both.named("b").unwrap().addresses[0] else { panic!("of the kubeconfig") };
        assert_eq!((access.context.as_str(), access.namespace.as_deref()), ("b", Some("m")));
        let unknown = both.named("c").unwrap_err();
        assert_eq!(unknown.hint.as_deref(), Some("the configuration file has a; the kubeconfig has a, b"));
    }

    #[test]
    fn without_a_file_the_current_context_is_meant_as_with_kubectl() {
        assert_eq!(names(contexts(None, (&["a", "b"], Some("b"))).usual()), ["b"]);
        let nameless = contexts(None, (&["a"], None)).usual().unwrap_err();
        assert!(nameless.to_string().contains("no current-context"), "{nameless}");
        let nothing = contexts(None, (&[], None)).all().unwrap_err();
        assert_eq!(nothing.exit, Exit::Config);
        assert!(nothing.to_string().contains("neither a configuration file nor a kubeconfig"), "{nothing}");
    }

    #[test]
    fn a_broken_kubeconfig_matters_only_where_it_is_asked() {
        let mut contexts = contexts(Some("[contexts.a]\nadmin_socket = \"s\"\n"), (&[], None));
        contexts.kube = Err(Failure::said(Exit::Config, "kubeconfig", "is broken"));
        assert_eq!(names(contexts.usual()), ["a"]);
        assert!(contexts.named("a").is_ok());
        assert_eq!(contexts.named("b").unwrap_err().chain, ["is broken"]);
    }
}
