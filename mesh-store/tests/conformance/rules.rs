//! The rules, by what they are about.

mod care;
mod kv;
mod lease;
mod overlay;
mod txn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use mesh_store::Store;
use mesh_store::backend::Error;
use mesh_store::mvcc::{Error as Refusal, PutRequest};

use crate::watching::{events_until, next};

const DEADLINE: Duration = Duration::from_mins(1);

type Rule = fn(Case) -> BoxFuture<'static, ()>;

macro_rules! rules {
    ($($group:ident :: $rule:ident),* $(,)?) => {
        pub(super) const ALL: &[(&str, Rule)] = &[$((stringify!($rule), |case| $group::$rule(case).boxed())),*];
    };
}

rules![
    kv::a_put_makes_one_revision_and_counts_versions,
    kv::a_range_has_all_of_etcds_options,
    kv::a_delete_says_what_it_deleted,
    kv::a_put_may_keep_what_is_there,
    kv::what_was_compacted_cannot_be_read,
    kv::the_store_has_a_number_and_a_status,
    kv::members_are_listed_and_unknown_ones_are_said_so,
    txn::a_transaction_takes_one_branch_as_one_revision,
    txn::every_target_compares_as_etcd_does,
    txn::transactions_nest,
    txn::a_transaction_may_be_large,
    txn::a_key_is_written_once_in_a_transaction,
    watch::a_watch_goes_from_the_past_into_the_present_without_a_gap,
    watch::a_watch_from_now_sees_only_what_comes,
    watch::a_watch_may_begin_in_the_future,
    watch::a_revision_arrives_whole,
    watch::a_watch_below_the_compaction_ends,
    watch::an_idle_watch_reports_how_far_it_is,
    overlay::two_places_are_one_range,
    overlay::two_places_are_one_watch,
    overlay::a_watch_through_an_overlay_resumes_and_ends_as_any_other,
    lease::a_revoked_lease_takes_its_keys_along,
    lease::a_lease_that_is_not_there_is_said_so,
    lease::a_lease_lives_while_it_is_renewed,
    care::an_alarm_refuses_what_makes_the_store_larger_and_can_be_disarmed,
    care::the_hash_follows_the_history,
    care::a_backup_counts_down_to_its_end,
];

/// One rule's store and its part of the keys.
pub(super) struct Case {
    pub(super) store: Arc<dyn Store>,
    prefix: String,
}

impl Case {
    pub(super) fn new(store: Arc<dyn Store>, name: &str) -> Self {
        Self { store, prefix: format!("{name}/") }
    }

    fn key(&self, rest: &str) -> Bytes {
        format!("{}{rest}", self.prefix).into()
    }

    fn prefix(&self) -> Bytes {
        self.prefix.clone().into()
    }

    /// Puts and returns the revision.
    async fn put(&self, rest: &str, value: &str) -> i64 {
        self.store.put(PutRequest::new(self.key(rest), value.to_owned())).await.unwrap().revision
    }

    /// The rest of a key.
    fn rest<'a>(&self, key: &'a [u8]) -> &'a str {
        std::str::from_utf8(key).unwrap().strip_prefix(&self.prefix).unwrap()
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result.unwrap_err() {
        Error::Refused(refusal) => refusal,
        other => panic!("not a refusal: {other}"),
    }
}
