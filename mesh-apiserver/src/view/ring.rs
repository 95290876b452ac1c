//! The newest changes of the view as encoded messages: what a subscriber that resumes or lags is served from.

use std::collections::VecDeque;

use bytes::Bytes;

/// # Invariants
/// Every change of the view after `floor` is in `frames`, in order of revisions.
pub(super) struct Ring {
    floor: i64,
    frames: VecDeque<(i64, Bytes)>,
    bytes: usize,
    capacity: Capacity,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) frames: usize,
    pub(super) bytes: usize,
}

/// What a subscriber at some revision gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Frame(i64, Bytes),
    /// It has everything.
    UpToDate,
    /// What it lacks is no longer here.
    TooOld,
}

impl Ring {
    pub(super) fn new(floor: i64, capacity: Capacity) -> Self {
        Self { floor, frames: VecDeque::new(), bytes: 0, capacity }
    }

    pub(super) fn push(&mut self, revision: i64, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back((revision, frame));
        while self.frames.len() > self.capacity.frames || self.bytes > self.capacity.bytes {
            let Some((revision, frame)) = self.frames.pop_front() else { break };
            self.bytes -= frame.len();
            self.floor = revision;
        }
    }

    /// Every change after a revision, in order; `None` when some of it is no longer here.
    pub(super) fn all_after(&self, revision: i64) -> Option<impl Iterator<Item = Bytes> + '_> {
        let at = self.frames.partition_point(|(r, _)| *r <= revision);
        (revision >= self.floor).then(|| self.frames.range(at..).map(|(_, frame)| frame.clone()))
    }

    /// How much that is.
    pub(super) fn bytes_after(&self, revision: i64) -> Option<usize> {
        self.all_after(revision).map(|frames| frames.map(|frame| frame.len()).sum())
    }

    pub(super) fn after(&self, revision: i64) -> Next {
        if revision < self.floor {
            return Next::TooOld;
        }
        let at = self.frames.partition_point(|(r, _)| *r <= revision);
        match self.frames.get(at) {
            Some((revision, frame)) => Next::Frame(*revision, frame.clone()),
            None => Next::UpToDate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_reads_on_from_its_revision_until_that_is_forgotten() {
        let mut ring = Ring::new(10, Capacity { frames: 2, bytes: 100 });
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(ring.after(10), Next::UpToDate);
        assert_eq!(ring.after(9), Next::TooOld);
        ring.push(12, frame("a"));
        ring.push(15, frame("b"));
        assert_eq!(ring.after(10), Next::Frame(12, frame("a")));
        assert_eq!(ring.after(13), Next::Frame(15, frame("b")));
        assert_eq!(ring.all_after(10).unwrap().collect::<Vec<_>>(), [frame("a"), frame("b")]);
        assert_eq!((ring.bytes_after(12), ring.bytes_after(15), ring.bytes_after(9)), (Some(1), Some(0), None));
        ring.push(16, frame("c"));
        assert_eq!(ring.after(11), Next::TooOld);
        assert_eq!(ring.after(12), Next::Frame(15, frame("b")));
        ring.push(17, Bytes::from(vec![0; 101]));
        assert_eq!(ring.after(16), Next::TooOld, "a frame over the bound pushes everything out, itself included");
        assert_eq!(ring.after(17), Next::UpToDate);
    }
}
