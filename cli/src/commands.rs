//! What each command does.

use std::future::Future;
use std::io::Read;

use agentwrit_client::AuditQuery;
use agentwrit_protocol::Sensitive;
use serde_json::json;

use crate::Environment;
use crate::args::{AuditCommand, Cli, Command, EventsArgs, Global, PodCommand, RevokeArgs, TokenCommand};
use crate::error::CliError;
use crate::init;
use crate::output::{Output, cut};
use crate::session::{admin_secret, client, login};

/// No token is longer.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

pub(crate) fn run(cli: Cli, environment: Environment<'_>, output: &mut Output<'_>) -> Result<(), CliError> {
    let global = cli.global;
    match cli.command {
        Command::Init(args) => init::run(&args, environment, output),
        Command::Revoke(args) => revoke(&global, args, environment, output),
        Command::Audit(AuditCommand::Events(args)) => audit_events(&global, args, environment, output),
        Command::Token(TokenCommand::Release(args)) => token_release(&global, args.token, environment, output),
        Command::Pod(PodCommand::Release(args)) => pod_release(&global, &args.uid, environment, output),
    }
}

fn wait_for<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?
        .block_on(work)
}

fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn revoke(
    global: &Global,
    args: RevokeArgs,
    environment: Environment<'_>,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let (Some(level), Some(target)) = (given(args.level), given(args.target)) else {
        return Err(CliError::Usage("--level and --target are required".to_owned()));
    };
    let client = client(global, environment)?;
    let secret = admin_secret(environment)?;
    let answer = wait_for(async {
        let token = login(&client, &secret).await?;
        Ok(client.revoke(&token, &level, &target).await?)
    })?;
    output.result(&answer, ["REVOKED", "LEVEL", "TARGET", "COUNT"], |answer| {
        let (level, target) = (answer.level.clone(), answer.target.clone());
        vec![[answer.revoked.to_string(), level, target, answer.count.to_string()]]
    })?;
    Ok(())
}

fn audit_events(
    global: &Global,
    args: EventsArgs,
    environment: Environment<'_>,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let query = AuditQuery {
        agent_id: given(args.agent_id),
        task_id: given(args.task_id),
        event_type: given(args.event_type),
        outcome: given(args.outcome),
        since: given(args.since),
        until: given(args.until),
        correlation_id: given(args.correlation_id),
        pod_uid: given(args.pod_uid),
        limit: args.limit.filter(|limit| *limit > 0),
        offset: args.offset.filter(|offset| *offset > 0),
    };
    let client = client(global, environment)?;
    let secret = admin_secret(environment)?;
    let answer = wait_for(async {
        let token = login(&client, &secret).await?;
        Ok(client.audit_events(&token, &query).await?)
    })?;
    let header = ["ID", "TIMESTAMP", "EVENT TYPE", "AGENT ID", "OUTCOME", "DETAIL"];
    output.result(&answer, header, |answer| {
        let row = |event: &agentwrit_protocol::audit::AuditEvent| {
            [
                event.id.clone(),
                event.timestamp.clone(),
                event.event_type.clone(),
                event.agent_id.clone(),
                event.outcome.clone(),
                cut(readable(&event.detail)),
            ]
        };
        answer.events.iter().map(row).collect()
    })?;
    output.note(&format!(
        "Showing {} of {} events (offset={}, limit={})",
        answer.events.len(),
        answer.total,
        answer.offset,
        answer.limit
    ))?;
    Ok(())
}

/// A detail without the hash that binds the extra fields into the chain: for people it only pushes words out.
fn readable(detail: &str) -> &str {
    detail.rsplit_once(" ext_hash=").map_or(detail, |(text, _)| text)
}

fn token_release(
    global: &Global,
    token: Option<String>,
    environment: Environment<'_>,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let Some(token) = given(token) else {
        return Err(CliError::Usage("--token is required".to_owned()));
    };
    let client = client(global, environment)?;
    let token = if token == "-" {
        token_from_input()?
    } else {
        Sensitive::from(token)
    };
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
    output.lines(&value, &[line.to_owned()])?;
    Ok(())
}

/// The token on standard input: other users see a process's arguments, not its input.
fn token_from_input() -> Result<Sensitive, CliError> {
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

fn pod_release(
    global: &Global,
    uid: &str,
    environment: Environment<'_>,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    if uid.is_empty() {
        return Err(CliError::Usage("UID must be the metadata.uid of a pod".to_owned()));
    }
    let client = client(global, environment)?;
    let secret = admin_secret(environment)?;
    let answer = wait_for(async {
        let token = login(&client, &secret).await?;
        Ok(client.pod_release(&token, uid).await?)
    })?;
    output.result(&answer, ["POD_UID", "RELEASED"], |answer| {
        vec![[uid.to_owned(), answer.released.to_string()]]
    })?;
    output.note(if answer.released {
        "The pod may get a token again; its sidecar asks within a minute."
    } else {
        "The pod wasn't quarantined: nothing to release."
    })?;
    Ok(())
}
