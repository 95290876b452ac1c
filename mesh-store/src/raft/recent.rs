//! The newest entries of the log, in memory: what is applied and what the other replicas are sent is nearly always among them.
//!
//! It holds them without holes, and no more than it may; whoever asks for others reads them from disk. It must never be asked
//! what the log holds.

use std::collections::VecDeque;

use openraft::EntryPayload;

use super::types::{Entry, LogId};

/// However small they are.
const MAX_ENTRIES: usize = 1024;
/// However few they are: one alone may be larger.
const MAX_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    /// The entries' weights, together.
    bytes: usize,
}

impl Recent {
    pub(crate) fn push(&mut self, entries: &[Entry]) {
        if let (Some(last), Some(first)) = (self.entries.back(), entries.first())
            && last.log_id.index + 1 != first.log_id.index
        {
            *self = Self::default();
        }
        self.bytes += entries.iter().map(weight).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
        while self.entries.len() > MAX_ENTRIES || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            self.pop_front();
        }
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id)
    }

    /// The entries of these indexes, if all are here.
    pub(crate) fn get(&self, from: u64, until: u64) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.log_id.index;
        let next = first + self.entries.len() as u64;
        if from < first || until > next {
            return None;
        }
        let place = |index: u64| usize::try_from(index - first).ok();
        Some(self.entries.range(place(from)?..place(until)?).cloned().collect())
    }

    /// Forgets the entries from this index on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| weight(&entry));
        }
    }

    /// Forgets the entries up to this index.
    pub(crate) fn purge(&mut self, through: u64) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= through) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |entry| weight(&entry));
    }
}

/// Roughly the bytes that an entry takes in a message.
pub(crate) fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.weight(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use mesh_store_mvcc::{Command, PutRequest};
    use openraft::CommittedLeaderId;

    use super::super::types::{Content, Origin, Part, Proposal, Ticket};
    use super::*;

    fn entry(index: u64, value_bytes: usize) -> Entry {
        let put = Command::Put(PutRequest::new("k", vec![0; value_bytes]));
        let origin = Origin::Clients(Ticket { replica: 1, boot: 1, seq: index, answered: 0 });
        let part = Part { origin, commands: vec![put].into() };
        let proposal = Proposal::new(Content::Parts(vec![part].into()));
        Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload: EntryPayload::Normal(proposal) }
    }

    fn indexes(recent: &Recent, from: u64, until: u64) -> Option<Vec<u64>> {
        Some(recent.get(from, until)?.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn what_is_kept_has_no_holes() {
        let mut recent = Recent::default();
        recent.push(&[entry(1, 1), entry(2, 1), entry(3, 1)]);
        assert_eq!(indexes(&recent, 2, 4), Some(vec![2, 3]));
        assert_eq!((indexes(&recent, 0, 2), indexes(&recent, 3, 5)), (None, None));
        recent.truncate(3);
        assert_eq!(recent.last().map(|last| last.index), Some(2));
        recent.purge(1);
        assert_eq!((indexes(&recent, 1, 3), indexes(&recent, 2, 3)), (None, Some(vec![2])));
        recent.push(&[entry(9, 1)]);
        assert_eq!((indexes(&recent, 2, 3), indexes(&recent, 9, 10)), (None, Some(vec![9])));
    }

    #[test]
    fn neither_many_small_entries_nor_few_large_ones_take_more_than_they_may() {
        let mut recent = Recent::default();
        recent.push(&(0..5000).map(|index| entry(index, 1)).collect::<Vec<_>>());
        assert_eq!(recent.entries.len(), MAX_ENTRIES);
        for index in 5000..5100 {
            recent.push(&[entry(index, 1 << 20)]);
            assert!(recent.bytes <= MAX_BYTES, "{}", recent.bytes);
        }
        assert_eq!(recent.last().map(|last| last.index), Some(5099));
        recent.push(&[entry(5100, 2 * MAX_BYTES)]);
        assert_eq!(indexes(&recent, 5100, 5101), Some(vec![5100]), "a large one is kept alone");
        recent.push(&[entry(5101, 1)]);
        assert_eq!((recent.entries.len(), recent.bytes), (1, weight(&entry(5101, 1))));
    }
}
