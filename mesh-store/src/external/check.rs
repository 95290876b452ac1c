//! What is asked of an external etcd before anything is built on it. Each refusal says what to change.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{GetOptions, Txn, TxnOp};

use super::{External, errors};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Older ones report the progress of a watch before its events are sent, so a resumed watch could miss some
/// (etcd's issue 15220).
const OLDEST: [u64; 3] = [3, 5, 8];
/// A key that is only asked for.
const PROBE: &str = "isthmus/v1/probe";

/// Why an etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the external etcd at {endpoints} cannot be used: {reason}. Check that it runs, that --store names its client \
         URLs, and that --store-ca, --store-cert and --store-key are what it expects"
    )]
    Unreachable { endpoints: Arc<str>, reason: String },
    #[error(
        "the external etcd at {endpoints} is of version {found}: use 3.5.8 or later, older ones lose events of watches \
         that are resumed"
    )]
    TooOld { endpoints: Arc<str>, found: String },
    #[error(
        "the external etcd at {endpoints} refuses transactions of {needed} operations, and this server makes such: start \
         every member of it with --max-txn-ops={needed} or more (its default is 128)"
    )]
    TxnOps { endpoints: Arc<str>, needed: usize },
}

impl External {
    pub(super) async fn check(&self, txn_ops: usize) -> Result<(), OpenError> {
        let unusable = |reason: String| OpenError::Unreachable { endpoints: Arc::clone(&self.endpoints), reason };
        let mut maintenance = self.maintenance.clone();
        let status = tokio::time::timeout(ANSWER_WITHIN, maintenance.status()).await;
        let status = status.map_err(|_elapsed| unusable(format!("no answer within {ANSWER_WITHIN:?}")))?;
        let status = status.map_err(|error| unusable(errors::reason(&error)))?;
        self.seen.note(status.0.header.as_ref());
        if !is_new_enough(status.version()) {
            let found = status.version().to_owned();
            return Err(OpenError::TooOld { endpoints: Arc::clone(&self.endpoints), found });
        }

        let look = || TxnOp::get(PROBE, Some(GetOptions::new().with_count_only()));
        let probe = Txn::new().and_then((0..txn_ops).map(|_| look()).collect::<Vec<_>>());
        let mut kv = self.kv.clone();
        let probed = tokio::time::timeout(ANSWER_WITHIN, kv.txn(probe)).await;
        let probed = probed.map_err(|_elapsed| unusable(format!("no answer within {ANSWER_WITHIN:?}")))?;
        match probed {
            Ok(answer) => {
                self.seen.note(answer.0.header.as_ref());
                Ok(())
            }
            Err(error) if errors::is(&error, &mesh_store_mvcc::Error::TooManyOps) => {
                Err(OpenError::TxnOps { endpoints: Arc::clone(&self.endpoints), needed: txn_ops })
            }
            Err(error) => Err(unusable(errors::reason(&error))),
        }
    }
}

/// A version that cannot be read is not held against an etcd: what counts is how it behaves.
fn is_new_enough(version: &str) -> bool {
    let numbers: Vec<u64> = version.split(['.', '-']).map_while(|part| part.parse().ok()).take(3).collect();
    numbers.len() < OLDEST.len() || numbers[..] >= OLDEST[..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_loses_events_is_too_old() {
        for (version, wanted) in
            [("3.4.30", false), ("3.5.7", false), ("3.5.8", true), ("3.6.0", true), ("4.0.0", true), ("unknown", true)]
        {
            assert_eq!(is_new_enough(version), wanted, "{version}");
        }
    }
}
