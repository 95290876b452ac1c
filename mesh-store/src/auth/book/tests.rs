use super::*;
use crate::etcd::{Access, Mode};

fn user(name: &str) -> String {
    name.to_owned()
}

fn add(user: &str) -> Change {
    Change::UserAdd { user: user.to_owned() }
}

fn grant(user: &str, role: &str) -> Change {
    Change::UserGrantRole { user: user.to_owned(), role: role.to_owned() }
}

fn role(role: &str) -> Change {
    Change::RoleAdd { role: role.to_owned() }
}

fn permit(role: &str, kind: PermissionKind, range: KeyRange) -> Change {
    Change::RoleGrantPermission { role: role.to_owned(), permission: Permission { kind, range } }
}

/// Applies all of them; each must change something.
fn book(changes: &[Change]) -> Book {
    let mut book = Book::default();
    for change in changes {
        assert_eq!(book.apply(change), Ok(true), "{change:?}");
    }
    book
}

fn may(book: &Book, user: &str, mode: Mode, range: &KeyRange) -> bool {
    book.grants(user).is_some_and(|grants| grants.check(Access { mode, range }).is_ok())
}

/// What Cilium's `etcdinit` sets up for cluster `c3` (`cilium-wire-contract.md`, 3.4).
fn ciliums() -> Book {
    use PermissionKind::Read;
    book(&[
        add("root"),
        grant("root", "root"),
        add("admin-c3"),
        grant("admin-c3", "root"),
        role("local"),
        permit("local", Read, KeyRange::prefix("cilium/.heartbeat")),
        permit("local", Read, KeyRange::prefix("cilium/cache/")),
        permit("local", Read, KeyRange::prefix("cilium/cluster-config/")),
        permit("local", Read, KeyRange::prefix("cilium/synced/")),
        add("local-c3"),
        grant("local-c3", "local"),
        role("remote"),
        permit("remote", Read, KeyRange::prefix("cilium/.heartbeat")),
        permit("remote", Read, KeyRange::prefix("cilium/state/")),
        permit("remote", Read, KeyRange::single("cilium/cluster-config/c3")),
        permit("remote", Read, KeyRange::prefix("cilium/synced/c3/")),
        add("remote"),
        grant("remote", "remote"),
        Change::Enable,
    ])
}

#[test]
fn ciliums_users_may_what_they_may_in_an_etcd() {
    let book = ciliums();
    // 18 changes that count; switching on is none.
    assert_eq!((book.is_enabled(), book.revision()), (true, 19));
    let table = [
        ("local-c3", KeyRange::prefix("cilium/cache/"), true),
        ("local-c3", KeyRange::prefix("cilium/state/"), false),
        ("remote", KeyRange::prefix("cilium/state/"), true),
        ("remote", KeyRange::single("cilium/cluster-config/c3"), true),
        ("remote", KeyRange::prefix("cilium/cluster-config/"), false),
        ("remote", KeyRange::prefix("cilium/cache/"), false),
        ("nobody", KeyRange::prefix("cilium/state/"), false),
        ("admin-c3", KeyRange::all(), true),
    ];
    for (user, range, want) in &table {
        assert_eq!(may(&book, user, Mode::Read, range), *want, "{user} reads {range:?}");
        assert_eq!(may(&book, user, Mode::Write, range), *user == "admin-c3", "{user} writes {range:?}");
    }
}

#[test]
fn each_refusal_is_etcds_and_changes_nothing() {
    let range = KeyRange::single("k");
    let revoke = |user: &str, role: &str| Change::UserRevokeRole { user: user.to_owned(), role: role.to_owned() };
    let read = PermissionKind::Read;
    let table = [
        (add(""), AuthError::UserEmpty),
        (add("remote"), AuthError::UserExists),
        (Change::UserDelete { user: user("eve") }, AuthError::UserNotFound),
        (Change::UserDelete { user: user("root") }, AuthError::InvalidManagement),
        (grant("eve", "local"), AuthError::UserNotFound),
        (grant("remote", "none"), AuthError::RoleNotFound),
        (revoke("root", "root"), AuthError::InvalidManagement),
        (revoke("eve", "local"), AuthError::UserNotFound),
        (revoke("remote", "local"), AuthError::RoleNotGranted),
        (role(""), AuthError::RoleEmpty),
        (role("local"), AuthError::RoleExists),
        (Change::RoleDelete { role: user("none") }, AuthError::RoleNotFound),
        (Change::RoleDelete { role: user("root") }, AuthError::InvalidManagement),
        (permit("none", read, range.clone()), AuthError::RoleNotFound),
        (permit("none", read, KeyRange::new("z", "a")), AuthError::InvalidManagement),
        (permit("local", read, KeyRange::new("", "a")), AuthError::InvalidManagement),
        (Change::RoleRevokePermission { role: user("none"), range: range.clone() }, AuthError::RoleNotFound),
        (Change::RoleRevokePermission { role: user("local"), range }, AuthError::PermissionNotGranted),
        (
            permit("local", read, KeyRange::prefix("isthmus/v1/tokens/")),
            AuthError::Reserved { range: "the prefix \"isthmus/v1/tokens/\"".to_owned() },
        ),
    ];
    let mut book = ciliums();
    let before = book.clone();
    for (change, refusal) in table {
        assert_eq!(book.apply(&change), Err(refusal), "{change:?}");
        assert_eq!(book, before, "{change:?}");
    }
    let mut book = Book::default();
    assert_eq!(book.apply(&Change::Enable), Err(AuthError::NoRootUser));
    assert_eq!(book.apply(&add("root")), Ok(true));
    assert_eq!(book.apply(&Change::Enable), Err(AuthError::NoRootRole));
}

#[test]
fn what_is_so_already_spends_no_revision() {
    let mut book = ciliums();
    let before = book.clone();
    assert_eq!(book.apply(&grant("remote", "remote")), Ok(false));
    assert_eq!(book.apply(&Change::Enable), Ok(false));
    assert_eq!(book, before);
    assert_eq!(book.apply(&Change::Disable), Ok(true));
    assert_eq!(book.apply(&Change::Disable), Ok(false));
    assert_eq!(book.revision(), before.revision() + 1);
}

#[test]
fn a_deleted_role_is_nobodys_any_more() {
    let mut book = ciliums();
    assert_eq!(book.apply(&Change::RoleDelete { role: user("remote") }), Ok(true));
    assert_eq!(book.roles_of("remote"), Some(&BTreeSet::new()));
    assert!(!may(&book, "remote", Mode::Read, &KeyRange::prefix("cilium/state/")));
    // Nor does a later role of the name bring it back.
    assert_eq!(book.apply(&role("remote")), Ok(true));
    assert_eq!(book.roles_of("remote"), Some(&BTreeSet::new()));
}

#[test]
fn a_permission_for_a_known_range_replaces_the_one_before() {
    let range = KeyRange::prefix("app/");
    let mut book =
        book(&[role("app"), permit("app", PermissionKind::Read, range.clone()), add("a"), grant("a", "app")]);
    assert!(!may(&book, "a", Mode::Write, &range));
    assert_eq!(book.apply(&permit("app", PermissionKind::ReadWrite, range.clone())), Ok(true));
    assert_eq!(book.permissions_of("app").map(|permissions| permissions.len()), Some(1));
    assert!(may(&book, "a", Mode::Write, &range));
    assert_eq!(book.apply(&permit("app", PermissionKind::Write, range.clone())), Ok(true));
    assert!(!may(&book, "a", Mode::Read, &range) && may(&book, "a", Mode::Write, &range));
}

#[test]
fn permissions_of_several_roles_add_up_and_never_reach_what_the_mesh_keeps_for_itself() {
    let book = book(&[
        role("low"),
        permit("low", PermissionKind::Read, KeyRange::new("a", "c")),
        role("high"),
        permit("high", PermissionKind::Read, KeyRange::new("c", "e")),
        role("all"),
        permit("all", PermissionKind::ReadWrite, KeyRange::all()),
        add("both"),
        grant("both", "low"),
        grant("both", "high"),
        add("wide"),
        grant("wide", "all"),
    ]);
    assert!(may(&book, "both", Mode::Read, &KeyRange::new("b", "d")), "etcd asks for the union");
    assert!(may(&book, "wide", Mode::Write, &KeyRange::prefix("cilium/")));
    for range in [KeyRange::single(super::super::KEY), KeyRange::prefix("isthmus/v1/peers/"), KeyRange::all()] {
        assert!(!may(&book, "wide", Mode::Write, &range), "{range:?}");
        assert!(!may(&book, "wide", Mode::Read, &range), "{range:?}");
    }
}

#[test]
fn the_role_root_shows_everything() {
    let book = book(&[role("root"), permit("root", PermissionKind::Read, KeyRange::single("k"))]);
    let shown = book.permissions_of("root").unwrap();
    assert_eq!(shown, [Permission { kind: PermissionKind::ReadWrite, range: KeyRange::new("", "\0") }]);
}
