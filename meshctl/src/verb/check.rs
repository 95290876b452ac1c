//! `meshctl check`: can the mesh be installed here, and once it is, is all as it must be. Each line is one thing that was
//! looked at; what is not well has its remedy. Pods that look into nodes are removed again; nothing else is written.

mod facts;
mod finding;
mod gather;
mod judge;
mod planned;
mod probe;

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;

use self::facts::Facts;
use self::finding::Finding;
pub(crate) use self::gather::state as pod_state;
use crate::app::Run;
use crate::args::kubernetes::Check;
use crate::config::{Address, Context};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubernetes::Access;
use crate::output;
use crate::verb::preflight::{self, Severity};
use crate::verb::release;

/// How each cluster is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) timeout: Duration,
    pub(crate) probes: bool,
    pub(crate) probe_patience: Duration,
    pub(crate) image: Option<String>,
    /// Before an install: of what is to come.
    pub(crate) planned_image: String,
    pub(crate) cgroup: String,
    /// The install that is to come has it.
    pub(crate) plans_userspace_tunnel: bool,
}

/// Where most nodes have it.
const CGROUP: &str = "/sys/fs/cgroup";

pub(crate) async fn run(run: &Run, args: &Check) -> Result<Exit, Failure> {
    let asked = run.asked.iter().map(access).collect::<Result<Vec<_>, _>>()?;
    let planned = planned::read(&args.files)?;
    let options = Options {
        timeout: run.timeout,
        probes: !args.no_probe,
        probe_patience: Duration::from_secs(u64::from(args.probe_timeout)),
        image: args.image.clone(),
        planned_image: planned.image.unwrap_or_else(|| release::image("node-agent")),
        cgroup: args.cgroup.clone().or(planned.cgroup).unwrap_or_else(|| CGROUP.to_owned()),
        plans_userspace_tunnel: planned.has_userspace_tunnel,
    };
    let facts = join_all(asked.iter().map(|access| gather::facts(access, &options))).await;
    let now = Timestamp::now();
    let mut findings: Vec<Finding> = facts.iter().flat_map(|facts| judge::judge(facts, now)).collect();
    findings.extend(judge::across(&facts));
    findings.extend(between(run, &facts).await);
    run.output.data(&findings, |findings, colour| finding::render(findings, colour))?;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (faults, warnings) = (count(Severity::Fail), count(Severity::Warn));
    output::note(format!("{faults} faults, {warnings} warnings, {} passed", count(Severity::Pass)));
    Ok(if faults > 0 { Exit::Degraded } else { Exit::Ok })
}

/// Only clusters of Kubernetes have what is looked at.
fn access(context: &Context) -> Result<Access, Failure> {
    match context.addresses.first() {
        Some(Address::Kubernetes(access)) => Ok(access.clone()),
        _ => Err(Failure::said(
            Exit::Usage,
            &context.name,
            "it is no context of a kubeconfig: there is nothing to check",
        )
        .hint("for clusters on machines use `meshctl preflight A B`, `meshctl status` and `meshctl troubleshoot`")),
    }
}

/// What the servers find of each other: whether the told addresses and ports are reached, and what contradicts. Only those
/// that could be asked.
async fn between(run: &Run, facts: &[Facts]) -> Vec<Finding> {
    let answers = |facts: &&Facts| matches!(facts.mesh.as_ref().and_then(|mesh| mesh.admin.as_ref()), Some(Ok(_)));
    let able: Vec<&Facts> = facts.iter().filter(answers).collect();
    let mut found = Vec::new();
    for (i, a) in able.iter().enumerate() {
        for b in &able[i + 1..] {
            match Box::pin(preflight::between(run, &a.context, &b.context)).await {
                Ok(lines) => found.extend(lines.into_iter().map(|(severity, check, text)| Finding {
                    context: format!("{} and {}", a.context, b.context),
                    remedy: if severity == Severity::Pass { String::new() } else { remedy(&check).to_owned() },
                    check,
                    severity,
                    text,
                })),
                Err(failure) => run.output.failure(&failure),
            }
        }
    }
    found
}

/// Where the finding's own words are not yet what to do.
fn remedy(check: &str) -> &'static str {
    match check {
        "reach" | "port" | "ports" => {
            "open the two ports of apiserver.service (NodePort: 32379/tcp and 32382/tcp) from the other cluster's nodes, and see \
             that apiserver.advertise.addresses are reached from there"
        }
        "clock" => "synchronise the nodes of both with NTP (chronyc tracking)",
        _ => "change what is named in one of the two clusters",
    }
}
