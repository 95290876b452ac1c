//! The command line of `meshctl store`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Every replica's store: role, revision, size, alarms; exit 2 when something is not well
    Status,
    /// Who keeps the store
    Members,
    /// Do all replicas hold the same? With FILE: is a snapshot whole?
    Check(Check),
    /// Forget history; the present stays
    Compact(Compact),
    /// The whole store as a file, and back
    #[command(subcommand)]
    Snapshot(Snapshot),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// A file of `meshctl store snapshot save`; no cluster is asked then
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Compact {
    /// History below it can no longer be read or watched; `meshctl store status` shows the newest
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) revision: i64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Save the store of one cluster (-c); the file is whole or not there
    Save(Save),
    /// Make a new store of a file, for an API server that has none; asks no cluster
    ///
    /// The new store goes on from the revision of the file, under a cluster id of its own, so that every client lists again.
    /// Start one mesh-apiserver on it, with the CA of the old state folder; its replicas then join empty.
    Restore(Restore),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Save {
    /// Where to; must not exist yet
    pub(crate) file: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Restore {
    pub(crate) file: PathBuf,
    /// The state folder that mesh-apiserver will be started with; it must hold no store yet
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state_dir: PathBuf,
}
