//! The whole store as one file that outlives it.
//!
//! ```text
//!  head: 512 bytes of text | body (postcard) | zeroes up to a multiple of 512 | SHA-256 of all before
//! ```
//! `head -c 512 FILE` says what a file is. The end is what etcdctl looks for in a snapshot that it has saved, so it takes
//! this one too; etcdutl does not know the body. It owns the format; it must never know how the state is replicated.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use mesh_store_mvcc::{Image, State};

const TITLE: &str = "isthmus store backup";
const FORMAT: u64 = 1;
const SECTOR: usize = 512;
pub(crate) const HASH: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path:?} cannot be read or written")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path:?} is no backup of an Isthmus store: it does not begin with \"{TITLE}\"")]
    NotABackup { path: PathBuf },
    #[error("{path:?} is of backup format {found}, this program knows format {FORMAT}: use a newer one")]
    Format { path: PathBuf, found: u64 },
    #[error("{path:?} is damaged: {reason}. Use another backup")]
    Damaged { path: PathBuf, reason: String },
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupHead {
    /// The number of the store that it was taken of.
    pub cluster_id: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub keys: u64,
    /// Of the whole file.
    pub bytes: u64,
}

/// Writes a backup; returns its size.
pub(crate) fn write(file: impl Write, cluster_id: u64, image: &Image) -> io::Result<u64> {
    let mut out = Hashed { out: BufWriter::with_capacity(1 << 18, file), hash: Context::new(&SHA256), len: 0 };
    let mut head =
        format!("{TITLE}\nformat={FORMAT}\ncluster-id={cluster_id:016x}\nrevision={}\n", image.revision()).into_bytes();
    head.extend_from_slice(b"restore=meshctl store snapshot restore\n");
    head.resize(SECTOR, b'\n');
    out.write_all(&head)?;
    postcard::to_io(image, &mut out).map_err(io::Error::other)?;
    let padding = out.len.next_multiple_of(SECTOR) - out.len;
    out.write_all(&[0; SECTOR][..padding])?;
    let Hashed { mut out, hash, len } = out;
    out.write_all(hash.finish().as_ref())?;
    out.flush()?;
    Ok((len + HASH) as u64)
}

/// Reads and checks a whole backup, and makes sure that a state can be made of it.
pub fn verify(path: &Path) -> Result<BackupHead, BackupError> {
    read(path).map(|(head, _)| head)
}

pub(crate) fn read(path: &Path) -> Result<(BackupHead, Image), BackupError> {
    let bytes = fs::read(path).map_err(|source| BackupError::Io { path: path.to_path_buf(), source })?;
    parse(path, &bytes)
}

/// What the bytes of `path` are.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(BackupHead, Image), BackupError> {
    let damaged = |reason: &str| BackupError::Damaged { path: path.to_path_buf(), reason: reason.to_owned() };
    if !bytes.starts_with(TITLE.as_bytes()) {
        return Err(BackupError::NotABackup { path: path.to_path_buf() });
    }
    let Some((data, hash)) = bytes.split_at_checked(bytes.len().saturating_sub(HASH)).filter(|(d, _)| d.len() > SECTOR)
    else {
        return Err(damaged("it is too short"));
    };
    let head = String::from_utf8_lossy(&data[..SECTOR]);
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let format = field("format").and_then(|text| text.parse().ok()).ok_or_else(|| damaged("it says no format"))?;
    if format != FORMAT {
        return Err(BackupError::Format { path: path.to_path_buf(), found: format });
    }
    if digest(&SHA256, data).as_ref() != hash {
        return Err(damaged("its checksum does not match: it was cut off or changed"));
    }
    let cluster_id = field("cluster-id").and_then(|text| u64::from_str_radix(text, 16).ok());
    let cluster_id = cluster_id.ok_or_else(|| damaged("it does not say which store it is of"))?;
    let (image, _padding) =
        postcard::take_from_bytes::<Image>(&data[SECTOR..]).map_err(|error| damaged(&error.to_string()))?;
    if !image.can_go_on() {
        return Err(damaged("its numbers are at their end"));
    }
    let state = State::restore(image.clone());
    let head = BackupHead {
        cluster_id,
        revision: state.revision(),
        compact_revision: state.compact_revision(),
        keys: state.key_count() as u64,
        bytes: bytes.len() as u64,
    };
    Ok((head, image))
}

/// A backup with this head and body, whatever they are.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn with_checksum(data: &[u8]) -> Vec<u8> {
    let mut file = data.to_vec();
    file.resize(file.len().next_multiple_of(SECTOR), 0);
    file.extend_from_slice(digest(&SHA256, &file).as_ref());
    file
}

/// Counts and hashes what is written.
struct Hashed<W: Write> {
    out: W,
    hash: Context,
    len: usize,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.len += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use mesh_store_mvcc::{Command, PutRequest};

    use super::*;

    fn state() -> State {
        let mut state = State::default();
        for n in 0..100 {
            state.apply(Command::Put(PutRequest::new(format!("k/{n}"), "v".repeat(n)))).result.unwrap();
        }
        state
    }

    #[test]
    fn a_backup_is_read_as_it_was_written_and_any_change_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let state = state();
        let size = write(&mut File::create(&path).unwrap(), 0xabc, &state.image()).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!((bytes.len() as u64, bytes.len() % SECTOR), (size, HASH), "as etcdctl wants it");
        let (head, image) = read(&path).unwrap();
        assert_eq!((head.cluster_id, head.revision, head.keys), (0xabc, 101, 100));
        assert_eq!(State::restore(image).image(), state.image());

        for at in [SECTOR / 2, SECTOR + 7, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(matches!(verify(&path), Err(BackupError::Damaged { .. })), "at {at}");
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(verify(&path), Err(BackupError::Damaged { .. })));
        fs::write(&path, "something else").unwrap();
        assert!(matches!(verify(&path), Err(BackupError::NotABackup { .. })));
    }
}
