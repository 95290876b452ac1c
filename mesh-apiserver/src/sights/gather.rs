//! The task of the controller's term that gathers what agents see, at every replica, and keeps the outlook up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation::Outlook;
use federation::outlook::{Paths, Sight};
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, Shutdown, clock};
use mesh_types::ClusterName;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::conclude::{Conclusion, Seen, conclude};
use super::of_agents;
use crate::admin_api::Others;
use crate::agent_api::Presence;
use crate::view;

/// An agent that falls silent does so without an event; and so do the Services' settings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before a replica that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// By number of the replica. Written by the questions, read by the gathering.
type Elsewhere = Arc<Mutex<BTreeMap<u64, v1::AwaitSightsResponse>>>;

pub struct Gather {
    pub presence: Presence,
    pub others: Others,
    pub view: view::Handle,
    pub outlook: watch::Sender<Outlook>,
}

impl Gather {
    /// Gathers until stopped.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        let (elsewhere, nudge) = (Elsewhere::default(), Arc::new(Notify::new()));
        let asked = self.others.ids().map(|id| {
            let (others, elsewhere, nudge) = (self.others.clone(), Arc::clone(&elsewhere), Arc::clone(&nudge));
            async move { follow(id, &others, &elsewhere, &nudge).await }
        });
        let asked = futures::future::join_all(asked);
        let gathered = self.gather(&elsewhere, &nudge);
        shutdown
            .unless_requested(async move {
                tokio::join!(asked, gathered);
            })
            .await;
        Ok(())
    }

    async fn gather(&self, elsewhere: &Elsewhere, nudge: &Notify) {
        let mut here = self.presence.version();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let version = *here.borrow_and_update();
            let own = of_agents(&self.presence.all(), version, Instant::now());
            let all: Vec<v1::AwaitSightsResponse> =
                std::iter::once(own).chain(elsewhere.lock().values().cloned()).collect();
            let (own_nodes, periods) =
                self.view.read(|view| (view.own_nodes(), [view.periods(), view.stale_periods()]));
            let found = conclude(&own_nodes, &all);
            self.outlook.send_if_modified(|known| {
                let now = outlook(known, found, Instant::now(), clock::unix_nanos());
                let [periods, stale_periods] = periods;
                let now = Outlook { periods, stale_periods, ..now };
                let is_news = *known != now;
                *known = now;
                is_news
            });
            tokio::select! {
                changed = here.changed() => if changed.is_err() { return },
                () = nudge.notified() => {}
                _ = look.tick() => {}
            }
        }
    }
}

/// Asks one replica for as long as the term lasts. One that does not answer has lost its agents; they turn to another.
async fn follow(id: u64, others: &Others, elsewhere: &Elsewhere, nudge: &Notify) {
    let mut known_version = 0;
    loop {
        match others.await_sights(id, known_version).await {
            Ok(sights) => {
                known_version = sights.version;
                elsewhere.lock().insert(id, sights);
                nudge.notify_one();
            }
            Err(error) => {
                tracing::debug!(replica = id, error = %ErrorChain(&error), "what its agents see is not known");
                known_version = 0;
                if let Some(sights) = elsewhere.lock().get_mut(&id) {
                    sights.reached.clear();
                    sights.agents.iter_mut().for_each(|agent| agent.reporting = false);
                }
                nudge.notify_one();
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// What follows for the judgement, but for what Services ask for: a state that stays keeps its time. Pure.
fn outlook(known: &Outlook, found: Conclusion, now: Instant, now_unix_nanos: u64) -> Outlook {
    let sight = |(name, seen): (ClusterName, Seen)| {
        let (paths, unreached_by) = match seen {
            Seen::Up => (Paths::Up, Vec::new()),
            Seen::Down(by) => (Paths::Down { since: now }, by),
            Seen::Unknown(by) => (Paths::Unknown, by),
        };
        let before = known.clusters.get(&name).filter(|before| before.paths.name() == paths.name());
        let sight = match before {
            Some(before) => Sight { unreached_by, ..before.clone() },
            None => Sight { paths, since_unix_nanos: now_unix_nanos, unreached_by },
        };
        (name, sight)
    };
    let clusters = found.clusters.into_iter().map(sight).collect();
    Outlook { clusters, own_side: found.own_side, ..Outlook::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_stays_keeps_its_time_whoever_says_so() {
        let b = ClusterName::new("b").unwrap();
        let start = Instant::now();
        let found = |seen: Seen| Conclusion { clusters: [(b.clone(), seen)].into(), own_side: None };
        let down = |names: &[&str]| Seen::Down(names.iter().map(|name| (*name).to_owned()).collect());
        let next = |known: &Outlook, seen, secs| outlook(known, found(seen), start + Duration::from_secs(secs), secs);
        let first = next(&Outlook::default(), down(&["a1", "a2"]), 1);
        let second = next(&first, down(&["a1", "a2", "a3"]), 2);
        assert_eq!(second.paths(&b), Paths::Down { since: start + Duration::from_secs(1) });
        assert_eq!(second.clusters[&b].unreached_by.len(), 3);
        let third = next(&second, Seen::Up, 3);
        assert_eq!((third.paths(&b), third.clusters[&b].since_unix_nanos), (Paths::Up, 3));
        let fourth = next(&third, down(&["a1", "a2"]), 4);
        assert_eq!(fourth.paths(&b), Paths::Down { since: start + Duration::from_secs(4) });
    }
}
