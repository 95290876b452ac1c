//! Running programs on crafted packets (`BPF_PROG_TEST_RUN`), for tests and benchmarks.
//!
//! The kernel's test run takes bytes and a few context fields; a tunnel key it cannot take, and it repeats with one and the
//! same packet, rewritten as it may be. For both there is a small program that prepares the packet and then jumps into the
//! program under test; its own cost is measured by jumping into the empty program.

use std::time::Duration;

use aya::maps::{Array, MapError, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};

use crate::datapath::{self, Datapath};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testrun"));

const EMPTY: &str = "empty";
const KEYED: &str = "keyed";
const REPLAY: &str = "replay";

/// Size of the kernel's `struct __sk_buff`, and where the fields are that a run may set.
const CONTEXT: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;

/// Room for what a program adds to a packet.
const SLACK: usize = 256;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    #[error("run {program}")]
    Run { program: &'static str, source: ProgramError },
    #[error("prepare the map {map}")]
    Map { map: &'static str, source: MapError },
}

/// What a packet comes with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    pub mark: u32,
    /// Device; 0 stands for the loopback device, number 1.
    pub ifindex: u32,
    pub gso_size: u32,
    /// Identity and sending node (IPv4, host order) in the tunnel key.
    pub tunnel: Option<(u32, u32)>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The program's answer: `NEXT`, `SHOT`, `REDIRECT`.
    pub answer: i32,
    pub packet: Vec<u8>,
    pub mark: u32,
    /// Time of one run, the mean of all repeats.
    pub time: Duration,
}

pub const NEXT: i32 = -1;
pub const SHOT: i32 = 2;
pub const REDIRECT: i32 = 7;

/// Bytes that [`TestRun::replay`] writes into each packet: from the IPv4 header's checksum to the destination port.
pub type Header = [u8; 16];

/// A datapath with the preparing programs beside it.
pub struct TestRun {
    pub datapath: Datapath,
    tools: Ebpf,
}

impl TestRun {
    /// `headers` is the most that [`Self::replay`] will be given.
    pub fn new(datapath: Datapath, headers: u32) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("HEADERS", headers);
        let mut tools = loader.load(OBJECT).map_err(datapath::Error::Object)?;
        for name in [EMPTY, KEYED, REPLAY] {
            datapath::load(&mut tools, name)?;
        }
        Ok(Self { datapath, tools })
    }

    /// One run of a program of the datapath, or of `empty`.
    pub fn run(&mut self, program: &'static str, packet: &[u8], context: Context) -> Result<Outcome, Error> {
        match context.tunnel {
            None => self.start(program, packet, context, 1),
            Some((identity, node)) => {
                self.tunnel(identity, node)?;
                self.aim(program)?;
                self.start(KEYED, packet, context, 1)
            }
        }
    }

    /// Mean time of `repeat` runs on an unchanging packet.
    pub fn time(
        &mut self,
        program: &'static str,
        packet: &[u8],
        context: Context,
        repeat: u32,
    ) -> Result<Duration, Error> {
        if let Some((identity, node)) = context.tunnel {
            self.tunnel(identity, node)?;
            self.aim(program)?;
            return Ok(self.start(KEYED, packet, context, repeat)?.time);
        }
        Ok(self.start(program, packet, context, repeat)?.time)
    }

    /// Mean time of `repeat` runs, each with the next of the headers given by [`Self::set_headers`], from the first on.
    pub fn replay(
        &mut self,
        program: &'static str,
        packet: &[u8],
        context: Context,
        repeat: u32,
    ) -> Result<Outcome, Error> {
        self.aim(program)?;
        let at = self.position()?[1];
        self.set_position([0, at])?;
        self.start(REPLAY, packet, context, repeat)
    }

    pub fn set_headers(&mut self, headers: &[Header]) -> Result<(), Error> {
        const MAP: &str = "HEADERS";
        let mut map = self.array::<Header>(MAP)?;
        for (at, header) in (0..).zip(headers) {
            map.set(at, header, 0).map_err(|source| Error::Map { map: MAP, source })?;
        }
        self.set_position([0, u32::try_from(headers.len()).unwrap_or(u32::MAX)])
    }

    /// Instructions that the verifier walked through, by program of this object.
    pub fn verified_instructions(&self) -> Result<Vec<(&'static str, u32)>, Error> {
        let names = [EMPTY, KEYED, REPLAY];
        names.iter().map(|name| Ok((*name, datapath::verified(&self.tools, name)?))).collect()
    }

    fn start(&mut self, name: &'static str, packet: &[u8], context: Context, repeat: u32) -> Result<Outcome, Error> {
        let mut context_in = [0; CONTEXT];
        for (at, value) in [(MARK, context.mark), (IFINDEX, context.ifindex), (GSO_SIZE, context.gso_size)] {
            context_in[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut context_out = [0; CONTEXT];
        let mut packet_out = vec![0; packet.len() + SLACK];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut packet_out),
            ctx_in: Some(&context_in),
            ctx_out: Some(&mut context_out),
            repeat,
            ..TestRunOptions::new()
        };
        let object = if [EMPTY, KEYED, REPLAY].contains(&name) { &mut self.tools } else { self.datapath.programs() };
        let result = classifier(object, name)?.test_run(options);
        let result = result.map_err(|source| Error::Run { program: name, source })?;
        packet_out.truncate(result.data_size_out as usize);
        let [a, b, c, d] = [context_out[MARK], context_out[MARK + 1], context_out[MARK + 2], context_out[MARK + 3]];
        Ok(Outcome {
            answer: result.return_value.cast_signed(),
            packet: packet_out,
            mark: u32::from_ne_bytes([a, b, c, d]),
            time: result.duration,
        })
    }

    /// Makes the preparing programs jump into `program`.
    fn aim(&mut self, program: &'static str) -> Result<(), Error> {
        const MAP: &str = "JUMP";
        let failed = |source| Error::Run { program, source };
        let object = if program == EMPTY { &mut self.tools } else { self.datapath.programs() };
        let fd = classifier(object, program)?.fd().and_then(|fd| fd.try_clone().map_err(ProgramError::IOError));
        let fd = fd.map_err(failed)?;
        let map = self.tools.map_mut(MAP).ok_or(datapath::Error::NoProgram(MAP))?;
        let mut jump = ProgramArray::try_from(map).map_err(|source| Error::Map { map: MAP, source })?;
        jump.set(0, &fd, 0).map_err(|source| Error::Map { map: MAP, source })
    }

    fn tunnel(&mut self, identity: u32, node: u32) -> Result<(), Error> {
        const MAP: &str = "TUNNEL";
        let mut map = self.array::<[u32; 2]>(MAP)?;
        map.set(0, [identity, node], 0).map_err(|source| Error::Map { map: MAP, source })
    }

    fn position(&mut self) -> Result<[u32; 2], Error> {
        const MAP: &str = "POSITION";
        self.array(MAP)?.get(&0, 0).map_err(|source| Error::Map { map: MAP, source })
    }

    fn set_position(&mut self, position: [u32; 2]) -> Result<(), Error> {
        const MAP: &str = "POSITION";
        let mut map = self.array::<[u32; 2]>(MAP)?;
        map.set(0, position, 0).map_err(|source| Error::Map { map: MAP, source })
    }

    fn array<T: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut aya::maps::MapData, T>, Error> {
        let map = self.tools.map_mut(name).ok_or(datapath::Error::NoProgram(name))?;
        Array::try_from(map).map_err(|source| Error::Map { map: name, source })
    }
}

fn classifier<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    let program = object.program_mut(name).ok_or(datapath::Error::NoProgram(name))?;
    program.try_into().map_err(|source| Error::Run { program: name, source })
}
