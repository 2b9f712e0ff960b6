//! `awrit audit`.

use clap::{Args, Subcommand};

const EVENTS_EXAMPLES: &str = "\
Times are RFC 3339. The trail is kept in order; --offset and --limit page through what the filters leave.

Examples:
  awrit audit events --pod-uid $(kubectl get pod NAME -o jsonpath='{.metadata.uid}')
  awrit audit events --outcome denied --since 2026-11-21T07:00:00Z
  awrit audit events --event-type token_revoked --actor admin
  awrit audit events --correlation-id ID --json";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, oldest first
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(Box<EventsArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only this agent (SPIFFE id)
    #[arg(long)]
    pub(crate) agent_id: Option<String>,
    /// Only this task
    #[arg(long)]
    pub(crate) task_id: Option<String>,
    /// Only this type, such as `token_renewed`
    #[arg(long)]
    pub(crate) event_type: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Not after this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Most events to list, up to 1000; default 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) limit: Option<i64>,
    /// Events to skip
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) offset: Option<i64>,
    /// success or denied
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Only the session that began with this launch
    #[arg(long, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// Only refusals of this kind, such as `pod_quarantined`
    #[arg(long, value_name = "KIND")]
    pub(crate) error_kind: Option<String>,
    /// Only what this subject or ServiceAccount did
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only what came from this network address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<String>,
    /// Only this AgentApp or LaunchToken (metadata.uid)
    #[arg(long, value_name = "UID")]
    pub(crate) policy_uid: Option<String>,
    /// Only this pod (metadata.uid)
    #[arg(long, value_name = "UID")]
    pub(crate) pod_uid: Option<String>,
}
