//! The Helm chart: what it renders is what was reviewed, what it refuses it names, what it documents is what there is, and a
//! real kube-apiserver takes all of it.
//!
//! Runs the real helm, which `ISTHMUS_HELM` names; else the one in PATH, or the one that the project's tools cache holds.
//! `ISTHMUS_GOLDEN=write` writes the files in `helm/isthmus/tests/golden` anew, to be looked at before they are committed.

#![expect(clippy::print_stdout, reason = "what a test prints is its report")]

// Shared with the test that runs kube-apiserver on the store, which uses all of it.
#[path = "../kube_apiserver/api.rs"]
#[allow(dead_code, reason = "shared: this test opens no watch")]
mod api;
#[path = "../kube_apiserver/apiserver.rs"]
#[allow(dead_code, reason = "shared: this test waits for no compaction")]
mod apiserver;
#[path = "../kube_apiserver/process.rs"]
mod process;

mod dry_run;
mod golden;
mod helm;
mod mcs;
mod refused;
mod rights;
mod settings;
mod table;
