//! The command line of `meshctl certs`.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Every CA and leaf with its end, and how far a rotation is; exit 2 when one has expired or a rotation is unfinished
    Status,
    /// Renew leaves now, or go over to another CA
    Rotate(Rotate),
    /// Make the CA of a cluster that has not been started yet, as files; asks no cluster
    CreateCa(CreateCa),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CreateCa {
    /// Name of the cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// Folder to make, for ca.crt and ca.key
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("what").required(true).args(["leaf", "ca"])))]
pub(crate) struct Rotate {
    /// Renew leaves: all of the cluster's, or the one of this common name
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub(crate) leaf: Option<String>,
    /// Go over to a new CA, stage by stage: all trust both, leaves change hands, the old one goes
    #[arg(long)]
    pub(crate) ca: bool,
    /// Take a rotation of the CA back: the old CA stays, the new one is trusted no more
    #[arg(long, requires = "ca", conflicts_with = "leaf")]
    pub(crate) abort: bool,
    /// Begin, and leave: the cluster goes on by itself, and `meshctl certs status` shows how far it is
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Seconds to wait for the end; the cluster goes on by itself afterwards
    #[arg(long, value_name = "SECONDS", default_value_t = 300, conflicts_with = "no_wait")]
    pub(crate) wait: u32,
}
