//! The command line of `meshctl store`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Every replica's store: role, revision, size, alarms; exit 2 when something is not well
    Status,
    /// Who keeps the store; add a replica, remove one
    Members(Members),
    /// Do all replicas hold the same? With FILE: is a snapshot whole?
    Check(Check),
    /// Forget history; the present stays
    Compact(Compact),
    /// The whole store as a file, and back
    #[command(subcommand)]
    Snapshot(Snapshot),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Members {
    #[command(subcommand)]
    pub(crate) change: Option<MembersChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MembersChange {
    /// Add a replica to one cluster (-c); then start it empty, with --replica-join
    ///
    /// It only listens until it has caught up; then it counts, by itself. To replace a replica whose data is lost, remove it and
    /// add the new one under an id that none had before.
    Add {
        /// The new replica's id and the host at which the others reach it
        #[arg(value_name = "ID=HOST", value_parser = id_and_host)]
        replica: (u64, String),
    },
    /// Remove a replica from one cluster (-c); then stop it and delete its state folder
    Remove {
        /// Its id, as `meshctl store members` shows it: hexadecimal, as with etcdctl
        #[arg(value_parser = member_id)]
        id: u64,
    },
}

fn id_and_host(text: &str) -> Result<(u64, String), String> {
    let parts = text.split_once('=').filter(|(_, host)| !host.is_empty());
    let (id, host) = parts.ok_or("it is not ID=HOST, such as 4=10.0.0.4")?;
    let id = id.parse().ok().filter(|id| *id != 0).ok_or_else(|| format!("{id:?} is not a number from 1"))?;
    Ok((id, host.to_owned()))
}

/// Shown in hexadecimal everywhere, as etcdctl does.
fn member_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16)
        .map_err(|e| format!("{text:?} is not a member's id ({e}): see `meshctl store members`"))
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
