//! Callers of the admin API whom Kubernetes knows: may the bearer of this token do what an administrator may?
//!
//! There is no list of administrators here. Whoever may `update` the cluster's `clusterpeerings.mesh.isthmus.io` may change
//! the mesh by objects, and so may by calls; whoever may `get` them may look.

use std::time::Duration;

use certs::token;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::SubjectAccessReviewStatus;
use moka::sync::Cache;

use super::agent_account::AUDIENCE;
use super::client::Error;
use super::crd::GROUP;
use super::reviews::{LONGEST_TOKEN, Reviews, said};

const RESOURCE: &str = "clusterpeerings";
/// A right that is taken away, or given, counts after this.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Verdicts. One has about 200 bytes.
const MOST: u64 = 1000;

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    Read,
    Change,
}

/// A user of Kubernetes who may do what was asked for; the name as Kubernetes says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(pub String);

/// Judges the bearers of tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Delegates {
    reviews: Reviews,
    /// By the token's SHA-256; the token itself is kept nowhere.
    verdicts: Cache<(String, Right), Verdict>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Granted(String),
    NotAccepted { said: String },
    NotAllowed { user: String, reason: String },
}

/// Why a call is refused. Never quotes the token.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("the bearer token is empty, or longer than a token can be")]
    Shape,
    #[error(
        "Kubernetes does not accept the bearer token ({said}): give one of this cluster that has not expired, for its API \
         server or for audience {AUDIENCE:?}"
    )]
    NotAccepted { said: String },
    #[error(
        "Kubernetes does not let {user:?} {verb} {RESOURCE}.{GROUP}, which this call takes{reason}: bind a role with that \
         right (ClusterRoleBinding) to that user",
        verb = right.verb()
    )]
    NotAllowed { user: String, right: Right, reason: String },
    #[error("Kubernetes was asked whether the bearer of the token may do this, and gives no answer")]
    NoAnswer(#[from] Error),
}

impl Right {
    /// In RBAC's words.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Read => "get",
            Self::Change => "update",
        }
    }
}

impl Denied {
    /// A label for counters.
    fn name(&self) -> &'static str {
        match self {
            Self::Shape | Self::NotAccepted { .. } => "unauthenticated",
            Self::NotAllowed { .. } => "denied",
            Self::NoAnswer(_) => "unanswered",
        }
    }
}

impl Delegates {
    pub fn new(reviews: Reviews) -> Self {
        let verdicts = Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build();
        Self { reviews, verdicts }
    }

    /// The user whose token it is, if they may. Without an answer of Kubernetes nobody may anything.
    pub async fn admit(&self, token: &str, right: Right) -> Result<User, Denied> {
        let admitted = self.judged(token, right).await;
        let verdict = admitted.as_ref().map_or_else(Denied::name, |_user| "granted");
        self.reviews.figures().call(right.verb(), verdict);
        admitted
    }

    async fn judged(&self, token: &str, right: Right) -> Result<User, Denied> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(Denied::Shape);
        }
        let key = (token::hash(token), right);
        let verdict = if let Some(known) = self.verdicts.get(&key) {
            known
        } else {
            let verdict = self.ask(token, right).await?;
            self.verdicts.insert(key, verdict.clone());
            verdict
        };
        match verdict {
            Verdict::Granted(name) => Ok(User(name)),
            Verdict::NotAccepted { said } => Err(Denied::NotAccepted { said }),
            Verdict::NotAllowed { user, reason } => Err(Denied::NotAllowed { user, right, reason }),
        }
    }

    async fn ask(&self, token: &str, right: Right) -> Result<Verdict, Error> {
        let status = self.reviews.of_token(token, None).await?;
        let user = match accepted(&status, None) {
            Some(user) => user,
            // One that is of no use to anybody but this server: the better one to send here.
            None => match accepted(&self.reviews.of_token(token, Some(AUDIENCE)).await?, Some(AUDIENCE)) {
                Some(user) => user,
                None => return Ok(Verdict::NotAccepted { said: said(&status, token) }),
            },
        };
        let name = user.username.clone().unwrap_or_default();
        let access = self.reviews.of_access(user, right.verb(), GROUP, RESOURCE).await?;
        Ok(allowed(name, &access))
    }
}

/// The user that a review names, if it accepts the token for what was asked.
fn accepted(status: &TokenReviewStatus, audience: Option<&str>) -> Option<UserInfo> {
    let is_for = |audience: &str| status.audiences.iter().flatten().any(|given| given == audience);
    let is_accepted = status.authenticated == Some(true) && audience.is_none_or(is_for);
    let user = status.user.clone().filter(|_| is_accepted)?;
    // Somebody without a name could not be held to anything.
    user.username.as_ref().is_some_and(|name| !name.is_empty()).then_some(user)
}

fn allowed(user: String, access: &SubjectAccessReviewStatus) -> Verdict {
    if access.allowed && access.denied != Some(true) {
        return Verdict::Granted(user);
    }
    let told = [&access.reason, &access.evaluation_error].into_iter().flatten().find(|text| !text.trim().is_empty());
    let reason = told.map(|text| format!(" ({})", text.trim().chars().take(300).collect::<String>()));
    Verdict::NotAllowed { user, reason: reason.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(name: &str, audiences: Option<&str>) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: audiences.map(|audience| vec![audience.to_owned()]),
            user: Some(UserInfo { username: Some(name.to_owned()), ..UserInfo::default() }),
            error: None,
        }
    }

    #[test]
    fn a_user_is_one_whom_a_review_accepts_and_names() {
        let name = |status: &TokenReviewStatus, audience| accepted(status, audience)?.username;
        assert_eq!(name(&review("jane", None), None).as_deref(), Some("jane"));
        assert_eq!(name(&review("jane", Some(AUDIENCE)), Some(AUDIENCE)).as_deref(), Some("jane"));
        assert_eq!(name(&review("jane", None), Some(AUDIENCE)), None, "an API server without audiences");
        assert_eq!(name(&review("jane", Some("other")), Some(AUDIENCE)), None);
        assert_eq!(name(&review("", None), None), None);
        let refused = TokenReviewStatus { authenticated: Some(false), ..review("jane", None) };
        assert_eq!(name(&refused, None), None);
        assert_eq!(name(&TokenReviewStatus { authenticated: Some(true), ..TokenReviewStatus::default() }, None), None);
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        let status = |allowed, denied| SubjectAccessReviewStatus { allowed, denied, ..Default::default() };
        assert_eq!(allowed("jane".to_owned(), &status(true, None)), Verdict::Granted("jane".to_owned()));
        for access in [status(false, None), status(false, Some(true)), status(true, Some(true))] {
            assert!(matches!(allowed("jane".to_owned(), &access), Verdict::NotAllowed { .. }), "{access:?}");
        }
        let reason = SubjectAccessReviewStatus { reason: Some("no role".to_owned()), ..status(false, None) };
        let Verdict::NotAllowed { user, reason } = allowed("jane".to_owned(), &reason) else { panic!("not allowed") };
        let text = Denied::NotAllowed { user, right: Right::Change, reason }.to_string();
        assert!(
            text.starts_with(
                "Kubernetes does not let \"jane\" update clusterpeerings.mesh.isthmus.io, which this call takes (no role): "
            ),
            "{text}"
        );
    }
}
