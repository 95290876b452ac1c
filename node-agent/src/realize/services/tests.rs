use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;

/// The three maps in memory. After every write it checks that whatever an entry names is live.
struct Fake {
    services: RefCell<BTreeMap<ServiceKey, Service>>,
    backends: RefCell<BTreeMap<u32, Backend>>,
    slab: RefCell<Vec<u32>>,
    writes: Cell<usize>,
}

impl Fake {
    fn new(entries: usize) -> Self {
        Self {
            services: RefCell::default(),
            backends: RefCell::default(),
            slab: RefCell::new(vec![0; entries]),
            writes: Cell::new(0),
        }
    }

    fn targets(&self, key: &ServiceKey) -> Vec<Ipv4Addr> {
        let services = self.services.borrow();
        let service = services[key];
        let numbers = self.numbers(&service);
        let mut out: Vec<_> =
            numbers.iter().map(|n| Ipv4Addr::from(self.backends.borrow()[n].addr.wire_v4().to_ne_bytes())).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    fn numbers(&self, service: &Service) -> Vec<u32> {
        match service.backends {
            0 => Vec::new(),
            1 => vec![service.backend],
            _ => {
                let start = service.table_offset as usize;
                self.slab.borrow()[start..start + service.table_len as usize].to_vec()
            }
        }
    }

    fn wrote(&self) {
        self.writes.set(self.writes.get() + 1);
        for (key, service) in &*self.services.borrow() {
            let dead = self.numbers(service).into_iter().find(|n| !self.backends.borrow().contains_key(n));
            assert_eq!(dead, None, "{key:?} names a backend that is not live");
        }
    }
}

impl ServiceMaps for &Fake {
    fn backend_capacity(&self) -> u32 {
        1_000
    }
    fn table_capacity(&self) -> u32 {
        u32::try_from(self.slab.borrow().len()).unwrap()
    }
    fn services(&self) -> Result<Vec<(ServiceKey, Service)>, MapError> {
        Ok(self.services.borrow().iter().map(|(k, v)| (*k, *v)).collect())
    }
    fn backends(&self) -> Result<Vec<(u32, Backend)>, MapError> {
        Ok(self.backends.borrow().iter().map(|(k, v)| (*k, *v)).collect())
    }
    fn read_table(&self, offset: u32, len: u32) -> Result<Vec<u32>, MapError> {
        Ok(self.slab.borrow()[offset as usize..(offset + len) as usize].to_vec())
    }
    fn write_table(&self, offset: u32, table: &[u32]) -> Result<(), MapError> {
        self.slab.borrow_mut()[offset as usize..offset as usize + table.len()].copy_from_slice(table);
        self.wrote();
        Ok(())
    }
    fn set_backend(&self, number: u32, backend: &Backend) -> Result<(), MapError> {
        self.backends.borrow_mut().insert(number, *backend);
        self.wrote();
        Ok(())
    }
    fn clear_backend(&self, number: u32) -> Result<(), MapError> {
        self.backends.borrow_mut().remove(&number);
        self.wrote();
        Ok(())
    }
    fn set_service(&self, key: &ServiceKey, service: &Service) -> Result<(), MapError> {
        self.services.borrow_mut().insert(*key, *service);
        self.wrote();
        Ok(())
    }
    fn remove_service(&self, key: &ServiceKey) -> Result<(), MapError> {
        self.services.borrow_mut().remove(key);
        self.wrote();
        Ok(())
    }
}

fn key(n: u8) -> ServiceKey {
    ServiceKey { addr: Ipv4Addr::new(10, 101, 0, n).into(), port_be: 80_u16.to_be(), proto: 6, pad: 0 }
}

fn plan(hosts: &[u8]) -> Vec<BackendPlan> {
    let backend = |n: &u8| Backend {
        addr: Ipv4Addr::new(10, 1, 0, *n).into(),
        port_be: 8080_u16.to_be(),
        proto: 6,
        flags: Backend::FLAG_LIVE,
        cluster: 1,
    };
    hosts.iter().map(|n| BackendPlan { backend: backend(n), weight: 1 }).collect()
}

fn hosts(list: &[u8]) -> Vec<Ipv4Addr> {
    list.iter().map(|n| Ipv4Addr::new(10, 1, 0, *n)).collect()
}

fn settled(fake: &Fake, now: Instant) -> Services<&Fake> {
    let mut services = Services::adopt(fake).unwrap();
    services.settle(now);
    services
}

#[test]
fn a_frontend_follows_its_plan_through_all_sizes() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut services = settled(&fake, now);
    for list in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4, 5], &[2, 3], &[9], &[]] {
        assert!(services.set(&key(1), Some(&plan(list)), now));
        assert_eq!(fake.targets(&key(1)), hosts(list));
        services.collect(now + GRACE);
    }
    assert!(!services.set(&key(1), Some(&plan(&[])), now));
    assert!(services.set(&key(1), None, now) && fake.services.borrow().is_empty());
    services.collect(now + GRACE);
    assert!(fake.backends.borrow().is_empty() && services.numbers.is_empty());
    assert_eq!(services.slab.free(), 4_096);
}

#[test]
fn an_equal_plan_writes_nothing() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut services = settled(&fake, now);
    services.set(&key(1), Some(&plan(&[1, 2])), now);
    let writes = fake.writes.get();
    assert!(!services.set(&key(1), Some(&plan(&[1, 2])), now));
    assert_eq!(fake.writes.get(), writes);
}

#[test]
fn a_restart_writes_nothing_where_nothing_changed() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut before = settled(&fake, now);
    before.set(&key(1), Some(&plan(&[1, 2])), now);
    before.set(&key(2), Some(&plan(&[3])), now);
    let writes = fake.writes.get();
    let mut after = Services::adopt(&fake).unwrap();
    assert!(!after.set(&key(1), Some(&plan(&[1, 2])), now));
    assert!(!after.set(&key(2), Some(&plan(&[3])), now));
    after.settle(now);
    after.collect(now + GRACE);
    assert_eq!(fake.writes.get(), writes);
    assert_eq!(after.compare().unwrap(), 0);
}

#[test]
fn leftovers_go_only_after_the_first_snapshot() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut before = settled(&fake, now);
    before.set(&key(1), Some(&plan(&[1, 2])), now);
    before.set(&key(2), Some(&plan(&[2, 3])), now);
    let mut after = Services::adopt(&fake).unwrap();
    after.set(&key(1), Some(&plan(&[1])), now);
    after.collect(now + GRACE * 2);
    assert_eq!(fake.backends.borrow().len(), 3, "the other entry still names them");
    after.set(&key(2), None, now);
    after.settle(now);
    after.collect(now + GRACE * 2);
    assert_eq!(fake.backends.borrow().len(), 1);
    assert_eq!(after.slab.free(), 4_096);
}

#[test]
fn shared_backends_have_one_number() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut services = settled(&fake, now);
    services.set(&key(1), Some(&plan(&[1])), now);
    services.set(&key(2), Some(&plan(&[1])), now);
    assert_eq!(fake.backends.borrow().len(), 1);
    services.set(&key(1), None, now);
    services.collect(now + GRACE);
    assert_eq!(fake.targets(&key(2)), hosts(&[1]));
}

#[test]
fn a_full_slab_keeps_the_old_table_and_is_tried_again() {
    let (fake, now) = (Fake::new(200), Instant::now());
    let mut services = settled(&fake, now);
    services.set(&key(1), Some(&plan(&[1, 2])), now);
    assert!(!services.set(&key(1), Some(&plan(&[1, 3])), now));
    assert_eq!(fake.targets(&key(1)), hosts(&[1, 2]));
    let error = services.failures.iter().next().unwrap().1.error.clone();
    assert_eq!(error, "no room for a table of 127 entries (73 free, in pieces)");
    services.set(&key(1), Some(&plan(&[1])), now);
    services.collect(now + GRACE);
    assert!(services.set(&key(1), Some(&plan(&[1, 3])), now) && services.failures.is_empty());
}

#[test]
fn drift_in_any_of_the_maps_is_mended() {
    let (fake, now) = (Fake::new(4_096), Instant::now());
    let mut services = settled(&fake, now);
    services.set(&key(1), Some(&plan(&[1, 2])), now);
    let (entry, number) = {
        let services = fake.services.borrow();
        (services[&key(1)], fake.slab.borrow()[services[&key(1)].table_offset as usize])
    };
    fake.slab.borrow_mut()[entry.table_offset as usize] = 77;
    fake.backends.borrow_mut().remove(&number);
    fake.services.borrow_mut().clear();
    fake.services.borrow_mut().insert(key(9), Service::default());
    assert_eq!(services.compare().unwrap(), 4);
    assert_eq!(fake.targets(&key(1)), hosts(&[1, 2]));
    assert!(!fake.services.borrow().contains_key(&key(9)));
    assert_eq!(services.compare().unwrap(), 0);
}
