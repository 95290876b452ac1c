//! How one log entry lies on disk.
//!
//! ```text
//!  len u32 | crc u32 | index u64 | durable u64 | payload ... | zero bytes up to a multiple of 8      (little endian)
//! ```
//! The checksum covers everything but itself and is seeded with the number of the segment, so what a recycled file held
//! before can never be taken for a record. `durable` is the first index that was *not yet* known to be on disk when the
//! record was written: it tells a torn tail (nothing acknowledged is missing) from damage (something is).

use std::ops::Range;

pub(super) const HEADER: usize = 24;
pub(super) const ALIGN: usize = 8;
/// Larger than any entry this store writes; a length beyond it is garbage.
const MAX_PAYLOAD: usize = 1 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) index: u64,
    pub(super) durable: u64,
    pub(super) payload: Range<usize>,
    /// Where the next record would start.
    pub(super) end: usize,
}

/// Appends a record whose payload is written by `write`.
pub(super) fn encode<E>(
    buffer: &mut Vec<u8>,
    segment: u64,
    index: u64,
    durable: u64,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Range<usize>, E> {
    let start = buffer.len();
    buffer.resize(start + HEADER, 0);
    write(buffer)?;
    let payload = start + HEADER..buffer.len();
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    buffer[start..start + 4].copy_from_slice(&len);
    buffer[start + 8..start + 16].copy_from_slice(&index.to_le_bytes());
    buffer[start + 16..start + HEADER].copy_from_slice(&durable.to_le_bytes());
    let crc = checksum(segment, &buffer[start..start + 4], &buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
    Ok(payload)
}

/// The record at `start`, if an undamaged one of this segment starts there.
pub(super) fn decode(bytes: &[u8], start: usize, segment: u64) -> Option<Record> {
    let header = bytes.get(start..start + HEADER)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    if len == 0 || len > MAX_PAYLOAD {
        return None;
    }
    let payload = start + HEADER..start + HEADER + len;
    let covered = bytes.get(start + 8..payload.end)?;
    let crc = u32::from_le_bytes(header[4..8].try_into().ok()?);
    if checksum(segment, &header[..4], covered) != crc {
        return None;
    }
    let index = u64::from_le_bytes(header[8..16].try_into().ok()?);
    // Nothing could follow the last number there is.
    if index == u64::MAX {
        return None;
    }
    Some(Record {
        index,
        durable: u64::from_le_bytes(header[16..24].try_into().ok()?),
        end: payload.end.next_multiple_of(ALIGN),
        payload,
    })
}

fn checksum(segment: u64, len: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(len);
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn one(segment: u64) -> Vec<u8> {
        let mut buffer = Vec::new();
        encode(&mut buffer, segment, 7, 5, |out| {
            out.extend_from_slice(b"payload");
            Ok::<_, Infallible>(())
        })
        .unwrap();
        buffer
    }

    #[test]
    fn a_record_reads_back() {
        let buffer = one(3);
        let record = decode(&buffer, 0, 3).unwrap();
        assert_eq!((record.index, record.durable), (7, 5));
        assert_eq!(&buffer[record.payload], b"payload");
        assert_eq!(record.end, buffer.len());
    }

    #[test]
    fn no_single_flipped_bit_is_accepted() {
        let sound = one(3);
        for byte in 0..HEADER + 7 {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[byte] ^= 1 << bit;
                assert_eq!(decode(&damaged, 0, 3), None, "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn an_index_that_nothing_could_follow_is_not_accepted() {
        for (index, is_accepted) in [(u64::MAX, false), (u64::MAX - 1, true)] {
            let mut buffer = Vec::new();
            encode(&mut buffer, 3, index, 5, |out| {
                out.extend_from_slice(b"payload");
                Ok::<_, Infallible>(())
            })
            .unwrap();
            assert_eq!(decode(&buffer, 0, 3).is_some(), is_accepted);
        }
    }

    #[test]
    fn a_record_of_the_file_s_earlier_life_is_not_accepted() {
        assert_eq!(decode(&one(3), 0, 4), None);
    }
}
