//! `IPCACHE` and `PREFIXES` as one table from prefix to entry, as the programs look at them.

use std::net::IpAddr;

use agent_ebpf_common::{AddrKey, IpEntry};
use ipnet::IpNet;

use super::prefix::TrieKey;
use super::table::Table;
use super::{Access, Error};
use crate::Pins;
use crate::pins::map;

/// Addresses and prefixes of all clusters. A single address goes into the hash map, a shorter prefix into the trie.
pub struct IpCache {
    addresses: Table<AddrKey, IpEntry>,
    prefixes: Table<TrieKey, IpEntry>,
}

fn is_address(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn address_key(prefix: &IpNet) -> AddrKey {
    AddrKey::shared(prefix.addr().into())
}

impl IpCache {
    pub fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Ok(Self {
            addresses: Table::open(pins, map::IPCACHE, access)?,
            prefixes: Table::open(pins, map::PREFIXES, access)?,
        })
    }

    /// The entry of exactly this prefix.
    pub fn get(&self, prefix: &IpNet) -> Result<Option<IpEntry>, Error> {
        if is_address(prefix) {
            return self.addresses.get(&address_key(prefix));
        }
        // A trie answers with the longest match, so the exact one must be looked for among the keys.
        let key = TrieKey::of(prefix);
        Ok(self.prefixes.entries()?.into_iter().find_map(|(found, entry)| (found == key).then_some(entry)))
    }

    /// What the programs find for an address.
    pub fn lookup(&self, addr: IpAddr) -> Result<Option<IpEntry>, Error> {
        match self.addresses.get(&AddrKey::shared(addr.into()))? {
            Some(entry) => Ok(Some(entry)),
            None => self.prefixes.get(&TrieKey::full(addr)),
        }
    }

    pub fn insert(&self, prefix: &IpNet, entry: &IpEntry) -> Result<(), Error> {
        if is_address(prefix) {
            self.addresses.insert(&address_key(prefix), entry)
        } else {
            self.prefixes.insert(&TrieKey::of(prefix), entry)
        }
    }

    /// Prefixes are written before single addresses, so that nothing is open in between.
    pub fn insert_batch(&self, entries: &[(IpNet, IpEntry)]) -> Result<(), Error> {
        let (addresses, prefixes): (Vec<_>, Vec<_>) = entries.iter().partition(|(prefix, _)| is_address(prefix));
        self.prefixes.insert_batch(prefixes.iter().map(|(prefix, entry)| (TrieKey::of(prefix), *entry)))?;
        self.addresses.insert_batch(addresses.iter().map(|(prefix, entry)| (address_key(prefix), *entry)))
    }

    /// Whether there was an entry.
    pub fn remove(&self, prefix: &IpNet) -> Result<bool, Error> {
        if is_address(prefix) {
            self.addresses.remove(&address_key(prefix))
        } else {
            self.prefixes.remove(&TrieKey::of(prefix))
        }
    }

    /// All entries, for reconciling and printing.
    pub fn entries(&self) -> Result<Vec<(IpNet, IpEntry)>, Error> {
        let prefixes = self.prefixes.entries()?.into_iter().filter_map(|(key, e)| Some((key.prefix()?, e)));
        let addresses = self.addresses.entries()?.into_iter().map(|(key, e)| (IpNet::from(IpAddr::from(key.addr)), e));
        Ok(prefixes.chain(addresses).collect())
    }
}
