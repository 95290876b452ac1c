//! meshctl against real Kubernetes, as a person types it: two clusters are checked, the mesh is installed, joined and tested,
//! faults are injected and must be named with their remedies, a dump must hold no secret, and all is taken out again. Needs
//! root, Kubernetes' own programs (`cargo xtask k8s-tools`) and the images (`cargo xtask images --dev`); says `skipped: why`
//! without them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the failure, and what it prints is its report"
)]

mod connectivity;
mod dump;
mod faults;
mod meshctl;
mod world;

use std::time::Instant;

use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::release::missing;
use topology_tests::provider::{ClusterOptions, Plan};

use crate::world::World;

#[test]
fn meshctl_installs_joins_tests_and_removes_a_mesh_and_names_each_injected_fault() {
    let images = match missing() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Ptp, ProxyMode::Iptables)];
    let run = Kubernetes::up(&Plan { name: "meshctl".parse().unwrap(), clusters, nodes: 2 }).unwrap();
    println!("two clusters of two nodes are ready after {:.1} s", run.took.as_secs_f64());
    images.load(&run).unwrap();
    let world = World::new(&run, &images).unwrap();

    let mut named = faults::before_install(&world);
    let begun = Instant::now();
    world.install();
    println!("meshctl install, both clusters: {:.1} s", begun.elapsed().as_secs_f64());
    connectivity::says_what_to_do_where_clusters_are_not_joined(&world);
    let begun = Instant::now();
    world.connect();
    println!("meshctl connect: {:.1} s", begun.elapsed().as_secs_f64());
    world.is_well();
    connectivity::every_way_of_pods_passes(&world);
    connectivity::is_removed_after_an_interrupt(&world);
    dump::holds_what_is_needed_and_no_secret(&world);
    named += faults::of_an_installed_mesh(&world);
    println!("faults injected and named with a remedy: {named}");
    assert!(named >= 15, "{named}");

    world.uninstall();
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
}
