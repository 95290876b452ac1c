//! Users, roles and the switch, and how each change goes. Pure: a book and a change in, a book or a refusal out.
//!
//! Rules and words are those of etcd's `server/auth/store.go`.

use std::collections::{BTreeMap, BTreeSet};

use mesh_store_mvcc::KeyRange;
use serde::{Deserialize, Serialize};

use super::coverage::covered;
use super::error::AuthError;
use super::{RESERVED, ROOT};
use crate::etcd::Grants;

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

impl PermissionKind {
    fn reads(self) -> bool {
        self != Self::Write
    }

    fn writes(self) -> bool {
        self != Self::Read
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub range: KeyRange,
}

/// One call that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Enable,
    Disable,
    UserAdd { user: String },
    UserDelete { user: String },
    UserGrantRole { user: String, role: String },
    UserRevokeRole { user: String, role: String },
    RoleAdd { role: String },
    RoleDelete { role: String },
    RoleGrantPermission { role: String, permission: Permission },
    RoleRevokePermission { role: String, range: KeyRange },
}

/// All that is known of users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    /// Users with the roles that they were granted.
    pub(super) users: BTreeMap<String, BTreeSet<String>>,
    /// In order of their keys; no two of a role have the same range.
    pub(super) roles: BTreeMap<String, Vec<Permission>>,
}

impl Default for Book {
    /// Nothing was ever set, which etcd counts as the first revision.
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Book {
    /// Whether users count: until then only the server's own table does.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Goes up with every change but the switching on, as etcd's.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn users(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    /// A user's roles, in order.
    pub fn roles_of(&self, user: &str) -> Option<&BTreeSet<String>> {
        self.users.get(user)
    }

    pub fn roles(&self) -> impl Iterator<Item = &String> {
        self.roles.keys()
    }

    /// A role's permissions; those of the role root are everything, whatever it was granted.
    pub fn permissions_of(&self, role: &str) -> Option<Vec<Permission>> {
        let permissions = self.roles.get(role)?;
        if role == ROOT {
            // Written with an empty key, as etcd writes it.
            let range = KeyRange::from_key("");
            return Some(vec![Permission { kind: PermissionKind::ReadWrite, range }]);
        }
        Some(permissions.clone())
    }

    /// What a user may do by its roles; `None` for who is none.
    pub fn grants(&self, user: &str) -> Option<Grants> {
        let roles = self.users.get(user)?;
        if roles.contains(ROOT) {
            return Some(Grants::all());
        }
        let permissions = || roles.iter().filter_map(|role| self.roles.get(role)).flatten();
        let ranges = |of: fn(PermissionKind) -> bool| {
            covered(
                permissions().filter(|permission| of(permission.kind)).map(|permission| &permission.range),
                RESERVED,
            )
        };
        Some(Grants { read: ranges(PermissionKind::reads), write: ranges(PermissionKind::writes) })
    }

    /// Makes the change. `false`: it was so already, and no revision is spent.
    pub fn apply(&mut self, change: &Change) -> Result<bool, AuthError> {
        match change {
            // Switching on is the one change that etcd does not count.
            Change::Enable => return self.enable(),
            Change::Disable if !self.enabled => return Ok(false),
            Change::Disable => self.enabled = false,
            Change::UserAdd { user } if user.is_empty() => return Err(AuthError::UserEmpty),
            Change::UserAdd { user } if self.users.contains_key(user) => return Err(AuthError::UserExists),
            Change::UserAdd { user } => drop(self.users.insert(user.clone(), BTreeSet::new())),
            Change::UserDelete { user } => {
                self.keep_root(user == ROOT)?;
                self.users.remove(user).ok_or(AuthError::UserNotFound)?;
            }
            Change::UserGrantRole { user, role } => {
                let roles = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if role != ROOT && !self.roles.contains_key(role) {
                    return Err(AuthError::RoleNotFound);
                }
                if !roles.insert(role.clone()) {
                    return Ok(false);
                }
            }
            Change::UserRevokeRole { user, role } => {
                self.keep_root(user == ROOT && role == ROOT)?;
                let roles = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !roles.remove(role) {
                    return Err(AuthError::RoleNotGranted);
                }
            }
            Change::RoleAdd { role } if role.is_empty() => return Err(AuthError::RoleEmpty),
            Change::RoleAdd { role } if self.roles.contains_key(role) => return Err(AuthError::RoleExists),
            Change::RoleAdd { role } => drop(self.roles.insert(role.clone(), Vec::new())),
            Change::RoleDelete { role } => {
                self.keep_root(role == ROOT)?;
                self.roles.remove(role).ok_or(AuthError::RoleNotFound)?;
                for roles in self.users.values_mut() {
                    roles.remove(role);
                }
            }
            Change::RoleGrantPermission { role, permission } => self.grant_permission(role, permission)?,
            Change::RoleRevokePermission { role, range } => {
                let permissions = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                let before = permissions.len();
                permissions.retain(|permission| permission.range != *range);
                if permissions.len() == before {
                    return Err(AuthError::PermissionNotGranted);
                }
            }
        }
        self.revision += 1;
        Ok(true)
    }

    fn enable(&mut self) -> Result<bool, AuthError> {
        if self.enabled {
            return Ok(false);
        }
        let roles = self.users.get(ROOT).ok_or(AuthError::NoRootUser)?;
        if !roles.contains(ROOT) {
            return Err(AuthError::NoRootRole);
        }
        self.enabled = true;
        Ok(true)
    }

    /// While users count, root must stay what it is.
    fn keep_root(&self, is_about_root: bool) -> Result<(), AuthError> {
        if self.enabled && is_about_root { Err(AuthError::InvalidManagement) } else { Ok(()) }
    }

    fn grant_permission(&mut self, role: &str, permission: &Permission) -> Result<(), AuthError> {
        if !holds_keys(&permission.range) {
            return Err(AuthError::InvalidManagement);
        }
        let permissions = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        let range = &permission.range;
        if KeyRange::prefix(RESERVED).encloses(range) {
            return Err(AuthError::Reserved { range: shown(range) });
        }
        if let Some(known) = permissions.iter_mut().find(|known| known.range == *range) {
            known.kind = permission.kind;
        } else {
            permissions.push(permission.clone());
            // Stable: of one key's ranges the older stays first.
            permissions.sort_by(|a, b| a.range.key.cmp(&b.range.key));
        }
        Ok(())
    }
}

/// False for the range that no key can lie in.
fn holds_keys(range: &KeyRange) -> bool {
    !range.key.is_empty() && (range.is_single() || range.is_open_ended() || range.key < range.range_end)
}

/// A range as etcdctl takes it.
fn shown(range: &KeyRange) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match range.as_prefix() {
        Some(prefix) => format!("the prefix \"{}\"", text(prefix)),
        None if range.is_single() => format!("the key \"{}\"", text(&range.key)),
        None => format!("[\"{}\", \"{}\")", text(&range.key), text(&range.range_end)),
    }
}

#[cfg(test)]
mod tests;
