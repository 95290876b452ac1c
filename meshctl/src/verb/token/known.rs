//! `meshctl token list` and `revoke`: what was handed out, to whom, and what became of it. Never the secrets.

use jiff::Timestamp;
use mesh_proto::v1;
use serde::Serialize;

use crate::admin::Admin;
use crate::app::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::table::{Cell, Table, Tone};
use crate::{age, ask};

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It can be used.
    Unused,
    Used,
    Expired,
    Revoked,
}

#[derive(Debug, Serialize)]
struct Row {
    context: String,
    id: String,
    kind: String,
    bearer: String,
    state: State,
    expires: Option<Timestamp>,
    used: Option<Timestamp>,
    /// Hash of the CA, or of the node's key.
    #[serde(skip_serializing_if = "String::is_empty")]
    used_by: String,
    revoked: Option<Timestamp>,
}

pub(crate) async fn list(run: &Run) -> Result<Exit, Failure> {
    let answers = ask::all(&run.asked, run.timeout, |mut admin| async move {
        let result = admin.api.list_tokens(v1::ListTokensRequest {}).await;
        Ok(admin.answer("ListTokens", result)?.tokens)
    })
    .await;
    let exit = answers.exit();
    let now = Timestamp::now();
    let rows: Vec<Row> = answers
        .answers
        .into_iter()
        .flat_map(|(context, tokens)| tokens.into_iter().map(move |token| row(&context, token, now)))
        .collect();
    run.report(&answers.failures);
    run.output.data(&rows, |rows, colour| {
        let table = table(rows);
        if run.several() { table.render(colour) } else { table.without("CLUSTER").render(colour) }
    })?;
    Ok(exit)
}

pub(crate) async fn revoke(run: &Run, id: &str) -> Result<Exit, Failure> {
    let [context] = run.asked.as_slice() else {
        return Err(Failure::said(Exit::Usage, "token revoke", "several contexts: a token is one cluster's")
            .hint("name it with --context"));
    };
    let mut admin = Admin::connect(context, run.timeout).await?;
    let result = admin.api.revoke_token(v1::RevokeTokenRequest { id: id.to_owned() }).await;
    let v1::RevokeTokenResponse { token, was_revoked } = admin.answer("RevokeToken", result)?;
    let row = row(&context.name, token.unwrap_or_default(), Timestamp::now());
    let consequence = consequence(&row);
    run.output.data(&row, |row, _| {
        let word = if was_revoked { "was revoked already" } else { "is revoked" };
        format!("token {} for {} {word}\n", row.id, row.bearer)
    })?;
    if let Some(text) = consequence {
        output::note(text);
    }
    Ok(Exit::Ok)
}

/// A token that was used has done its work: what undoes that is another command.
fn consequence(row: &Row) -> Option<String> {
    row.used?;
    Some(match row.kind.as_str() {
        "join" => {
            format!("it was used before: {} stays joined until `meshctl peers revoke` or `disconnect`", row.bearer)
        }
        _ => format!("it was used before: {} keeps its certificate until that expires", row.bearer),
    })
}

fn row(context: &str, token: v1::TokenRow, now: Timestamp) -> Row {
    let [expires, used, revoked] =
        [token.expires_unix_nanos, token.redeemed_unix_nanos, token.revoked_unix_nanos].map(age::timestamp);
    let state = match (revoked, used, expires) {
        (Some(_), ..) => State::Revoked,
        (_, Some(_), _) => State::Used,
        (_, _, Some(expires)) if expires <= now => State::Expired,
        _ => State::Unused,
    };
    Row {
        context: context.to_owned(),
        id: token.id,
        kind: token.kind,
        bearer: token.bearer,
        state,
        expires,
        used,
        used_by: token.redeemed_by,
        revoked,
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["CLUSTER", "ID", "KIND", "FOR", "STATE", "EXPIRES", "USED"]);
    for row in rows {
        let state = match row.state {
            State::Unused => Cell::toned("unused", Tone::Warn),
            State::Used => "used".into(),
            State::Expired => "expired".into(),
            State::Revoked => "revoked".into(),
        };
        let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
        table.row([
            row.context.as_str().into(),
            row.id.as_str().into(),
            row.kind.as_str().into(),
            row.bearer.as_str().into(),
            state,
            time(row.expires).into(),
            time(row.used).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires: u64, redeemed: u64, revoked: u64) -> v1::TokenRow {
        let nanos = |seconds: u64| seconds * 1_000_000_000;
        v1::TokenRow {
            id: "t1".into(),
            kind: "join".into(),
            bearer: "cluster west (id 2)".into(),
            expires_unix_nanos: nanos(expires),
            redeemed_unix_nanos: nanos(redeemed),
            revoked_unix_nanos: nanos(revoked),
            ..Default::default()
        }
    }

    #[test]
    fn the_state_says_whether_a_token_can_still_be_used() {
        let now = Timestamp::from_second(1_000).unwrap();
        let state = |token| row("a", token, now).state;
        assert_eq!(state(token(1_001, 0, 0)), State::Unused);
        assert_eq!(state(token(1_000, 0, 0)), State::Expired);
        assert_eq!(state(token(900, 800, 0)), State::Used);
        assert_eq!(state(token(2_000, 0, 950)), State::Revoked);
        let used = row("a", token(2_000, 900, 950), now);
        assert!(consequence(&used).unwrap().contains("cluster west (id 2) stays joined"));
        assert_eq!(consequence(&row("a", token(2_000, 0, 950), now)), None);
    }

    #[test]
    fn the_table_shows_for_whom_and_until_when() {
        let text = table(&[row("a", token(2_000, 0, 0), Timestamp::from_second(1_000).unwrap())]).render(false);
        assert_eq!(
            text,
            "CLUSTER  ID  KIND  FOR                  STATE   EXPIRES               USED\n\
             a        t1  join  cluster west (id 2)  unused  1970-01-01T00:33:20Z  -\n"
        );
    }
}
