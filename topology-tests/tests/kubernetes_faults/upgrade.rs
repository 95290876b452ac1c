//! From an earlier commit's chart and images to this one's, and back, while pods of one cluster ask servers of the other. What
//! it starts from is made by `cargo xtask test-k8s-upgrade`.

use std::path::Path;

use topology_tests::binaries::Binaries;
use topology_tests::kubernetes::Kubernetes;
use topology_tests::kubernetes::release::{Images, Release, missing};

use crate::record::{Recorder, write};
use crate::{askers, plan, prepared, target};

const FOLDER: &str = "previous/images";
const CHART: &str = "previous/checkout/helm/isthmus";
const BUILD: &str = "cargo xtask test-k8s-upgrade";

/// This commit's images and the earlier one's, or why there are none.
fn both() -> Result<[Images; 2], String> {
    Ok([missing()?, Images::find_in(FOLDER, BUILD)?])
}

#[test]
fn an_upgrade_from_the_previous_commit_and_its_rollback_cost_no_request() {
    let [new, old] = match both() {
        Ok(images) => images,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let chart = Binaries::beside_this_one().unwrap().target_dir().join(CHART);
    let run = Kubernetes::up(&plan("k8supgrade")).unwrap();
    for images in [&old, &new] {
        images.load(&run).unwrap();
    }
    let [a, b] = prepared(&run);
    install(&chart, [&a, &b], &old);
    a.pods("app=web", 2).unwrap();
    let mut recorder =
        Recorder::start(&run, &askers(&b), &target(&b, "web"), &askers(&a), &target(&a, "plain")).unwrap();
    for release in [&a, &b] {
        recorder.fault(&format!("helm upgrade of {}", release.name()), "", |_| release.upgrade(&new)).unwrap();
    }
    for release in [&a, &b] {
        recorder.fault(&format!("helm rollback of {}", release.name()), "", |_| release.rollback()).unwrap();
    }
    let rows = recorder.end().unwrap();
    write("kubernetes-upgrade.json", &rows).unwrap();
    for row in &rows {
        assert!(row.mesh.requests > 0, "{}: nobody asked", row.fault);
        assert_eq!((row.mesh.failed, row.mesh.broken), (0, 0), "{}: {:?}", row.fault, row.mesh.errors);
    }
    assert_eq!(run.down().unwrap(), Vec::<String>::new());
}

/// As the earlier commit's users have it: with a volume for the server's state.
fn install(chart: &Path, clusters: [&Release<'_>; 2], images: &Images) {
    for (release, id) in clusters.into_iter().zip(1..) {
        release.install_from(chart, images, id, true).unwrap();
    }
    for release in clusters {
        release.ready().unwrap();
    }
    clusters[0].connect(1, clusters[1]).unwrap();
}
