//! etcd's words for alarms: reading, raising and disarming them.

use etcd_client::proto::{PbAlarmMember, PbAlarmRequest};
use mesh_store_mvcc::{Alarm, AlarmAction, AlarmKind};

use crate::backend::{Result, Store};

/// `AlarmRequest.AlarmAction`.
pub(super) const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
/// `AlarmType`; 0 is none of them, or all.
const NO_SPACE: i32 = 1;
const CORRUPT: i32 = 2;

/// Does what was asked and says which alarms it was about: for a reader those that are raised, else the one that changed.
pub(super) async fn act(store: &dyn Store, request: &PbAlarmRequest) -> Result<Vec<PbAlarmMember>> {
    let kind = kind(request.alarm);
    let alarm = |kind| Alarm { kind, member_id: request.member_id };
    let alarms: Vec<Alarm> = match (request.action, kind) {
        (GET, kind) => {
            let raised = store.alarms(true).await?.into_iter();
            raised.filter(|alarm| request.alarm == 0 || Some(alarm.kind) == kind).collect()
        }
        (ACTIVATE, Some(kind)) => store.set_alarm(AlarmAction::Raise, alarm(kind)).await?.into_iter().collect(),
        (DEACTIVATE, Some(kind)) => store.set_alarm(AlarmAction::Disarm, alarm(kind)).await?.into_iter().collect(),
        // As in etcd, raising none, or doing what is not known, changes nothing.
        _ => Vec::new(),
    };
    Ok(alarms.into_iter().filter_map(member).collect())
}

/// How `endpoint status` names the alarms, as protobuf text; a store that has none to tell of has none here.
pub(super) async fn raised(store: &dyn Store) -> Vec<String> {
    let text = |alarm: Alarm| format!("memberID:{} alarm:{} ", alarm.member_id, alarm.kind.name());
    let alarms = store.alarms(false).await.unwrap_or_default().into_iter();
    alarms.filter(|alarm| number(alarm.kind).is_some()).map(text).collect()
}

fn kind(named: i32) -> Option<AlarmKind> {
    match named {
        NO_SPACE => Some(AlarmKind::NoSpace),
        CORRUPT => Some(AlarmKind::Corrupt),
        _ => None,
    }
}

/// `None` for what etcd does not know.
fn number(kind: AlarmKind) -> Option<i32> {
    match kind {
        AlarmKind::NoSpace => Some(NO_SPACE),
        AlarmKind::Corrupt => Some(CORRUPT),
        AlarmKind::LowDisk => None,
    }
}

fn member(alarm: Alarm) -> Option<PbAlarmMember> {
    Some(PbAlarmMember { member_id: alarm.member_id, alarm: number(alarm.kind)? })
}
