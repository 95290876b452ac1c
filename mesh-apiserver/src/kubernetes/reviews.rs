//! The two questions that Kubernetes answers about callers: whose token this is, and whether they may do a thing.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use super::client::{Client, Error};
use super::figures::Figures;

/// Questions at a time: whoever reaches the mesh port may cause some, and the API server has other work.
const AT_A_TIME: usize = 8;
/// What a text must not exceed to be asked about, in bytes. ServiceAccount tokens have about 1 KiB.
pub(super) const LONGEST_TOKEN: usize = 16 << 10;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reviews {
    client: Client,
    permits: Arc<Semaphore>,
    figures: Figures,
}

impl Reviews {
    pub fn new(client: Client, figures: Figures) -> Self {
        Self { client, permits: Arc::new(Semaphore::new(AT_A_TIME)), figures }
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whose token it is, for one of these audiences; for the API server's own where there is none.
    pub(super) async fn of_token(&self, token: &str, audience: Option<&str>) -> Result<TokenReviewStatus, Error> {
        let _permit = self.permits.acquire().await;
        let spec = TokenReviewSpec {
            audiences: audience.map(|audience| vec![audience.to_owned()]),
            token: Some(token.to_owned()),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = &review;
        let answer = self.client.ask_only("create", "tokenreviews.authentication.k8s.io", |client| async move {
            Api::<TokenReview>::all(client).create(&PostParams::default(), review).await
        });
        let answer = answer.await;
        self.figures.review("token", answer.is_ok());
        Ok(answer?.status.unwrap_or_default())
    }

    /// Whether a user may do `verb` to a resource of the whole cluster.
    pub(super) async fn of_access(
        &self,
        user: UserInfo,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<SubjectAccessReviewStatus, Error> {
        let _permit = self.permits.acquire().await;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let review = &review;
        let answer = self.client.ask_only("create", "subjectaccessreviews.authorization.k8s.io", |client| async move {
            Api::<SubjectAccessReview>::all(client).create(&PostParams::default(), review).await
        });
        let answer = answer.await;
        self.figures.review("access", answer.is_ok());
        Ok(answer?.status.unwrap_or_default())
    }
}

/// What the API server says of a token that it does not accept, without the token.
pub(super) fn said(status: &TokenReviewStatus, token: &str) -> String {
    let text = status.error.as_deref().map(str::trim).filter(|text| !text.is_empty() && !text.contains(token));
    text.unwrap_or("no more is said").chars().take(300).collect()
}
