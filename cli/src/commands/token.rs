//! `awrit token`.

use std::io::Read;

use agentwrit_protocol::claims::{Claims, MAX_HEADER_LINE, too_long_for_a_header};
use agentwrit_protocol::timestamp::rfc3339_nanos;
use agentwrit_protocol::{Sensitive, UnixSeconds};
use serde_json::json;

use super::required;
use crate::args::TokenArgs;
use crate::error::CliError;
use crate::session::{Context, wait_for};

/// No token is longer.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

pub(super) fn release(args: TokenArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let token = required(args.token, "--token")?;
    let client = context.client()?;
    let token = read(token)?;
    let already = wait_for(async {
        match client.release(&token).await {
            Ok(()) => Ok(false),
            Err(error) => match error.refusal() {
                Some(refusal) if refusal.status == 403 && refusal.body.contains("revoked") => Ok(true),
                _ => Err(error.into()),
            },
        }
    })?;
    let line = if already {
        "Token already released (revoked)."
    } else {
        "Token released successfully."
    };
    let value = json!({"released": true, "already_revoked": already});
    context.output.lines(&value, &[line.to_owned()])?;
    Ok(())
}

pub(super) fn validate(args: TokenArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let token = required(args.token, "--token")?;
    let client = context.client()?;
    let token = read(token)?;
    let answer = wait_for(async { Ok(client.validate(&token).await?) })?;
    if let Some(line) = too_long_for_a_header(token.expose().len()) {
        context.output.note(&format!(
            "Warning: the header line with this token has {line} bytes; common servers refuse more than {MAX_HEADER_LINE}."
        ))?;
    }
    if let Some(claims) = answer.claims.as_ref().filter(|_| answer.valid) {
        context.output.fields(&answer, |_| rows(claims))?;
        return Ok(());
    }
    context.output.json_only(&answer)?;
    let said = answer.error.as_deref().unwrap_or("token is invalid or expired");
    Err(CliError::Invalid(said.to_owned()))
}

/// The claims of the token; empty ones are left out.
fn rows(claims: &Claims) -> Vec<(&'static str, String)> {
    let chain: Vec<&str> = claims
        .delegation_chain
        .iter()
        .map(|record| record.agent.as_str())
        .collect();
    let mut rows = vec![
        ("ISS", claims.iss.clone()),
        ("SUB", claims.sub.clone()),
        ("AUD", claims.aud.join(",")),
        ("EXP", moment(claims.exp)),
        ("NBF", moment(claims.nbf)),
        ("IAT", moment(claims.iat)),
        ("JTI", claims.jti.to_string()),
        ("SID", claims.sid.to_string()),
        ("SCOPE", claims.scope.join(",")),
        ("TASK_ID", claims.task_id.to_string()),
        ("ORCH_ID", claims.orch_id.to_string()),
        ("DELEGATION_CHAIN", chain.join(" > ")),
    ];
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// Seconds since 1970, and as people write them.
fn moment(second: UnixSeconds) -> String {
    match time::OffsetDateTime::from_unix_timestamp(second.get()) {
        Ok(moment) => format!("{second} ({})", rfc3339_nanos(moment)),
        Err(_) => second.to_string(),
    }
}

/// The token, from standard input when it is `-`: other users see a process's arguments, not its input.
fn read(token: String) -> Result<Sensitive, CliError> {
    if token != "-" {
        return Ok(Sensitive::from(token));
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_TOKEN_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| CliError::Usage(format!("--token -: standard input can't be read: {error}")))?;
    match text.trim() {
        "" => Err(CliError::Usage("--token -: standard input is empty".to_owned())),
        token => Ok(Sensitive::from(token)),
    }
}
