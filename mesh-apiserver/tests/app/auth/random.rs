//! Random changes of users and roles, few names so that they meet. The same seed gives the same calls.

use super::both::Op;

/// Each must have been the answer to something.
pub(super) const REFUSALS: &[&str] = &[
    "InvalidArgument: etcdserver: user name is empty",
    "FailedPrecondition: etcdserver: user name already exists",
    "FailedPrecondition: etcdserver: user name not found",
    "InvalidArgument: etcdserver: role name is empty",
    "FailedPrecondition: etcdserver: role name already exists",
    "FailedPrecondition: etcdserver: role name not found",
    "FailedPrecondition: etcdserver: role is not granted to the user",
    "FailedPrecondition: etcdserver: permission is not granted to the role",
    "FailedPrecondition: etcdserver: root user does not exist",
    "FailedPrecondition: etcdserver: root user does not have root role",
    "InvalidArgument: etcdserver: invalid auth management",
    "FailedPrecondition: etcdserver: authentication is not enabled",
];

const USERS: [&str; 4] = ["root", "a", "b", ""];
const ROLES: [&str; 4] = ["root", "r", "s", ""];
/// No two have the same key: of two that have, etcd finds only the first again.
const RANGES: [(&str, &str); 7] =
    [("k", ""), ("p/", "p0"), ("q", "\0"), ("cilium/", "cilium0"), ("z", "a"), ("", ""), ("\0", "\0")];

/// xorshift64*: repeatable, and good enough to pick from short lists.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).unwrap_or_default() % end
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

pub(super) fn operations(seed: u64, count: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    (0..count).map(|_| operation(&mut dice)).collect()
}

fn operation(dice: &mut Dice) -> Op {
    let (user, role, (key, end)) = (dice.of(&USERS), dice.of(&ROLES), dice.of(&RANGES));
    match dice.below(24) {
        0..=2 => Op::UserAdd(user),
        3 => Op::UserDelete(user),
        4 | 5 => Op::UserGet(user),
        6 => Op::UserList,
        7..=9 => Op::GrantRole(user, role),
        10 => Op::RevokeRole(user, role),
        11 | 12 => Op::RoleAdd(role),
        13 => Op::RoleDelete(role),
        14 | 15 => Op::RoleGet(role),
        16 => Op::RoleList,
        17..=19 => Op::Grant(role, i32::try_from(dice.below(3)).unwrap_or_default(), key, end),
        20 => Op::RevokePermission(role, key, end),
        21 => Op::Authenticate(user),
        22 => Op::Disable,
        _ => Op::Enable,
    }
}
