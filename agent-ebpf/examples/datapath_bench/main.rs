//! Nanoseconds per packet of the datapath's programs, by BPF_PROG_TEST_RUN: `datapath_bench <result.json>`.
//!
//! Method. A kernel test run repeats with one packet, which the program changes: after the first translation it is no
//! service's packet any more. So the program `replay` writes the next of a list of headers into the packet and jumps into
//! the program under test; the same with the empty program under test is subtracted. All figures are absolute: the empty
//! program alone (the floor) is added again. Each is the best of several rounds, since everything else on the machine only
//! ever adds time.
//!
//! The lists are shuffled over all services: at 100,000 services every packet is for another service, whose entries the
//! CPU's first caches do not hold. Established flows are as many at every size, so that the figure shows the number of
//! services, not the number of flows.

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
const ROUNDS: u32 = 9;
const REPEAT: u32 = 300_000;

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
    let floor = best(|| fixture.empty(REPEAT))?;
    let prepared = {
        fixture.use_headers(&fixture.misses())?;
        best(|| fixture.replay(fixture::EMPTY, false, REPEAT, NEXT))?
    };
    let over = |time: Duration| floor + time.saturating_sub(prepared);

    fixture.use_headers(&fixture.established())?;
    // One pass opens the flows.
    fixture.replay(program::FROM_POD, false, fixture::FLOWS, NEXT)?;
    let opened = fixture.counted(reason::TRANSLATED)?;
    let established = best(|| fixture.replay(program::FROM_POD, false, REPEAT, NEXT))?;
    ensure!(fixture.counted(reason::TRANSLATED)? == opened, "flows were forgotten during the measurement");

    fixture.use_headers(&fixture.new_flows())?;
    let new_flow = best(|| fixture.replay(program::FROM_POD, true, REPEAT, NEXT))?;
    let expected = opened + u64::from(ROUNDS * REPEAT);
    ensure!(fixture.counted(reason::TRANSLATED)? == expected, "not every packet opened a flow");

    fixture.use_headers(&fixture.misses())?;
    let miss = best(|| fixture.replay(program::FROM_POD, false, REPEAT, NEXT))?;

    fixture.use_headers(&fixture.remote_pods())?;
    let from_pod = best(|| fixture.replay(program::FROM_POD, false, REPEAT, REDIRECT))?;
    ensure!(fixture.counted(reason::ENCAPSULATED)? == u64::from(ROUNDS * REPEAT), "not every packet was encapsulated");

    let keyed_floor = best(|| fixture.keyed(fixture::EMPTY, REPEAT))?;
    let keyed = best(|| fixture.keyed(program::FROM_MESH, REPEAT))?;
    ensure!(fixture.counted(reason::DELIVERED)? >= u64::from(ROUNDS * REPEAT), "not every packet was delivered");

    Ok(Figures {
        floor,
        established: over(established),
        new_flow: over(new_flow),
        miss: over(miss),
        from_pod: over(from_pod),
        from_mesh: floor + keyed.saturating_sub(keyed_floor),
    })
}

fn best(mut run: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        least = least.min(run()?);
    }
    Ok(least)
}
