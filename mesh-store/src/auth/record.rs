//! The book in the store: one JSON record, replaced by compare and put, so that a change is made whole or not at all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mesh_store_mvcc::{Compare, KeyRange, PutRequest, RangeRequest, TxnOp, TxnRequest};
use serde::{Deserialize, Serialize};

use super::KEY;
use super::book::{Book, Change, Permission, PermissionKind};
use super::error::AuthError;
use crate::backend::{self, Store};

/// Well below what one request may carry, so that a book that was written can always be written again.
const MAX_BYTES: usize = 1 << 20;
const VERSION: u32 = 1;
/// Others may change the record at the same moment; each of them got its change in.
const ATTEMPTS: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot read {KEY}")]
    Store(#[from] backend::Error),
    #[error("{KEY} in the store is not a record of users: `etcdctl del {KEY}` removes it, then add them again")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "{KEY} in the store has version {version}, and {VERSION} is known here: run the newer server, or restore a backup"
    )]
    Version { version: u32 },
    #[error("{KEY} in the store holds a key that is not base64: `etcdctl del {KEY}` removes it, then add users again")]
    Key(#[source] base64::DecodeError),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Refused(#[from] AuthError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{KEY} was changed by others {ATTEMPTS} times in a row: try again")]
    Contended,
}

/// The book as it was read, and where it stands in the store's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub book: Book,
    /// Of the record; 0 while there is none.
    pub mod_revision: i64,
    /// Of the store when it was read.
    pub revision: i64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    enabled: bool,
    revision: u64,
    users: std::collections::BTreeMap<String, std::collections::BTreeSet<String>>,
    roles: std::collections::BTreeMap<String, Vec<Line>>,
}

/// A permission; keys are any bytes.
#[derive(Serialize, Deserialize)]
struct Line {
    kind: PermissionKind,
    key: String,
    range_end: String,
}

impl Ledger {
    /// Reads the record; `serializable` as this replica knows it.
    pub async fn read(store: &dyn Store, serializable: bool) -> Result<Self, RecordError> {
        let found = store.range(RangeRequest { serializable, ..RangeRequest::get(KEY) }).await?;
        let revision = found.revision;
        match found.kvs.first() {
            Some(kv) => Ok(Self { book: decode(&kv.value)?, mod_revision: kv.mod_revision, revision }),
            None => Ok(Self { revision, ..Self::default() }),
        }
    }

    /// Makes a change and returns what is then in the store.
    pub async fn update(store: &dyn Store, change: &Change) -> Result<Self, UpdateError> {
        for _ in 0..ATTEMPTS {
            let mut read = Self::read(store, false).await?;
            if !read.book.apply(change)? {
                return Ok(read);
            }
            if let Some(revision) = read.write(store).await? {
                return Ok(Self { mod_revision: revision, revision, ..read });
            }
        }
        Err(UpdateError::Contended)
    }

    /// `None` when the record has changed since it was read.
    async fn write(&self, store: &dyn Store) -> Result<Option<i64>, UpdateError> {
        let value = encode(&self.book);
        if value.len() > MAX_BYTES {
            return Err(AuthError::TooLarge { bytes: value.len(), limit: MAX_BYTES }.into());
        }
        let request = TxnRequest {
            compare: vec![Compare::mod_revision(KEY, self.mod_revision)],
            success: vec![TxnOp::Put(PutRequest::new(KEY, value))],
            failure: Vec::new(),
        };
        let answer = store.txn(request).await.map_err(RecordError::Store)?;
        Ok(answer.succeeded.then_some(answer.revision))
    }
}

fn encode(book: &Book) -> Vec<u8> {
    let line = |permission: &Permission| Line {
        kind: permission.kind,
        key: STANDARD.encode(&permission.range.key),
        range_end: STANDARD.encode(&permission.range.range_end),
    };
    let roles = book.roles.iter().map(|(role, permissions)| (role.clone(), permissions.iter().map(line).collect()));
    let record = Record {
        version: VERSION,
        enabled: book.enabled,
        revision: book.revision,
        users: book.users.clone(),
        roles: roles.collect(),
    };
    serde_json::to_vec(&record).expect("text keys and plain values are JSON")
}

fn decode(value: &[u8]) -> Result<Book, RecordError> {
    let record: Record = serde_json::from_slice(value).map_err(RecordError::Malformed)?;
    if record.version != VERSION {
        return Err(RecordError::Version { version: record.version });
    }
    let bytes = |text: &String| STANDARD.decode(text).map(Bytes::from).map_err(RecordError::Key);
    let permission = |line: &Line| {
        let range = KeyRange::new(bytes(&line.key)?, bytes(&line.range_end)?);
        Ok(Permission { kind: line.kind, range })
    };
    let permissions = |lines: Vec<Line>| lines.iter().map(permission).collect::<Result<Vec<_>, RecordError>>();
    let roles = record.roles.into_iter().map(|(role, lines)| Ok((role, permissions(lines)?)));
    let roles = roles.collect::<Result<_, RecordError>>()?;
    Ok(Book { enabled: record.enabled, revision: record.revision, users: record.users, roles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_comes_back_as_it_was_written() {
        let mut book = Book::default();
        let permission = Permission { kind: PermissionKind::ReadWrite, range: KeyRange::new(vec![0xff, 0], "\0") };
        for change in [
            Change::UserAdd { user: "root".to_owned() },
            Change::UserGrantRole { user: "root".to_owned(), role: "root".to_owned() },
            Change::RoleAdd { role: "r".to_owned() },
            Change::RoleGrantPermission { role: "r".to_owned(), permission },
            Change::Enable,
        ] {
            book.apply(&change).unwrap();
        }
        assert_eq!(decode(&encode(&book)).unwrap(), book);
    }

    #[test]
    fn what_is_no_record_is_named_with_its_key_and_the_way_out() {
        let text = |value: &str| decode(value.as_bytes()).unwrap_err().to_string();
        assert!(
            text("{").contains("isthmus/v1/auth in the store is not a record of users: `etcdctl del isthmus/v1/auth`")
        );
        let newer = r#"{"version":2,"enabled":true,"revision":1,"users":{},"roles":{}}"#;
        assert!(text(newer).contains("has version 2, and 1 is known here"));
        let line = r#"{"kind":"read","key":"?","range_end":""}"#;
        let damaged = format!(r#"{{"version":1,"enabled":true,"revision":1,"users":{{}},"roles":{{"r":[{line}]}}}}"#);
        assert!(text(&damaged).contains("holds a key that is not base64"));
    }
}
