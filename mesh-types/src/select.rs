//! Which backends a Service of the consuming cluster uses: Cilium's flow chart as one pure function.
//!
//! Source: Cilium `pkg/clustermesh/selectbackends.go` and the chart "Global and Shared Services Reference".

use crate::{Affinity, BackendState, ClusterName};

/// What selection needs to know of a backend; implemented by whatever carries one.
pub trait Candidate {
    fn cluster(&self) -> &ClusterName;
    fn state(&self) -> BackendState;
    /// Whether the path to it is believed to work. What one agent sees on its own paths masks on that agent only.
    fn reachable(&self) -> bool;
}

impl Candidate for crate::Backend {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }
    fn state(&self) -> BackendState {
        self.state
    }
    fn reachable(&self) -> bool {
        true
    }
}

/// The settings of the consuming cluster's Service; `None` where only remote clusters have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer<'a> {
    pub cluster: &'a ClusterName,
    /// `Some((global, affinity))` of the local Service.
    pub local: Option<(bool, Affinity)>,
}

/// Indices of the backends that take new connections, in input order.
///
/// # Invariants
/// - A Service that is not global never uses a remote backend; one that exists only remotely uses all remote ones.
/// - Unreachable backends are left out while any reachable one remains: a fault on the path never empties a Service.
/// - Not-ready backends are never chosen; terminating ones only while no active one remains.
pub fn select<C: Candidate>(consumer: Consumer<'_>, backends: &[C]) -> Vec<usize> {
    let is_local = |i: &usize| backends[*i].cluster() == consumer.cluster;
    let usable: Vec<usize> = (0..backends.len()).filter(|i| backends[*i].state() != BackendState::NotReady).collect();
    let (global, affinity) = consumer.local.unwrap_or((true, Affinity::None));
    let usable: Vec<usize> = usable.into_iter().filter(|i| global || is_local(i)).collect();
    let reachable: Vec<usize> = usable.iter().copied().filter(|i| backends[*i].reachable()).collect();
    let pool = if reachable.is_empty() { usable } else { reachable };
    let (local, remote): (Vec<usize>, Vec<usize>) = pool.iter().copied().partition(|i| is_local(i));
    let active = |list: &[usize]| list.iter().any(|i| backends[*i].state() == BackendState::Active);
    let pool = match affinity {
        Affinity::None => pool,
        Affinity::Local if active(&local) || remote.is_empty() => local,
        Affinity::Local => remote,
        Affinity::Remote if active(&remote) || local.is_empty() => remote,
        Affinity::Remote => local,
    };
    if active(&pool) {
        pool.into_iter().filter(|i| backends[*i].state() == BackendState::Active).collect()
    } else {
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct B(ClusterName, BackendState, bool);
    impl Candidate for B {
        fn cluster(&self) -> &ClusterName {
            &self.0
        }
        fn state(&self) -> BackendState {
            self.1
        }
        fn reachable(&self) -> bool {
            self.2
        }
    }

    /// `l`/`r` local or remote; `+` active, `t` terminating, `-` not ready; `!` path down.
    fn parse(text: &str) -> Vec<B> {
        text.split_whitespace()
            .map(|w| {
                let cluster = if w.starts_with('l') { "here" } else { "there" };
                let state = match w.as_bytes()[1] {
                    b'+' => BackendState::Active,
                    b't' => BackendState::Terminating,
                    _ => BackendState::NotReady,
                };
                B(ClusterName::new(cluster).unwrap(), state, !w.ends_with('!'))
            })
            .collect()
    }

    /// What it shows, the consumer's settings, the backends, the chosen indices.
    type Case = (&'static str, Option<(bool, Affinity)>, &'static str, &'static [usize]);

    #[test]
    fn selection_follows_ciliums_flow_chart() {
        use Affinity::{Local, None as NoAffinity, Remote};
        let here = ClusterName::new("here").unwrap();
        let table: &[Case] = &[
            ("not global: local only", Some((false, NoAffinity)), "l+ r+", &[0]),
            ("not global without local backends: none", Some((false, NoAffinity)), "r+", &[]),
            ("global, none: both", Some((true, NoAffinity)), "l+ r+ r+", &[0, 1, 2]),
            ("local preferred while one is healthy", Some((true, Local)), "l+ l- r+", &[0]),
            ("local gone: remote", Some((true, Local)), "l- r+", &[1]),
            ("local only terminating: remote", Some((true, Local)), "lt r+", &[1]),
            ("local with nothing remote keeps local", Some((true, Local)), "lt", &[0]),
            ("remote preferred", Some((true, Remote)), "l+ r+", &[1]),
            ("remote gone: local", Some((true, Remote)), "l+ r-", &[0]),
            ("remote terminating: local", Some((true, Remote)), "l+ rt", &[0]),
            ("only remote clusters have it", None, "r+ r+", &[0, 1]),
            ("dead path leaves", Some((true, NoAffinity)), "l+ r+!", &[0]),
            ("dead path turns affinity remote to local", Some((true, Remote)), "l+ r+!", &[0]),
            ("dead paths never empty a service", None, "r+! r+!", &[0, 1]),
            ("terminating only when nothing is active", Some((true, NoAffinity)), "lt r+", &[1]),
            ("all terminating: kept", Some((true, NoAffinity)), "lt rt", &[0, 1]),
            ("not ready is never used", Some((true, NoAffinity)), "l- r-", &[]),
        ];
        for (what, local, backends, want) in table {
            let got = select(Consumer { cluster: &here, local: *local }, &parse(backends));
            assert_eq!(&got, want, "{what}: {backends}");
        }
    }
}
