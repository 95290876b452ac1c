//! What keeps an external etcd well: its alarms, its hash, its snapshot. All of it is etcd's own.

use bytes::Bytes;
use etcd_client::proto::PbAlarmMember;
use etcd_client::{AlarmAction as EtcdAction, AlarmOptions, AlarmType, Error as EtcdError};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use mesh_store_mvcc::{Alarm, AlarmAction, AlarmKind, Error as Refusal, HashKv};
use tokio::time::Instant;

use super::store::{RETRY_PAUSE, RETRY_READS};
use super::{External, errors};
use crate::backend::{Backup, BackupChunk, Error, Result};

/// `AlarmType`, as numbers on the wire.
const NO_SPACE: i32 = 1;
const CORRUPT: i32 = 2;

/// `None` for an alarm that this version does not know.
fn alarm(raised: &PbAlarmMember) -> Option<Alarm> {
    let kind = match raised.alarm {
        NO_SPACE => AlarmKind::NoSpace,
        CORRUPT => AlarmKind::Corrupt,
        _ => return None,
    };
    Some(Alarm { kind, member_id: raised.member_id })
}

impl External {
    pub(super) fn list_alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        async move {
            let call = || {
                let mut maintenance = self.maintenance.clone();
                async move { maintenance.alarm(EtcdAction::Get, AlarmType::None, None).await }
            };
            Ok(self.read(call).await?.0.alarms.iter().filter_map(alarm).collect())
        }
        .boxed()
    }

    pub(super) fn change_alarm(&self, action: AlarmAction, wanted: Alarm) -> BoxFuture<'_, Result<Option<Alarm>>> {
        async move {
            let action = match action {
                AlarmAction::Raise => EtcdAction::Activate,
                AlarmAction::Disarm => EtcdAction::Deactivate,
            };
            let kind = match wanted.kind {
                AlarmKind::NoSpace => AlarmType::Nospace,
                AlarmKind::Corrupt => AlarmType::Corrupt,
                // A replica tells of its own disk; an external etcd has nobody who would.
                AlarmKind::LowDisk => return Err(Error::NotServed { what: "the note of a low disk" }),
            };
            let mut options = AlarmOptions::new();
            options.with_member(wanted.member_id);
            let mut maintenance = self.maintenance.clone();
            let answer = self.ask(maintenance.alarm(action, kind, Some(options))).await?;
            Ok(answer.0.alarms.iter().find_map(alarm))
        }
        .boxed()
    }

    /// A member hashes what it has itself, and may not have applied yet what another has acknowledged: it is asked again.
    pub(super) fn hash(&self, revision: i64) -> BoxFuture<'_, Result<HashKv>> {
        async move {
            let current = self.current_revision().await?;
            let wanted = if revision == 0 { current } else { revision };
            let call = || {
                let mut maintenance = self.maintenance.clone();
                async move { maintenance.hash_kv(wanted).await }
            };
            let deadline = Instant::now() + RETRY_READS;
            let answer = loop {
                match self.read(call).await {
                    Ok(answer) => break answer.0,
                    Err(Error::Refused(Refusal::FutureRevision)) if wanted <= current && Instant::now() < deadline => {
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                    Err(error) => return Err(self.with_compact_revision(error).await),
                }
            };
            Ok(HashKv {
                hash: answer.hash,
                compact_revision: answer.compact_revision,
                hash_revision: answer.hash_revision,
                revision: self.seen.note(answer.header.as_ref()),
            })
        }
        .boxed()
    }

    /// A file of etcd's own format: it is restored with etcdutl.
    pub(super) fn read_snapshot(&self) -> BoxFuture<'_, Result<Backup>> {
        async move {
            let parts = self.ask(self.maintenance.clone().snapshot()).await?;
            let endpoints = std::sync::Arc::clone(&self.endpoints);
            let chunks = stream::try_unfold(parts, move |mut parts| {
                let endpoints = std::sync::Arc::clone(&endpoints);
                async move {
                    let part = parts.message().await.map_err(|error: EtcdError| errors::of(&error, &endpoints))?;
                    Ok(part.map(|part| {
                        let chunk = BackupChunk { data: Bytes::from(part.0.blob), remaining: part.0.remaining_bytes };
                        (chunk, parts)
                    }))
                }
            });
            Ok(Backup { chunks: chunks.boxed() })
        }
        .boxed()
    }
}
