//! The state as a snapshot holds it.
//!
//! A snapshot comes from a disk or from another replica, so what is read is held against what the state relies on. Its
//! checksum says that it is as it was written, not that a sound store wrote it.

use serde::{Deserialize, Serialize};

use super::{EMPTY_REVISION, NEVER_COMPACTED};
use crate::stored::{Record, Versions};
use crate::{Alarm, LeaseId, MAX_LEASE_TTL, MIN_LEASE_TTL, Revision};

/// No store lives long enough to get there, and beyond it counting would overflow some day.
const LAST: i64 = i64::MAX / 2;
/// So much must be left to count for a state that is taken over: some day it is written, and read again.
const AHEAD: i64 = 1 << 40;

/// History is not stored apart: it follows from the kept versions of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Image {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) leases: Vec<(LeaseId, i64)>,
    pub(super) leases_chosen: u64,
    pub(super) alarms: Vec<Alarm>,
    pub(super) keys: Vec<Versions>,
}

#[derive(Deserialize)]
struct Unchecked {
    revision: i64,
    compacted: i64,
    leases: Vec<(LeaseId, i64)>,
    leases_chosen: u64,
    alarms: Vec<Alarm>,
    keys: Vec<Versions>,
}

impl TryFrom<Unchecked> for Image {
    type Error = String;

    fn try_from(read: Unchecked) -> Result<Self, String> {
        let Unchecked { revision, compacted, leases, leases_chosen, alarms, keys } = read;
        let image = Self { revision, compacted, leases, leases_chosen, alarms, keys };
        image.check().map_err(|what| format!("no store can have been like this: {what}"))?;
        Ok(image)
    }
}

impl Image {
    /// The revision of the state that the image was taken of.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether its numbers go on for ages. To be asked of what others wrote: with a state that stands at their end, the store
    /// would soon be one that cannot be read.
    pub fn can_go_on(&self) -> bool {
        self.revision < LAST - AHEAD && self.leases_chosen < (LAST - AHEAD).unsigned_abs()
    }

    fn check(&self) -> Result<(), String> {
        if !(EMPTY_REVISION..LAST).contains(&self.revision) {
            return Err(format!("it is at revision {}", self.revision));
        }
        if !(NEVER_COMPACTED..=self.revision).contains(&self.compacted) {
            return Err(format!("at revision {} it is compacted at {}", self.revision, self.compacted));
        }
        let is_granted = |(id, ttl): &(LeaseId, i64)| *id != 0 && (MIN_LEASE_TTL..=MAX_LEASE_TTL).contains(ttl);
        if !self.leases.is_sorted_by(|a, b| a.0 < b.0)
            || !self.leases.iter().all(is_granted)
            || self.leases_chosen >= LAST.unsigned_abs()
        {
            return Err("its leases are none that were granted".to_owned());
        }
        if !self.alarms.is_sorted_by(|a, b| a < b) {
            return Err("its alarms are out of order".to_owned());
        }
        let mut before: &[u8] = &[];
        for versions in &self.keys {
            let key = versions.as_slice().first().map_or(&[][..], |first| first.key());
            if key <= before {
                return Err(format!("key {key:?} stands behind {before:?}"));
            }
            self.check_key(key, versions).map_err(|what| format!("key {key:?} {what}"))?;
            before = key;
        }
        Ok(())
    }

    fn check_key(&self, key: &[u8], versions: &Versions) -> Result<(), &'static str> {
        let mut before = Revision::default();
        for record in versions.as_slice() {
            if record.key() != key {
                return Err("holds another key's version");
            }
            if record.place() <= before || record.mod_revision > self.revision {
                return Err("has a version that is out of order");
            }
            if !is_possible(record) {
                return Err("has a version that no request makes");
            }
            before = record.place();
        }
        let lease = versions.as_slice().last().map_or(0, |newest| newest.lease);
        if lease != 0 && self.leases.binary_search_by_key(&lease, |(id, _)| *id).is_err() {
            return Err("is attached to a lease that is not there");
        }
        Ok(())
    }
}

fn is_possible(record: &Record) -> bool {
    if record.is_deletion() {
        return record.create_revision == 0 && record.lease == 0 && record.value().is_empty();
    }
    (1..=record.mod_revision).contains(&record.create_revision) && (1..=record.mod_revision).contains(&record.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PutRequest, State};

    type Spoil = fn(&mut Image);

    fn image() -> Image {
        let mut state = State::default();
        let leased = PutRequest { lease: 7, ..PutRequest::new("b", "1") };
        for command in [
            Command::LeaseGrant { id: 7, ttl: 30 },
            Command::Put(PutRequest::new("a", "1")),
            Command::Put(leased),
            Command::Put(PutRequest::new("a", "2")),
        ] {
            state.apply(command).result.unwrap();
        }
        state.image()
    }

    fn read(image: &Image) -> Result<Image, String> {
        serde_json::from_value(serde_json::to_value(image).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_at_the_end_of_its_numbers_does_not_go_on() {
        assert!(image().can_go_on());
        assert!(!Image { revision: LAST - AHEAD, ..image() }.can_go_on());
        assert!(!Image { leases_chosen: (LAST - AHEAD).unsigned_abs(), ..image() }.can_go_on());
    }

    #[test]
    fn an_image_that_no_store_can_have_is_refused() {
        assert_eq!(read(&image()).unwrap(), image());
        let spoilt: [(&str, Spoil); 7] = [
            ("revision 0", |image| image.revision = 0),
            ("compacted at 9", |image| image.compacted = 9),
            ("none that were granted", |image| image.leases[0].1 = i64::MAX),
            ("out of order", |image| image.revision = 3),
            ("stands behind", |image| image.keys.swap(0, 1)),
            ("lease that is not there", |image| image.leases.clear()),
            ("another key's version", |image| {
                let other = image.keys[1].as_slice()[0].clone();
                image.keys[0].push(other);
            }),
        ];
        for (reason, spoil) in spoilt {
            let mut image = image();
            spoil(&mut image);
            let refusal = read(&image).unwrap_err();
            assert!(refusal.contains(reason), "{reason}: {refusal}");
        }
    }
}
