//! Numbers of backends: one per distinct backend, shared by all frontends that use it.
//!
//! Flows remember numbers, so a freed number is given out again as late as possible: numbers never used first, then the
//! one that has been free for longest.

use std::collections::{HashMap, VecDeque};

use agent_ebpf_common::Backend;

/// A backend by what its slot holds.
type Content = ([u8; 16], u16, u8, u8, u32);

fn content(backend: &Backend) -> Content {
    (backend.addr.octets(), backend.port_be, backend.proto, backend.flags | Backend::FLAG_LIVE, backend.cluster)
}

/// The allocator.
#[derive(Debug)]
pub struct Numbers {
    capacity: u32,
    next: u32,
    free: VecDeque<u32>,
    used: HashMap<Content, (u32, u32)>,
    contents: HashMap<u32, Content>,
}

impl Numbers {
    /// Numbers from 1 to `capacity - 1`; those in `held` are taken, without a user yet.
    pub fn adopt(capacity: u32, held: &[(u32, Backend)]) -> Self {
        let mut numbers =
            Self { capacity, next: 1, free: VecDeque::new(), used: HashMap::new(), contents: HashMap::new() };
        for (number, backend) in held {
            let content = content(backend);
            numbers.next = numbers.next.max(number + 1);
            // Two slots of one content can only be a crash between two writes; the second is freed with the leftovers.
            numbers.used.entry(content).or_insert((*number, 0));
            numbers.contents.insert(*number, content);
        }
        let below = 1..numbers.next;
        numbers.free = below.filter(|n| !numbers.contents.contains_key(n)).collect();
        numbers
    }

    /// The number of a backend and whether its slot must be written; `None` when all are taken. Counts one user more.
    pub fn acquire(&mut self, backend: &Backend) -> Option<(u32, bool)> {
        let content = content(backend);
        if let Some((number, users)) = self.used.get_mut(&content) {
            *users += 1;
            return Some((*number, false));
        }
        let number = if self.next < self.capacity {
            self.next += 1;
            self.next - 1
        } else {
            self.free.pop_front()?
        };
        self.used.insert(content, (number, 1));
        self.contents.insert(number, content);
        Some((number, true))
    }

    /// One user less. Whether it was the last: the slot must be cleared, then [`Self::free`]d.
    pub fn release(&mut self, number: u32) -> bool {
        let Some(content) = self.contents.get(&number) else { return false };
        let Some((held, users)) = self.used.get_mut(content) else { return false };
        if *held != number {
            return false;
        }
        *users = users.saturating_sub(1);
        *users == 0
    }

    /// Frees a number if nobody uses it (it may have found a new user since its release). Whether it is free now.
    pub fn free(&mut self, number: u32) -> bool {
        let Some(content) = self.contents.get(&number).copied() else { return false };
        match self.used.get(&content) {
            Some((held, users)) if *held == number => {
                if *users > 0 {
                    return false;
                }
                self.used.remove(&content);
            }
            _ => {}
        }
        self.contents.remove(&number);
        self.free.push_back(number);
        true
    }

    /// Numbers that nobody uses: leftovers, once every frontend has been realized.
    pub fn unused(&self) -> Vec<u32> {
        let used = |n: &u32, c: &Content| self.used.get(c).is_some_and(|(held, users)| held == n && *users > 0);
        self.contents.iter().filter(|(n, c)| !used(n, c)).map(|(n, _)| *n).collect()
    }

    pub fn len(&self) -> usize {
        self.contents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(n: u8) -> Backend {
        Backend { addr: std::net::Ipv4Addr::new(10, 0, 0, n).into(), ..Backend::default() }
    }

    #[test]
    fn a_backend_keeps_its_number_over_a_restart() {
        let mut numbers = Numbers::adopt(10, &[(3, Backend { flags: Backend::FLAG_LIVE, ..backend(1) })]);
        assert_eq!(numbers.acquire(&backend(1)), Some((3, false)));
        assert_eq!(numbers.acquire(&backend(2)), Some((4, true)));
    }

    #[test]
    fn a_freed_number_is_the_last_to_be_used_again() {
        let mut numbers = Numbers::adopt(5, &[]);
        assert_eq!(numbers.acquire(&backend(1)), Some((1, true)));
        assert!(numbers.release(1) && numbers.free(1));
        let given: Vec<_> = (2..=5).map(|n| numbers.acquire(&backend(n)).unwrap().0).collect();
        assert_eq!(given, [2, 3, 4, 1]);
        assert_eq!(numbers.acquire(&backend(9)), None);
    }

    #[test]
    fn a_number_in_use_elsewhere_is_not_freed() {
        let mut numbers = Numbers::adopt(5, &[]);
        numbers.acquire(&backend(1));
        numbers.acquire(&backend(1));
        assert!(!numbers.release(1));
        assert!(numbers.release(1));
        numbers.acquire(&backend(1));
        assert!(!numbers.free(1), "a new user came before the grace period was over");
    }
}
