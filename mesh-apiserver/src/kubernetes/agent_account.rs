//! Agents that show their pod's ServiceAccount token: which node is such a one the agent of?
//!
//! The kubelet projects a token into the DaemonSet's pod which is bound to that pod and, since Kubernetes 1.30, names the
//! pod's node; TokenReview repeats both as `extra` of the user. So an agent is the agent of the node on which Kubernetes
//! runs it, whatever it says of itself.
//!
//! Where TokenReview names no node it is not looked up by the pod's name: that would take the right to read pods and a
//! second way to the same decision, for versions of Kubernetes that nobody supports any more.

use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use mesh_types::NodeName;

use super::client::Error;
use super::name::NamespacedName;
use super::reviews::{LONGEST_TOKEN, Reviews, said};

/// Whom the agents' tokens are meant for: nobody else takes them, and this server takes no others from agents.
pub(super) const AUDIENCE: &str = "isthmus";

const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-name";

/// The one account by whose tokens agents enrol.
#[derive(Debug, Clone)]
pub struct AgentAccount {
    reviews: Reviews,
    account: NamespacedName,
}

/// Why a token makes nobody an agent. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the ServiceAccount token is empty, or longer than a token can be: see the agent's token file")]
    Shape,
    #[error(
        "Kubernetes does not accept the ServiceAccount token ({said}): project one of audience {AUDIENCE:?} into the agent's \
         pod (a serviceAccountToken of a projected volume), which the kubelet renews"
    )]
    NotAccepted { said: String },
    #[error(
        "Kubernetes does not say that the ServiceAccount token is for audience {AUDIENCE:?}: project one of that audience \
         into the agent's pod"
    )]
    Audience,
    #[error(
        "the token is of {found:?}, and agents of this cluster enrol as {expected:?}: run the agent's pod with that \
         ServiceAccount, or start mesh-apiserver with another --agent-service-account"
    )]
    Account { found: String, expected: String },
    #[error(
        "the token of {account:?} is not bound to a pod: only one that the kubelet projects into the agent's pod says where \
         the agent runs"
    )]
    NoPod { account: String },
    #[error(
        "Kubernetes does not say on which node the pod {pod:?} runs: that takes Kubernetes 1.32, or 1.30 with the feature \
         gate ServiceAccountTokenPodNodeInfo. With an older one enrol by `meshctl token create --node`"
    )]
    NoNode { pod: String },
    #[error(
        "the token is of pod {pod:?}, which runs on node {found:?}, and not on {asked:?}: an agent enrols as the node that \
         it runs on, so give --node-name from spec.nodeName"
    )]
    OtherNode { pod: String, found: String, asked: String },
    #[error("Kubernetes was asked whose ServiceAccount token it is, and gives no answer")]
    NoAnswer(#[from] Error),
}

impl AgentAccount {
    pub fn new(reviews: Reviews, account: NamespacedName) -> Self {
        Self { reviews, account }
    }

    /// Asks Kubernetes whether the bearer of `token` is the agent of `node`.
    pub async fn check(&self, token: &str, node: &NodeName) -> Result<(), Refusal> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(Refusal::Shape);
        }
        let status = self.reviews.of_token(token, Some(AUDIENCE)).await?;
        judge(&status, &self.account, node, || said(&status, token))
    }
}

/// What TokenReview's answer means for somebody who says that they are the agent of `node`.
fn judge(
    status: &TokenReviewStatus,
    account: &NamespacedName,
    node: &NodeName,
    said: impl Fn() -> String,
) -> Result<(), Refusal> {
    if status.authenticated != Some(true) {
        return Err(Refusal::NotAccepted { said: said() });
    }
    // An API server that knows nothing of audiences leaves them out.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Audience);
    }
    let user = status.user.clone().unwrap_or_default();
    let (found, expected) = (user.username.unwrap_or_default(), account.account_user());
    if found != expected {
        return Err(Refusal::Account { found, expected });
    }
    let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
        Some([one]) if !one.is_empty() => Some(one.clone()),
        // Two would be as good as none.
        _ => None,
    };
    let pod = extra(POD).ok_or(Refusal::NoPod { account: found })?;
    match extra(NODE) {
        None => Err(Refusal::NoNode { pod }),
        Some(found) if found == node.0 => Ok(()),
        Some(found) => Err(Refusal::OtherNode { pod, found, asked: node.0.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn accepted(username: &str, audiences: &[&str], extra: &[(&str, &[&str])]) -> TokenReviewStatus {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: (!audiences.is_empty()).then(|| texts(audiences)),
            user: Some(UserInfo {
                username: Some(username.to_owned()),
                extra: Some(extra.iter().map(|(key, values)| ((*key).to_owned(), texts(values))).collect()),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    fn judged(status: &TokenReviewStatus) -> Result<(), String> {
        let account = "mesh/agent".parse().unwrap();
        let judged = judge(status, &account, &NodeName("n1".to_owned()), || said(status, "the-token"));
        judged.map_err(|refusal| refusal.to_string())
    }

    const AGENT: &str = "system:serviceaccount:mesh:agent";
    const ON_N1: &[(&str, &[&str])] = &[(POD, &["agent-x"]), (NODE, &["n1"])];

    #[test]
    fn a_pod_of_the_account_is_the_agent_of_the_node_that_it_runs_on_and_of_no_other() {
        assert_eq!(judged(&accepted(AGENT, &[AUDIENCE], ON_N1)), Ok(()));
        assert_eq!(judged(&accepted(AGENT, &["other", AUDIENCE], ON_N1)), Ok(()));
        let text = judged(&accepted(AGENT, &[AUDIENCE], &[(POD, &["agent-y"]), (NODE, &["n2"])])).unwrap_err();
        assert!(text.contains("pod \"agent-y\", which runs on node \"n2\", and not on \"n1\""), "{text}");
    }

    #[test]
    fn whatever_is_missing_or_other_is_a_refusal_that_names_it() {
        let mut doubtful = accepted(AGENT, &[AUDIENCE], ON_N1);
        doubtful.authenticated = None;
        let table = [
            (TokenReviewStatus::default(), "does not accept the ServiceAccount token (no more is said)"),
            (doubtful, "does not accept the ServiceAccount token"),
            (accepted(AGENT, &[], ON_N1), "does not say that the ServiceAccount token is for audience \"isthmus\""),
            (accepted(AGENT, &["https://kubernetes"], ON_N1), "for audience \"isthmus\""),
            (
                accepted("system:serviceaccount:mesh:other", &[AUDIENCE], ON_N1),
                "enrol as \"system:serviceaccount:mesh:agent\"",
            ),
            (accepted("system:serviceaccount:other:agent", &[AUDIENCE], ON_N1), "start mesh-apiserver with another"),
            (accepted("", &[AUDIENCE], ON_N1), "the token is of \"\""),
            (accepted(AGENT, &[AUDIENCE], &[(NODE, &["n1"])]), "is not bound to a pod"),
            (
                accepted(AGENT, &[AUDIENCE], &[(POD, &["agent-x"])]),
                "on which node the pod \"agent-x\" runs: that takes Kubernetes 1.32",
            ),
            (accepted(AGENT, &[AUDIENCE], &[(POD, &["agent-x"]), (NODE, &[""])]), "on which node"),
            (accepted(AGENT, &[AUDIENCE], &[(POD, &["agent-x"]), (NODE, &["n1", "n2"])]), "on which node"),
        ];
        for (status, part) in table {
            let text = judged(&status).unwrap_err();
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn what_is_said_of_a_token_never_quotes_it() {
        let status = |error: &str| TokenReviewStatus { error: Some(error.to_owned()), ..TokenReviewStatus::default() };
        assert!(judged(&status("token has expired")).unwrap_err().contains("(token has expired)"));
        let text = judged(&status("cannot parse the-token")).unwrap_err();
        assert!(!text.contains("the-token") && text.contains("no more is said"), "{text}");
    }
}
