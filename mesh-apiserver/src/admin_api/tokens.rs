//! Tokens that were handed out: shown without their secrets, and made useless.

use std::sync::Arc;

use federation::join::tokens::{Error, TokenRecord, Tokens};
use mesh_proto::v1;
use mesh_runtime::{ErrorChain, clock};
use tonic::Status;

use super::AdminApi;
use crate::agent_api::join::token_code;

impl AdminApi {
    pub(super) async fn tokens(&self) -> Result<v1::ListTokensResponse, Status> {
        let records = Tokens::new(Arc::clone(&self.store)).list().await.map_err(|error| refusal(&error))?;
        Ok(v1::ListTokensResponse { tokens: records.into_iter().map(row).collect() })
    }

    pub(super) async fn revoke(&self, id: &str) -> Result<v1::RevokeTokenResponse, Status> {
        let tokens = Tokens::new(Arc::clone(&self.store));
        let (record, is_new) = match tokens.revoke(id, clock::unix_seconds()).await {
            Err(Error::Unknown { id }) => {
                return Err(Status::not_found(format!(
                    "there is no token {id:?} here: `meshctl token list` shows them"
                )));
            }
            revoked => revoked.map_err(|error| refusal(&error))?,
        };
        if is_new {
            tracing::info!(id = record.id, bearer = %record.bearer, "token revoked");
        }
        Ok(v1::RevokeTokenResponse { token: Some(row(record)), was_revoked: !is_new })
    }
}

fn refusal(error: &Error) -> Status {
    Status::new(token_code(error), ErrorChain(error).to_string())
}

fn row(record: TokenRecord) -> v1::TokenRow {
    let nanos = |seconds: Option<u64>| seconds.unwrap_or_default().saturating_mul(1_000_000_000);
    v1::TokenRow {
        id: record.id,
        kind: record.kind.to_string(),
        bearer: record.bearer.to_string(),
        expires_unix_nanos: nanos(Some(record.expires_unix_seconds)),
        redeemed_by: record.redeemed_by.unwrap_or_default(),
        redeemed_unix_nanos: nanos(record.redeemed_unix_seconds),
        revoked_unix_nanos: nanos(record.revoked_unix_seconds),
    }
}
