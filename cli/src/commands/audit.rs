//! `awrit audit events`.

use agentwrit_client::AuditQuery;
use agentwrit_protocol::audit::AuditEvent;

use super::given;
use crate::args::EventsArgs;
use crate::error::CliError;
use crate::output::cut;
use crate::session::Context;

pub(super) fn events(args: EventsArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let query = AuditQuery {
        agent_id: given(args.agent_id),
        task_id: given(args.task_id).map(Into::into),
        event_type: given(args.event_type),
        outcome: given(args.outcome),
        since: given(args.since),
        until: given(args.until),
        correlation_id: given(args.correlation_id),
        error_kind: given(args.error_kind),
        actor: given(args.actor),
        source: given(args.source),
        policy_uid: given(args.policy_uid).map(Into::into),
        pod_uid: given(args.pod_uid).map(Into::into),
        limit: args.limit.filter(|limit| *limit > 0),
        offset: args.offset.filter(|offset| *offset > 0),
        cursor: given(args.cursor),
    };
    let answer = context.as_admin(async |client, token| client.audit_events(token, &query).await)?;
    let header = ["ID", "TIMESTAMP", "EVENT TYPE", "AGENT ID", "OUTCOME", "DETAIL"];
    let row = |event: &AuditEvent| {
        [
            event.id.clone(),
            event.timestamp.clone(),
            event.event_type.clone(),
            event.agent_id.clone(),
            event.outcome.clone(),
            cut(readable(&event.detail)),
        ]
    };
    context
        .output
        .result(&answer, header, |answer| answer.events.iter().map(row).collect())?;
    context.output.note(&format!(
        "Showing {} of {} events (offset={}, limit={})",
        answer.events.len(),
        answer.total,
        answer.offset,
        answer.limit
    ))?;
    if let Some(cursor) = &answer.next_cursor {
        context.output.note(&format!("Next page: --cursor {cursor}"))?;
    }
    Ok(())
}

/// A detail without the hash that binds the extra fields into the chain: people don't read it, and it takes their room.
fn readable(detail: &str) -> &str {
    detail.rsplit_once(" ext_hash=").map_or(detail, |(text, _)| text)
}
