//! Relative revisions: what a sequence names as "three before now" becomes a number when the request is made, so that a
//! shortened sequence still means the same.

use etcd_client::proto::{PbCompare, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest};

/// `NOW + n` stands for the newest revision plus n.
pub(crate) const NOW: i64 = 1 << 50;
/// `FLOOR + n` stands for the revision last compacted at plus n.
pub(crate) const FLOOR: i64 = 1 << 51;
const REACH: i64 = 1 << 20;

/// Where both stores are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) now: i64,
    pub(crate) floor: i64,
}

impl Place {
    pub(crate) fn revision(self, named: i64) -> i64 {
        if (named - NOW).abs() < REACH {
            self.now + (named - NOW)
        } else if (named - FLOOR).abs() < REACH {
            self.floor + (named - FLOOR)
        } else {
            named
        }
    }

    pub(crate) fn range(self, mut request: PbRangeRequest) -> PbRangeRequest {
        for revision in [
            &mut request.revision,
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            *revision = self.revision(*revision);
        }
        request
    }

    pub(crate) fn txn(self, mut request: PbTxnRequest) -> PbTxnRequest {
        for compare in &mut request.compare {
            self.compare(compare);
        }
        for op in request.success.iter_mut().chain(&mut request.failure) {
            op.request = op.request.take().map(|request| match request {
                PbTxnOpRequest::RequestRange(range) => PbTxnOpRequest::RequestRange(self.range(range)),
                PbTxnOpRequest::RequestTxn(txn) => PbTxnOpRequest::RequestTxn(self.txn(txn)),
                other => other,
            });
        }
        request
    }

    fn compare(self, compare: &mut PbCompare) {
        if let Some(PbTargetUnion::CreateRevision(revision) | PbTargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            *revision = self.revision(*revision);
        }
    }
}
