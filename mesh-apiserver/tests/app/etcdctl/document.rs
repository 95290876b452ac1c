//! `docs/etcdctl.md` is the table.

use super::commands::{COMMANDS, Wants};
use super::workspace;

const HEAD: &str = "\
# etcdctl against Isthmus

A released etcdctl (3.6) over its whole command list against a `mesh-apiserver`, with the administrator's certificate.
`mesh-apiserver/tests/app/etcdctl.rs` runs every line of this table and holds this file to it.

```
etcdctl --endpoints https://HOST:2379 --cacert ca.crt --cert admin.crt --key admin.key <command>
```

| Command | | Remark |
|---|---|---|
";

fn text() -> String {
    let mut rows: Vec<_> = COMMANDS.iter().collect();
    rows.sort_by_key(|row| row.command);
    let lines = rows.iter().map(|row| {
        let result = if matches!(row.wants, Wants::Refused(_)) { "refused" } else { "passes" };
        format!("| `{}` | {result} | {} |\n", row.command, row.remark)
    });
    HEAD.to_owned() + &lines.collect::<String>()
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = workspace().join("docs/etcdctl.md");
    let (wanted, found) = (text(), std::fs::read_to_string(&path).unwrap_or_default());
    if wanted != found {
        let beside = workspace().join("target/etcdctl.md");
        std::fs::write(&beside, wanted).unwrap();
        panic!("{} differs from the table: what it should be is in {}", path.display(), beside.display());
    }
}
