//! How often Kubernetes was asked who somebody is and what they may do, and what became of calls with a bearer token.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Review {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    verb: &'static str,
    verdict: &'static str,
}

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    reviews: Family<Review, Counter>,
    calls: Family<Call, Counter>,
}

impl Figures {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isthmus_kubernetes_reviews",
            "TokenReviews and SubjectAccessReviews that were asked for, by outcome",
            self.reviews.clone(),
        );
        registry.register(
            "isthmus_admin_bearer_calls",
            "Calls of the admin API with a bearer token, by the right that they take and the verdict",
            self.calls.clone(),
        );
    }

    /// `kind` is token or access; `outcome` answered or failed.
    pub(super) fn review(&self, kind: &'static str, is_answered: bool) {
        let outcome = if is_answered { "answered" } else { "failed" };
        self.reviews.get_or_create(&Review { kind, outcome }).inc();
    }

    pub(super) fn call(&self, verb: &'static str, verdict: &'static str) {
        self.calls.get_or_create(&Call { verb, verdict }).inc();
    }
}
