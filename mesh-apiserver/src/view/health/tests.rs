use serde_json::json;

use super::*;
use crate::view::tests::{apply, chosen, two_clusters, verdict};

/// `here`'s Service with this setting, `there` under this verdict: (addresses chosen, usage, when, why).
fn under(setting: Option<&str>, loss: Option<Loss>, outlived: u64) -> (usize, Standing) {
    let (mut here, _, mut view) = two_clusters();
    if let Some(value) = setting {
        let annotations = json!({"service.cilium.io/global": "true", "mesh.isthmus.io/withdraw-after": value});
        here.apply(crate::examples::service("10.101.0.1", &annotations));
        apply(&mut view, &here.commit());
    }
    apply(&mut view, &verdict("there", loss, outlived));
    let mut standings = view.standings(&ServiceName::new("shop", "cart"));
    assert_eq!(standings.len(), 1);
    (chosen(&view).len(), standings.remove(0))
}

#[test]
fn a_services_own_setting_decides_over_the_meshs_and_says_so() {
    use Loss::{Cluster, Control};
    use Usage::{Live, Stale, Withdrawn};
    // (setting, loss, outlived) -> backends used of two, usage, since in seconds, a part of the reason
    let table = [
        (None, None, 0, 2, Live, 5, ""),
        (None, None, 60, 2, Stale, 5, "told"),
        (None, Some(Control), 45, 0, Withdrawn, 5, "told"),
        (Some("60s"), Some(Control), 45, 2, Stale, 5, "its withdraw-after is 60s: told"),
        (Some("60s"), Some(Control), 60, 0, Withdrawn, 61, "no heartbeat for 60 s, its own withdraw-after: told"),
        (Some("60s"), Some(Cluster), 0, 0, Withdrawn, 5, "told"),
        (Some("20s"), None, 20, 0, Withdrawn, 21, "its own withdraw-after"),
        (Some("never"), Some(Cluster), 60, 2, Stale, 5, "its withdraw-after is never: told"),
    ];
    for (setting, loss, outlived, used, usage, since, why) in table {
        let (chosen, standing) = under(setting, loss, outlived);
        let what = format!("{setting:?} {loss:?} {outlived}: {standing:?}");
        assert_eq!((chosen, standing.usage, standing.since_unix_nanos), (used, usage, since * 1_000_000_000), "{what}");
        assert!(standing.reason.contains(why) && standing.reason.is_empty() == why.is_empty(), "{what}");
    }
}

/// `here`'s Service with these settings, `there` in this state: usage, since in seconds, why.
fn silent(stale: &str, withdraw: &str, state: State, loss: Option<Loss>, stale_seconds: u64) -> (Usage, u64, String) {
    let (mut here, _, mut view) = two_clusters();
    let annotations = json!({
        "service.cilium.io/global": "true", "mesh.isthmus.io/stale-after": stale, "mesh.isthmus.io/withdraw-after": withdraw,
    });
    here.apply(crate::examples::service("10.101.0.1", &annotations));
    apply(&mut view, &here.commit());
    assert!(here.index.errors().is_empty(), "{:?}", here.index.errors());
    let health = Health {
        state,
        since_unix_nanos: 50_000_000_000,
        reason: "told".to_owned(),
        loss,
        last_heartbeat_unix_nanos: 1_000_000_000,
        outlived_seconds: 0,
        stale_seconds,
    };
    apply(&mut view, &[("isthmus/v1/health/there".into(), Some(health.encode().into()))]);
    let standing = view.standings(&ServiceName::new("shop", "cart")).remove(0);
    (standing.usage, standing.since_unix_nanos / 1_000_000_000, standing.reason)
}

#[test]
fn a_service_says_itself_for_how_long_a_silent_cluster_is_shown_as_live() {
    use Loss::{Control, Paths};
    use Usage::{Live, Stale, Withdrawn};
    // (stale-after, withdraw-after, state, loss, outlived) -> usage, since, why
    let table = [
        ("20s", "", State::Live, None, 0, Live, 50, ""),
        ("20s", "", State::Live, None, 20, Stale, 21, "no heartbeat for 20 s, its own stale-after"),
        ("20s", "", State::Stale, None, 20, Stale, 50, "told"),
        ("1m", "", State::Stale, None, 20, Live, 0, ""),
        ("1m", "", State::Withdrawn, Some(Control), 20, Withdrawn, 50, "told"),
        ("1m", "2m", State::Withdrawn, Some(Control), 20, Live, 0, ""),
        ("1m", "2m", State::Withdrawn, Some(Control), 60, Stale, 50, "its withdraw-after is 120s: told"),
        ("never", "never", State::Withdrawn, Some(Control), 60, Live, 0, ""),
        ("never", "never", State::Withdrawn, Some(Paths), 60, Stale, 50, "its withdraw-after is never: told"),
        ("never", "", State::Live, None, 60, Live, 50, ""),
        ("", "", State::Live, None, 60, Live, 50, ""),
        ("1m", "", State::Syncing, None, 0, Stale, 50, "told"),
    ];
    for (stale, withdraw, state, loss, outlived, usage, since, why) in table {
        let found = silent(stale, withdraw, state, loss, outlived);
        assert_eq!(found, (usage, since, why.to_owned()), "{stale} {withdraw} {state} {loss:?} {outlived}");
    }
}

#[test]
fn periods_of_both_kinds_are_known_as_long_as_a_service_asks_for_them() {
    let (mut here, _, mut view) = two_clusters();
    let mut set = |view: &mut View, more: serde_json::Value| {
        here.apply(crate::examples::service("10.101.0.1", &more));
        apply(view, &here.commit());
    };
    let seconds = |periods: Periods| periods.into_iter().map(|period| period.as_secs()).collect::<Vec<_>>();
    set(&mut view, json!({"mesh.isthmus.io/stale-after": "20s", "mesh.isthmus.io/withdraw-after": "1m"}));
    assert_eq!((seconds(view.stale_periods()), seconds(view.periods())), (vec![20], vec![60]));
    set(&mut view, json!({"mesh.isthmus.io/stale-after": "30s", "mesh.isthmus.io/withdraw-after": "1m"}));
    assert_eq!((seconds(view.stale_periods()), seconds(view.periods())), (vec![30], vec![60]));
    set(&mut view, json!({"mesh.isthmus.io/stale-after": "never"}));
    assert!(view.stale_periods().is_empty() && view.periods().is_empty());
}

#[test]
fn a_setting_that_changes_under_a_verdict_shows_and_hides_the_backends_of_its_service_alone() {
    let (mut here, _, mut view) = two_clusters();
    apply(&mut view, &verdict("there", Some(Loss::Control), 45));
    let mut set = |view: &mut View, value: &str| {
        let annotations = json!({"service.cilium.io/global": "true", "mesh.isthmus.io/withdraw-after": value});
        here.apply(crate::examples::service("10.101.0.1", &annotations));
        apply(view, &here.commit())
    };
    let change = set(&mut view, "10m");
    assert_eq!((change.upserts.len(), change.deletes.len()), (3, 0), "the Service and two backends: {change:?}");
    assert_eq!(view.periods(), [Duration::from_mins(10)].into());
    let change = set(&mut view, "");
    assert_eq!((change.upserts.len(), change.deletes.len()), (1, 2), "{change:?}");
    assert!(view.periods().is_empty());
}

#[test]
fn a_malformed_period_switches_the_services_settings_off_and_names_it() {
    let (mut here, _, mut view) = two_clusters();
    let annotations = json!({"service.cilium.io/global": "true", "mesh.isthmus.io/withdraw-after": "soon"});
    here.apply(crate::examples::service("10.101.0.1", &annotations));
    apply(&mut view, &here.commit());
    let errors: Vec<String> = here.index.errors().into_values().collect();
    assert!(errors[0].contains("mesh.isthmus.io/withdraw-after: \"soon\" is not a period"), "{errors:?}");
    assert!(view.periods().is_empty());
}
