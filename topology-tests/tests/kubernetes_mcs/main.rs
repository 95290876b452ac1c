//! The 27 cases of the MCS API's conformance suite (14 required, 13 optional) as tests of the project's own: two real clusters
//! with real nodes, the chart's mesh on them, connected once; then the cases one after the other, each in a namespace of its
//! own. Prints a table of them and writes `target/mcs.json`. Needs what `kubernetes_mesh` needs, and Go for the API's CRDs.

#![expect(clippy::print_stdout, reason = "what a test prints is its report")]

mod conflicts;
mod connectivity;
mod crds;
mod dns;
mod hello;
mod imports;
mod table;
mod world;

use serde_json::json;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::mcs_api;
use topology_tests::kubernetes::release::{Release, missing};
use topology_tests::provider::{ClusterOptions, Plan};

use crate::table::{Case, Level, Table};
use crate::world::World;

const IDS: [u32; 2] = [1, 2];

fn cases() -> Vec<Case> {
    use Level::{Optional, Required};
    let case = |number, level, name, run| Case { number, level, name, run };
    vec![
        case(1, Required, "not exported: inaccessible", connectivity::not_exported),
        case(2, Required, "an import exists while there is an export", imports::only_while_exported),
        case(3, Required, "ClusterIP: a ClusterSetIP import in each cluster", imports::of_a_cluster_ip),
        case(4, Required, "session affinity and its settings match", imports::session_affinity),
        case(5, Required, "internal traffic policy matches", imports::internal_traffic_policy),
        case(6, Required, "traffic distribution matches", imports::traffic_distribution),
        case(7, Required, "an address for each family", imports::addresses),
        case(8, Required, "ports match", imports::ports),
        case(9, Required, "the union of ports, and a conflict", conflicts::union_of_ports),
        case(10, Required, "conflicting ports: the oldest wins", conflicts::ports),
        case(11, Required, "headless: a Headless import in each cluster", imports::of_a_headless),
        case(12, Required, "headless: no address", imports::headless_has_no_address),
        case(13, Required, "ExternalName: not valid, no import", imports::external_name),
        case(14, Required, "conflicting headlessness: the oldest wins", conflicts::headlessness),
        case(15, Optional, "exported labels and annotations, and no others", imports::labels_and_annotations),
        case(16, Optional, "conflicting labels and annotations", conflicts::labels_and_annotations),
        case(17, Optional, "slices with the API's labels, gone when unexported", imports::slices),
        case(18, Optional, "a ClusterIP is reached through DNS", connectivity::through_dns),
        case(19, Optional, "in two clusters, exported by one: that one answers", connectivity::only_the_exporter),
        case(20, Optional, "one port name with two numbers", connectivity::one_name_two_numbers),
        case(21, Optional, "different port names", connectivity::different_names),
        case(22, Optional, "DNS: the address of the cluster set", dns::cluster_set_address),
        case(23, Optional, "DNS: SRV records", dns::service_records),
        case(24, Optional, "DNS: cluster.local stays the cluster's own", dns::cluster_local),
        case(25, Optional, "DNS, headless: all ready endpoints", dns::headless_addresses),
        case(26, Optional, "DNS, headless: a StatefulSet's pods by name", dns::headless_names),
        case(27, Optional, "DNS, headless: SRV of each endpoint", dns::headless_records),
    ]
}

#[test]
fn the_27_cases_of_the_mcs_api_hold_on_two_real_clusters() {
    let images = match missing()
        .and_then(|images| mcs_api::definitions().map(|_there| images).map_err(|why| format!("{why:#}")))
    {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Ptp, ProxyMode::Iptables)];
    let run = Kubernetes::up(&Plan { name: "mcs".parse().unwrap(), clusters, nodes: 1 }).unwrap();
    println!("two clusters are ready after {:.1} s", run.took.as_secs_f64());
    images.load(&run).unwrap();
    let releases = ["cluster-a", "cluster-b"].map(|name| Release::new(&run, name).unwrap());
    for release in &releases {
        crds::install(release.kubectl()).unwrap();
        dns::serve_the_cluster_set(release.kubectl()).unwrap();
    }
    std::thread::scope(|scope| {
        for (release, id) in releases.iter().zip(IDS) {
            let images = &images;
            scope.spawn(move || {
                release.install_with(images, id, &json!({ "mcs": { "enabled": true } })).unwrap();
                release.ready().unwrap();
            });
        }
    });
    let [a, b] = &releases;
    a.connect(IDS[0], b).unwrap();
    let world = World::new(releases).unwrap();
    println!("the mesh is up and connected");

    // Some of them, by their numbers: for whoever looks into one.
    let wanted = std::env::var("ISTHMUS_MCS_CASES").ok();
    let wanted = |case: &Case| wanted.as_ref().is_none_or(|list| list.split(',').any(|n| n == case.number.to_string()));
    let mut table = Table::default();
    for case in cases().into_iter().filter(wanted) {
        let namespace = format!("mcs-{}", case.number);
        world.begin(&namespace).unwrap();
        table.add(&case, || (case.run)(&world, &namespace));
        world.end(&namespace).unwrap();
    }
    println!("{table}");
    table.write().unwrap();
    let failed = table.failed();
    drop(world);
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
    assert_eq!(failed, Vec::<u32>::new(), "these cases failed");
}
