//! The exit codes: a stable promise to scripts, repeated in `--help`.

use std::process::ExitCode;

/// What the process says at its end. The numbers above 63 are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Degraded = 2,
    Usage = 64,
    Conflict = 65,
    Unavailable = 69,
    Denied = 77,
    Config = 78,
}

/// Shown at the end of `--help`.
pub(crate) const HELP: &str = "\
In Kubernetes no file is needed: a context of the kubeconfig names a cluster. meshctl reaches its mesh-apiserver by
port-forward and asks by your own rights: whoever may get clusterpeerings.mesh.isthmus.io may look, whoever may update
them may change the mesh. docs/meshctl-kubernetes.md

Configuration file:
  [contexts.cluster-a]
  admin_socket = \"/run/isthmus/mesh-apiserver.sock\"    # as root on the API server's machine

  [contexts.cluster-b]                                  # from anywhere, by certificate
  endpoint = [\"b1.example.net:2382\", \"b2.example.net:2382\"]   # or one, without brackets
  ca = \"b-ca.pem\"                                       # files: relative to this one
  cert = \"admin-cluster-b.pem\"
  key = \"admin-cluster-b.key\"
  server_name = \"cluster-b.mesh.isthmus.io\"             # when the endpoint is not named in the certificate

  [contexts.cluster-c]                                  # in Kubernetes, by your rights there
  kube_context = \"kind-c\"                              # and kubeconfig, mesh_namespace where they are not the usual ones

  [nodes.a1]                                            # for bpf dump: what to put in front of node-agent
  exec = [\"ssh\", \"root@a1\"]

Exit codes:
   0  done, and everything that was asked about is well
   1  refused or failed; nothing more is known than the message on stderr
   2  degraded: the answer is there, but something in it is not well, or a cluster did not answer
  64  wrong usage
  65  the clusters contradict each other (connect): nothing was changed
  69  no cluster that was asked could be reached
  77  the cluster does not allow it with this certificate or these Kubernetes rights
  78  the configuration file is missing or wrong

Output: data on stdout, all else on stderr. Tokens are read from a file or from standard input,
never from an argument.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_code() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Degraded,
            Exit::Usage,
            Exit::Conflict,
            Exit::Unavailable,
            Exit::Denied,
            Exit::Config,
        ] {
            assert!(HELP.contains(&format!("{:>4}  ", exit as u8)), "{exit:?}");
        }
    }
}
