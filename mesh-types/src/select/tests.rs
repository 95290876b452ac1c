use std::collections::BTreeMap;

use super::*;
use crate::preference::Affinity;

struct B {
    cluster: ClusterName,
    state: BackendState,
    reachable: bool,
    weight: u16,
}

impl Candidate for B {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }
    fn state(&self) -> BackendState {
        self.state
    }
    fn reachable(&self) -> bool {
        self.reachable
    }
    fn weight(&self) -> u16 {
        self.weight
    }
}

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

/// Cluster by letter, `l` the own one; `+` active, `t` terminating, `-` not ready; `!` path down; a number: its weight.
fn parse(text: &str) -> Vec<B> {
    text.split_whitespace()
        .map(|word| B {
            cluster: name(&word[..1]),
            state: match word.as_bytes()[1] {
                b'+' => BackendState::Active,
                b't' => BackendState::Terminating,
                _ => BackendState::NotReady,
            },
            reachable: !word.ends_with('!'),
            weight: word[2..].trim_end_matches('!').parse().unwrap_or(1),
        })
        .collect()
}

fn indices(chosen: &[Chosen]) -> Vec<usize> {
    chosen.iter().map(|chosen| chosen.index).collect()
}

fn preference(annotations: &str) -> Preference {
    let parts = annotations.split(' ').filter_map(|part| part.split_once(':'));
    let annotations = parts.map(|(name, value)| (format!("mesh.isthmus.io/{name}"), value.to_owned())).collect();
    Preference::from_annotations(&annotations).unwrap()
}

/// What it shows, the consumer's settings, the backends, the chosen indices.
type Case = (&'static str, Option<(bool, Affinity)>, &'static str, &'static [usize]);

#[test]
fn selection_follows_ciliums_flow_chart() {
    use Affinity::{Local, None as NoAffinity, Remote};
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
        ("all terminating: the preferred ones", Some((true, Local)), "lt rt", &[0]),
        ("not ready is never used", Some((true, NoAffinity)), "l- r-", &[]),
    ];
    for (what, local, backends, want) in table {
        let settings = local.map(|(global, affinity)| (global, Preference { affinity, ..Preference::default() }));
        let local = settings.as_ref().map(|(global, preference)| (*global, preference));
        let got = select(Consumer { cluster: &name("l"), local }, &parse(backends));
        assert_eq!(&indices(&got), want, "{what}: {backends}");
        assert!(got.iter().all(|chosen| chosen.weight == 1), "{what}");
    }
}

/// Percentages of new connections by cluster, of a global Service.
fn shares(annotations: &str, backends: &str) -> BTreeMap<String, u32> {
    let preference = preference(annotations);
    let backends = parse(backends);
    let chosen = select(Consumer { cluster: &name("l"), local: Some((true, &preference)) }, &backends);
    let total: f64 = chosen.iter().map(|chosen| f64::from(chosen.weight)).sum();
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for Chosen { index, weight } in chosen {
        *shares.entry(backends[index].cluster.to_string()).or_default() += f64::from(weight) / total * 100.0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
    shares.into_iter().map(|(cluster, share)| (cluster, share.round() as u32)).collect()
}

fn text(shares: &BTreeMap<String, u32>) -> String {
    shares.iter().map(|(cluster, share)| format!("{cluster}{share}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn order_weights_and_spill_over_divide_the_connections() {
    // What it shows, annotations, backends, percentages by cluster.
    let table = [
        ("own first", "failover:b,c", "l+ b+ c+ d+", "l100"),
        ("then in order", "failover:b,c", "l- b+ c+ d+", "b100"),
        ("and on", "failover:b,c", "l- b- c+ c+ d+", "c100"),
        ("then whoever is not named, together", "failover:b,c", "l- c- d+ e+", "d50 e50"),
        ("the own cluster may stand in the order", "failover:b,l,c", "l+ b+ c+", "b100"),
        ("where it stands", "failover:b,l,c", "l+ b- c+", "l100"),
        ("affinity remote puts it last", "failover:b affinity:remote", "l+ b- c+", "c100"),
        ("last means last", "failover:b affinity:remote", "l+ b- c-", "l100"),
        ("a dead path is no backend", "failover:b,c", "l- b+! c+", "c100"),
        ("dead paths everywhere: the first tier", "failover:b,c", "l- b+! c+!", "b100"),
        ("terminating ones only at last", "failover:b,c", "lt bt c+", "c100"),
        ("a cluster that nobody knows is passed over", "failover:x,b", "l- b+ c+", "b100"),
        ("no spill-over: the last backend takes all", "failover:b", "l+ l- l- l- b+", "l100"),
        ("spill-over: half of what is wanted", "failover:b spillover:50%", "l+ l- l- l- b+", "b50 l50"),
        ("enough is healthy", "failover:b spillover:50%", "l+ l+ l- l- b+", "l100"),
        ("it spills on", "failover:b,c spillover:100%", "l+ l- b+ b- c+ c-", "b25 c25 l50"),
        ("the last tier takes what is left", "failover:b spillover:100%", "l- l- b+ b- b-", "b100"),
        ("spill-over with affinity", "affinity:local spillover:100%", "l+ l+ l+ l- b+", "b25 l75"),
        ("a dead path counts as unhealthy", "failover:b spillover:100%", "l+ l+! b+", "b50 l50"),
        ("weights are shares of clusters, not of backends", "weights:l=80,b=20", "l+ b+ b+ b+", "b20 l80"),
        ("a share without backends goes to the others", "weights:l=60,b=20,c=20", "l- b+ c+ c+", "b50 c50"),
        ("weight 0 is drained", "weights:l=1,b=0", "l+ b+", "l100"),
        ("not named is drained", "weights:l=1", "l+ b+", "l100"),
        ("until nobody else can", "weights:l=1,b=0", "l- b+ c+", "b50 c50"),
        ("backends' own weights count within their cluster", "weights:l=50,b=50", "l+3 l+1 b+", "b50 l50"),
        ("nothing to choose from", "failover:b", "l- b-", ""),
    ];
    for (what, annotations, backends, want) in table {
        assert_eq!(text(&shares(annotations, backends)), want, "{what}: {annotations}, {backends}");
    }
}

#[test]
fn a_backends_own_weight_counts_within_its_part() {
    let preference = preference("weights:l=50,b=50");
    let chosen = select(Consumer { cluster: &name("l"), local: Some((true, &preference)) }, &parse("l+3 l+1 b+"));
    assert_eq!(chosen.iter().map(|chosen| chosen.weight).collect::<Vec<_>>(), [7_500, 2_500, 10_000]);
    let plain = Preference::default();
    let chosen = select(Consumer { cluster: &name("l"), local: Some((true, &plain)) }, &parse("l+3 b+1 b+0"));
    assert_eq!(chosen.iter().map(|chosen| chosen.weight).collect::<Vec<_>>(), [3, 1, 1], "as they are");
}

#[test]
fn the_smallest_share_is_never_lost() {
    let backends = "l+ ".to_owned() + &"b+ ".repeat(600);
    let preference = preference("weights:l=65535,b=1");
    let chosen = select(Consumer { cluster: &name("l"), local: Some((true, &preference)) }, &parse(&backends));
    assert_eq!(chosen.len(), 601);
    assert!(chosen.iter().all(|chosen| chosen.weight >= 1));
}
