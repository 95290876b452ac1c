//! The table: each command of etcdctl, how it is tried, and what it comes to. In the order in which they are run.

/// One command.
pub(super) struct Row {
    pub(super) command: &'static str,
    pub(super) args: &'static [&'static str],
    pub(super) stdin: &'static str,
    pub(super) wants: Wants,
    /// For the document.
    pub(super) remark: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Wants {
    /// It passes and prints this.
    Shows(&'static str),
    /// It prints this and goes on until it is stopped.
    GoesOn(&'static str),
    /// It brings this key to another etcd and goes on until it is stopped.
    Mirrors(&'static str),
    /// The server refuses it by design, with this.
    Refused(&'static str),
}

use Wants::{GoesOn, Mirrors, Refused, Shows};

const fn row(command: &'static str, args: &'static [&'static str], wants: Wants, remark: &'static str) -> Row {
    Row { command, args, stdin: "", wants, remark }
}

const fn typed(mut row: Row, stdin: &'static str) -> Row {
    row.stdin = stdin;
    row
}

const NO_PASSWORDS: &str = "a user proves who it is by a client certificate of its name: `docs/users.md`";
const ALONE: &str = "isthmus: this replica was started alone";

pub(super) const COMMANDS: &[Row] = &[
    row("put", &["put", "ctl/k", "v1"], Shows("OK"), ""),
    row("get", &["get", "ctl/k"], Shows("v1"), ""),
    typed(
        row("txn", &["txn"], Shows("SUCCESS"), "at most 128 operations, as etcd's default"),
        "value(\"ctl/k\") = \"v1\"\n\nput ctl/k v2\n\nput ctl/k v3\n\n",
    ),
    row("del", &["del", "ctl/k"], Shows("1"), ""),
    row(
        "watch",
        &["watch", "ctl/k", "--rev=1"],
        GoesOn("PUT\nctl/k\nv1\nPUT\nctl/k\nv2\nDELETE\nctl/k"),
        "an idle watch says every 10 s how far it is",
    ),
    row("compaction", &["compaction", "3"], Shows("compacted revision 3"), "the server compacts by itself as well"),
    row("lease grant", &["lease", "grant", "60"], Shows("granted with TTL(60s)"), ""),
    row("lease keep-alive", &["lease", "keep-alive", "--once", "{lease}"], Shows("keepalived with TTL(60)"), ""),
    row("lease timetolive", &["lease", "timetolive", "{lease}", "--keys"], Shows("granted with TTL(60s)"), ""),
    row("lease list", &["lease", "list"], Shows("{lease}"), ""),
    row("lease revoke", &["lease", "revoke", "{lease}"], Shows("revoked"), ""),
    row("lock", &["lock", "ctl/job", "echo", "held"], Shows("held"), ""),
    row("elect", &["elect", "ctl/seat", "me"], GoesOn("me"), ""),
    row("endpoint health", &["endpoint", "health"], Shows("is healthy"), ""),
    row("endpoint status", &["endpoint", "status"], Shows("3.6.0"), "reports the version of etcd whose API this is"),
    row("endpoint hashkv", &["endpoint", "hashkv"], Shows(", "), "etcd's own hash, byte for byte"),
    row("alarm list", &["alarm", "list"], Shows(""), ""),
    row("alarm disarm", &["alarm", "disarm"], Shows(""), ""),
    row("defrag", &["defrag"], Shows("Finished defragmenting"), "does nothing: the store keeps no free pages"),
    row(
        "snapshot save",
        &["snapshot", "save", "{dir}/store.snapshot"],
        Shows("Snapshot saved at"),
        "in the store's own format: restore it with `meshctl store snapshot restore`, not with etcdutl",
    ),
    row(
        "make-mirror",
        &["make-mirror", "{mirror}", "--prefix", "cilium/", "--dest-insecure-transport"],
        Mirrors("cilium/cluster-config/east"),
        "to an etcd or from one",
    ),
    row("member list", &["member", "list"], Shows("started"), ""),
    row(
        "member add",
        &["member", "add", "m2", "--peer-urls=https://127.0.0.1:2380"],
        Refused(ALONE),
        "passes where the server was started with a Raft address",
    ),
    row(
        "member promote",
        &["member", "promote", "{member}"],
        Refused("can only promote a learner member"),
        "passes for a learner that has caught up",
    ),
    row(
        "member remove",
        &["member", "remove", "{member}"],
        Refused("not enough started members"),
        "passes while enough members stay; never for the last one",
    ),
    row(
        "member update",
        &["member", "update", "{member}", "--peer-urls=https://127.0.0.1:2380"],
        Shows("updated in cluster"),
        "",
    ),
    row("move-leader", &["move-leader", "4711"], Refused("bad leader transferee"), "passes for another voter"),
    row("auth status", &["auth", "status"], Shows("Authentication Status: false"), "until users are switched on"),
    row("user add", &["user", "add", "root", "--no-password"], Shows("User root created"), NO_PASSWORDS),
    typed(
        row(
            "user passwd",
            &["user", "passwd", "root", "--interactive=false"],
            Refused("passwords are not kept here: add it with --no-password"),
            NO_PASSWORDS,
        ),
        "secret\n",
    ),
    row("user grant-role", &["user", "grant-role", "root", "root"], Shows("Role root is granted to user root"), ""),
    row("user get", &["user", "get", "root"], Shows("Roles: root"), ""),
    row("user list", &["user", "list"], Shows("root"), ""),
    row("role add", &["role", "add", "r"], Shows("Role r created"), ""),
    row(
        "role grant-permission",
        &["role", "grant-permission", "r", "read", "k"],
        Shows("Role r updated"),
        "for any range but what lies in `isthmus/`",
    ),
    row("role get", &["role", "get", "r"], Shows("KV Read:\n\tk"), ""),
    row("role list", &["role", "list"], Shows("r"), ""),
    row("auth enable", &["auth", "enable"], Shows("Authentication Enabled"), "certificates count before and after it"),
    row(
        "role revoke-permission",
        &["role", "revoke-permission", "r", "k"],
        Shows("Permission of key k is revoked"),
        "",
    ),
    row("role delete", &["role", "delete", "r"], Shows("Role r deleted"), ""),
    row(
        "auth disable",
        &["auth", "disable"],
        Shows("Authentication Disabled"),
        "then no user of the store may do anything",
    ),
    row("user revoke-role", &["user", "revoke-role", "root", "root"], Shows("Role root is revoked from user root"), ""),
    row("user delete", &["user", "delete", "root"], Shows("User root deleted"), ""),
    row(
        "check datascale",
        &["check", "datascale", "--load=nonsense"],
        Refused("unknown load option"),
        "reads the memory of etcd's own process from its /metrics: Isthmus has that at another port",
    ),
    row(
        "check perf",
        &["check", "perf", "--load=nonsense"],
        Refused("unknown load option"),
        "tried with a load that it does not know: a real one runs for a minute",
    ),
    row("downgrade validate", &["downgrade", "validate", "3.5"], Refused("Downgrade"), "an etcd's affair"),
    row("downgrade enable", &["downgrade", "enable", "3.5"], Refused("Downgrade"), "an etcd's affair"),
    row("downgrade cancel", &["downgrade", "cancel"], Refused("Downgrade"), "an etcd's affair"),
    row("version", &["version"], Shows("etcdctl version: 3."), "asks no server"),
    row("completion", &["completion", "bash"], Shows("bash completion"), "asks no server"),
    row("help", &["help", "put"], Shows("put"), "asks no server"),
];
