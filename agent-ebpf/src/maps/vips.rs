//! `VIPS`: which bits of the addresses' hash belong to a service.
//!
//! A bit must be set before its service is written, and cleared only after the last service with it is gone: a bit too many
//! costs a look-up, one too few would let packets pass untranslated.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use agent_ebpf_common::service::vips;
use agent_ebpf_common::{Addr, ServiceKey};

use super::table::Table;
use super::{Access, Error};
use crate::pins::map;
use crate::{Pins, sys};

pub(super) struct Vips {
    shared: sys::SharedWords,
    /// Services per bit. Written with the bit under one lock.
    counts: Mutex<HashMap<u32, u32>>,
}

impl Vips {
    /// Takes the services that there are: bits that an earlier agent left are corrected.
    pub(super) fn open<'a>(pins: &Pins, services: impl Iterator<Item = &'a ServiceKey>) -> Result<Self, Error> {
        let table: Table<u32, [u32; vips::LINE_WORDS]> = Table::open(pins, map::VIPS, Access::ReadWrite)?;
        let bytes = size_of::<[u32; vips::LINE_WORDS]>() * vips::LINES as usize;
        let shared = sys::SharedWords::map(table.fd(), bytes).map_err(table.failed("map into memory"))?;
        let mut counts = HashMap::new();
        let mut words = vec![0; bytes / 4];
        for key in services {
            let bit = vips::bit(&key.addr);
            *counts.entry(bit).or_insert(0) += 1;
            let (word, mask) = place(bit);
            words[word] |= mask;
        }
        for (slot, word) in shared.words().iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        Ok(Self { shared, counts: Mutex::new(counts) })
    }

    /// Before a service is written. One call for each; [`Self::remove`] takes one back.
    pub(super) fn add(&self, addr: &Addr) {
        let bit = vips::bit(addr);
        let (word, mask) = place(bit);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(bit).or_insert(0) += 1;
        self.shared.words()[word].fetch_or(mask, Ordering::Relaxed);
    }

    /// After a service is gone.
    pub(super) fn remove(&self, addr: &Addr) {
        let bit = vips::bit(addr);
        let (word, mask) = place(bit);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&bit).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&bit);
            self.shared.words()[word].fetch_and(!mask, Ordering::Relaxed);
        } else {
            counts.insert(bit, left);
        }
    }
}

fn place(bit: u32) -> (usize, u32) {
    let (line, word, mask) = vips::place(bit);
    (line as usize * vips::LINE_WORDS + word, mask)
}
