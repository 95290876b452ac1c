//! Nanoseconds per packet of the datapath's programs, by BPF_PROG_TEST_RUN: `datapath_bench <result.json>`.
//!
//! Method. A kernel test run repeats with one packet, which the program changes: after the first translation it is no
//! service's packet any more. So the program `replay` writes the next of a list of headers into the packet and jumps into
//! the program under test; the same with the empty program under test is subtracted. All figures are absolute: the empty
//! program alone (the floor) is added again. Each is the best of several rounds, since everything else on the machine only
//! ever adds time.
//!
//! The lists are shuffled. Whatever the number of services, 1,000 of them, drawn from all, are in use: what the columns compare
//! is the number of services, not how much of it the CPU's caches hold.
//!
//! - `established_ns`: 4,096 flows to the services in use.
//! - `new_flow_ns`: each SYN from a port that the flow table has never seen; it is full, so an old flow is displaced.
//! - `new_flow_known_port_ns`: SYNs from each of a pod's 28,232 ports in turn, as a pod that opens connections all the time
//!   sends them: the flow table knows the port from a connection that is over.
//! - `new_flow_uniform_ns`: as `new_flow_ns`, and each for the next of *all* services: the caches help nowhere.
//! - `miss_ns`: packets to the world. `from_pod_ns`: to 10,000 remote pods, into the tunnel. `from_mesh_ns`: out of it.
//!
//! The backends are local, so that the first four measure the load balancing; the tunnel has figures of its own.

mod fixture;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use agent_ebpf::common::verdict::reason;
use agent_ebpf::pins::program;
use agent_ebpf::testrun::{NEXT, REDIRECT};
use anyhow::{Context as _, ensure};

use fixture::Fixture;
use report::Figures;

const SIZES: [u32; 3] = [10, 1_000, 100_000];
/// Short ones, so that some fall between what else the machine does.
const ROUNDS: u32 = 25;
const REPEAT: u32 = 100_000;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).context("usage: datapath_bench <result.json>")?;
    let mut all = Vec::new();
    for services in SIZES {
        all.push((services, measure(services).with_context(|| format!("with {services} services"))?));
    }
    report::write(&path, &all)
}

fn measure(services: u32) -> anyhow::Result<Figures> {
    let mut fixture = Fixture::new(services)?;
    let mut opened = 0;
    let all = u64::from(ROUNDS * REPEAT);

    fixture.use_headers(&fixture.misses())?;
    let miss = best(&mut fixture, |f| f.replay(program::FROM_POD, false, REPEAT, NEXT))?;
    ensure!(fixture.counted(reason::TRANSLATED)? == 0, "the world is no service");

    fixture.use_headers(&fixture.flows())?;
    // One pass opens the flows.
    fixture.replay(program::FROM_POD, false, fixture::FLOWS, NEXT)?;
    opened += u64::from(fixture::FLOWS);
    let established = best(&mut fixture, |f| f.replay(program::FROM_POD, false, REPEAT, NEXT))?;
    ensure!(fixture.counted(reason::TRANSLATED)? == opened, "flows were forgotten during the measurement");

    fixture.forget_flows()?;
    fixture.use_headers(&fixture.new_flows())?;
    fixture.replay(program::FROM_POD, true, fixture::EPHEMERAL_PORTS, NEXT)?;
    opened += u64::from(fixture::EPHEMERAL_PORTS);
    let known_port = best(&mut fixture, |f| f.replay(program::FROM_POD, true, REPEAT, NEXT))?;
    opened += all;
    ensure!(fixture.counted(reason::TRANSLATED)? == opened, "not every SYN opened a flow");

    let mut unseen = [Duration::MAX; 2];
    for (figure, headers) in unseen.iter_mut().zip([fixture.flows_from_unseen_ports(), fixture.flows_to_all()]) {
        fixture.forget_flows()?;
        fixture.use_headers(&headers)?;
        // Fills the table.
        fixture.replay(program::FROM_POD, true, REPEAT, NEXT)?;
        *figure = best(&mut fixture, |f| f.replay(program::FROM_POD, true, REPEAT, NEXT))?;
        opened += all + u64::from(REPEAT);
        ensure!(fixture.counted(reason::TRANSLATED)? == opened, "not every packet opened a flow");
    }

    fixture.use_headers(&fixture.remote_pods())?;
    let from_pod = best(&mut fixture, |f| f.replay(program::FROM_POD, false, REPEAT, REDIRECT))?;
    ensure!(fixture.counted(reason::ENCAPSULATED)? == all, "not every packet was encapsulated");

    let keyed = best(&mut fixture, |f| f.keyed(program::FROM_MESH, REPEAT))?;
    ensure!(fixture.counted(reason::DELIVERED)? == all, "not every packet was delivered");

    // The floors last: their rounds are as many, and the machine is as warm.
    let floor = best(&mut fixture, |f| f.empty(REPEAT))?;
    let prepared = best(&mut fixture, |f| f.replay(fixture::EMPTY, false, REPEAT, NEXT))?;
    let keyed_floor = best(&mut fixture, |f| f.keyed(fixture::EMPTY, REPEAT))?;
    let over = |time: Duration| floor + time.saturating_sub(prepared);
    let [new_flow, new_flow_uniform] = unseen.map(over);
    Ok(Figures {
        floor,
        established: over(established),
        new_flow,
        new_flow_known_port: over(known_port),
        new_flow_uniform,
        miss: over(miss),
        from_pod: over(from_pod),
        from_mesh: floor + keyed.saturating_sub(keyed_floor),
    })
}

fn best(
    fixture: &mut Fixture,
    mut run: impl FnMut(&mut Fixture) -> anyhow::Result<Duration>,
) -> anyhow::Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        least = least.min(run(fixture)?);
    }
    Ok(least)
}
