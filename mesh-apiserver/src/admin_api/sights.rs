//! What this replica's agents see, for the replica that judges.

use std::time::{Duration, Instant};

use mesh_proto::v1;

use super::AdminApi;
use crate::sights::of_agents;

/// How long an answer waits for news: long enough to be few, short enough that an agent's silence is told.
pub(super) const AWAITED: Duration = Duration::from_secs(1);

impl AdminApi {
    /// Answers when there is another version than the asker knows, or after [`AWAITED`].
    pub(super) async fn sights(&self, known: u64) -> v1::AwaitSightsResponse {
        let mut version = self.presence.version();
        let news = version.wait_for(|version| *version + 1 != known);
        // Elapsed, or a sender that is gone: what is known now is the answer either way.
        tokio::time::timeout(AWAITED, news).await.ok();
        // 0 stands for "none known".
        let version = *self.presence.version().borrow() + 1;
        of_agents(&self.presence.all(), version, Instant::now())
    }
}
