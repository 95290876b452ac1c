//! The users' documents, done as a reader does them: two real clusters, an empty folder, a terminal, and every command of every
//! page in the order of use. A command must end as the page says and show what the page shows (`topology_tests::docs`; the
//! rules for authors are in docs/kubernetes-tests.md). Needs what `kubernetes_mesh` needs, and Go for the MCS API's CRDs; says
//! `skipped: why` without them.

#![expect(clippy::print_stdout, reason = "what a test prints is its report")]

mod reading;
mod terminal;
mod world;

use topology_tests::docs::pages;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::cni::Cni;
use topology_tests::kubernetes::kube_proxy::ProxyMode;
use topology_tests::kubernetes::mcs_api;
use topology_tests::kubernetes::release::{Images, missing};
use topology_tests::provider::{ClusterOptions, Plan};

use crate::reading::Reading;
use crate::world::World;

fn needed() -> Result<Images, String> {
    let images = missing()?;
    mcs_api::definitions().map_err(|why| format!("{why:#}"))?;
    Ok(images)
}

#[test]
fn each_command_of_the_guide_does_what_it_says() {
    let pages = pages::to_run().unwrap();
    let images = match needed() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let cluster = |cni, proxy| ClusterOptions { cni, proxy, masquerade: true };
    let clusters = vec![cluster(Cni::Bridge, ProxyMode::Nftables), cluster(Cni::Ptp, ProxyMode::Iptables)];
    let run = Kubernetes::up(&Plan { name: "docs".parse().unwrap(), clusters, nodes: 1 }).unwrap();
    println!("two clusters are ready after {:.1} s", run.took.as_secs_f64());
    let world = World::new(&run, &images).unwrap();
    let mut reading = Reading::new(&world.terminal);
    reading.all(&pages);
    if reading.has_faults() {
        world.dump(run.logs());
    }
    let report = reading.end();
    drop(world);
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
    assert!(report.faults.is_empty(), "the pages are wrong here:\n\n{}", report.faults.join("\n\n"));
    assert!(report.commands > 0);
}
