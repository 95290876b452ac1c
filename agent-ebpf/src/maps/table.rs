//! One map of keys and values: the calls that all typed maps share.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Pod;

use super::{Access, Error};
use crate::{Pins, sys};

/// Elements a batch call moves at once: 64 KiB to a few hundred KiB of buffers.
const BATCH: u32 = 4_096;

pub(super) struct Table<K, V> {
    fd: OwnedFd,
    name: &'static str,
    pub(super) entries: u32,
    kind: PhantomData<fn() -> (K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(super) fn open(pins: &Pins, name: &'static str, access: Access) -> Result<Self, Error> {
        Self::open_sized(pins, name, access, size_of::<V>())
    }

    /// With another size of value than `V`'s: a per-CPU map is described by the size of one CPU's value.
    pub(super) fn open_sized(pins: &Pins, name: &'static str, access: Access, value: usize) -> Result<Self, Error> {
        let path = pins.map(name);
        let open = || {
            let fd = sys::object_get(&path, access == Access::ReadOnly)?;
            let facts = sys::map_facts(fd.as_fd())?;
            Ok((fd, facts))
        };
        let (fd, facts) = open().map_err(|source| Error::Open { path: path.clone(), source })?;
        let key = size_of::<K>();
        if facts.key_size as usize != key || facts.value_size as usize != value {
            let (found_key, found_value) = (facts.key_size, facts.value_size);
            return Err(Error::Layout { map: name, key, value, found_key, found_value });
        }
        Ok(Self { fd, name, entries: facts.max_entries, kind: PhantomData })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> Error + use<K, V> {
        let (map, entries) = (self.name, self.entries);
        move |source| match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map, entries },
            Some(libc::EPERM) if call != "read" => Error::ReadOnly { map },
            _ => Error::Call { map, call, source },
        }
    }

    pub(super) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = vec![0; size_of::<V>()];
        let found = sys::map_lookup(self.fd(), sys::bytes_of(key), &mut value).map_err(self.failed("read"))?;
        Ok(found.then(|| sys::value_of(&value)))
    }

    pub(super) fn insert(&self, key: &K, value: &V) -> Result<(), Error> {
        sys::map_update(self.fd(), sys::bytes_of(key), sys::bytes_of(value), 0).map_err(self.failed("write"))
    }

    /// Whether the key was new; if not, its value stays.
    pub(super) fn insert_new(&self, key: &K, value: &V) -> Result<bool, Error> {
        match sys::map_update(self.fd(), sys::bytes_of(key), sys::bytes_of(value), sys::NO_EXIST) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            result => result.map(|()| true).map_err(self.failed("write")),
        }
    }

    /// Whether there was an entry.
    pub(super) fn remove(&self, key: &K) -> Result<bool, Error> {
        sys::map_delete(self.fd(), sys::bytes_of(key)).map_err(self.failed("delete"))
    }

    /// Later duplicates of a key win. On an error a part may have been written; writing again is harmless.
    pub(super) fn insert_batch(&self, entries: impl Iterator<Item = (K, V)>) -> Result<(), Error> {
        let (mut keys, mut values, mut count) = (Vec::new(), Vec::new(), 0);
        let mut entries = entries.peekable();
        while let Some((key, value)) = entries.next() {
            keys.extend_from_slice(sys::bytes_of(&key));
            values.extend_from_slice(sys::bytes_of(&value));
            count += 1;
            if count == BATCH || entries.peek().is_none() {
                sys::map_update_batch(self.fd(), &keys, &values, count).map_err(self.failed("write"))?;
                keys.clear();
                values.clear();
                count = 0;
            }
        }
        Ok(())
    }

    /// A walk through a map that others write sees every entry that was there all the time, and some of the others.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        let mut out = Vec::new();
        let mut cursor = sys::Cursor::default();
        let mut room = BATCH;
        loop {
            let mut keys = vec![0; room as usize * size_of::<K>()];
            let mut values = vec![0; room as usize * size_of::<V>()];
            let read = sys::map_lookup_batch(self.fd(), &mut cursor, &mut keys, &mut values, room);
            let (count, over) = match read {
                // A bucket with more entries than there is room for.
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && room < self.entries.max(BATCH) => {
                    room *= 2;
                    continue;
                }
                read => read.map_err(self.failed("read"))?,
            };
            let keys = keys.chunks_exact(size_of::<K>()).map(sys::value_of);
            let values = values.chunks_exact(size_of::<V>()).map(sys::value_of);
            out.extend(keys.zip(values).take(count as usize));
            if over {
                return Ok(out);
            }
        }
    }

    /// The keys in order, one call each: for small maps of types that have no batches.
    pub(super) fn keys(&self) -> Result<Vec<K>, Error> {
        let mut out: Vec<K> = Vec::new();
        let mut next = vec![0; size_of::<K>()];
        loop {
            let last = out.last().map(sys::bytes_of);
            if !sys::map_next_key(self.fd(), last, &mut next).map_err(self.failed("read"))? {
                return Ok(out);
            }
            out.push(sys::value_of(&next));
        }
    }
}
