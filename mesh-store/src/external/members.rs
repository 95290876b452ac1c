//! The members of an external etcd: shown and changed as etcd's own.

use etcd_client::MemberAddOptions;
use etcd_client::proto::PbMember;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::External;
use crate::backend::{Member, Result};

fn member(member: PbMember) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_ur_ls,
        client_urls: member.client_ur_ls,
        is_learner: member.is_learner,
    }
}

fn members(list: Vec<PbMember>) -> Vec<Member> {
    let mut list: Vec<Member> = list.into_iter().map(member).collect();
    list.sort_by_key(|member| member.id);
    list
}

impl External {
    pub(super) fn list_members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move {
            let call = || {
                let mut cluster = self.cluster.clone();
                async move { cluster.member_list().await }
            };
            Ok(members(self.read(call).await?.0.members))
        }
        .boxed()
    }

    /// etcd promotes no learner by itself: whoever wants a voter gets one at once.
    pub(super) fn add_member(&self, wanted: Member) -> BoxFuture<'_, Result<Member>> {
        async move {
            let options = MemberAddOptions::new();
            let options = if wanted.is_learner { options.with_is_learner() } else { options };
            let mut cluster = self.cluster.clone();
            let answer = self.ask(cluster.member_add(wanted.peer_urls, Some(options))).await?;
            Ok(answer.0.member.map(member).unwrap_or_default())
        }
        .boxed()
    }

    pub(super) fn remove_member(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move { Ok(members(self.ask(self.cluster.clone().member_remove(id)).await?.0.members)) }.boxed()
    }

    pub(super) fn promote_member(&self, id: u64) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move { Ok(members(self.ask(self.cluster.clone().member_promote(id)).await?.0.members)) }.boxed()
    }

    pub(super) fn update_member(&self, id: u64, peer_urls: Vec<String>) -> BoxFuture<'_, Result<Vec<Member>>> {
        async move {
            let mut cluster = self.cluster.clone();
            Ok(members(self.ask(cluster.member_update(id, peer_urls)).await?.0.members))
        }
        .boxed()
    }
}
