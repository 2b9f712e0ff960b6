//! `awrit audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EVENTS_EXAMPLES: &str = "\
Times are RFC 3339. To page, give --cursor evt-000000, then what the note of each page says. A page that is shorter than
--limit is the last for now.

Examples:
  awrit audit events --pod-uid $(kubectl get pod NAME -o jsonpath='{.metadata.uid}')
  awrit audit events --outcome denied --since 2026-11-21T07:00:00Z
  awrit audit events --event-type token_revoked --actor admin
  awrit audit events --correlation-id ID --json";

const VERIFY_EXAMPLES: &str = "\
Every event holds the hash of the one before it, and checkpoints among them are signed with the broker's key. This
recomputes all hashes, checks the signatures against the published keys, and names the first event that doesn't fit.
The exit code is 0 for an intact trail, and 1 for a broken one or when it can't be read.

An end that was cut off leaves an intact trail, only a shorter one. Note COUNT and HEAD somewhere else, or take sequence
and head of a checkpoint from the broker's log, and give them the next time. Somebody with the broker's key and its store
can rewrite the trail; the noted values show that too.

A broker may drop the oldest events, by age or for want of room. The check then begins at the first that it keeps, says
what was dropped, and fails when more is missing than the trail says. Events that the broker exported before come from
its files, with --file; --live goes on with what it still has.

Examples:
  awrit audit verify
  awrit audit verify --expect-count 1042 --expect-head 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  awrit audit verify --from-checkpoint
  awrit audit verify --file events.jsonl --jwks jwks.json
  awrit audit verify --file audit-*.jsonl --live";
const EXPORT_EXAMPLES: &str = "\
The file can be verified without access to the broker, with the keys that it publishes.

Examples:
  awrit audit export --file events.jsonl
  curl --cacert ca.crt -o jwks.json https://BROKER/.well-known/jwks.json
  awrit audit verify --file events.jsonl --jwks jwks.json";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, oldest first
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(Box<EventsArgs>),
    /// Check that no event was changed, added or taken out
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Write the whole trail to a file, one event a line as the broker serves it
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
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
    /// Begin after this event, as the note of the page before says; evt-000000 for the first page
    #[arg(long, value_name = "EVENT")]
    pub(crate) cursor: Option<String>,
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

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Begin at this checkpoint, whose signature covers the events before it; without a value: at the last one
    #[arg(long, value_name = "EVENT", num_args = 0..=1, default_missing_value = "last")]
    pub(crate) from_checkpoint: Option<String>,
    /// Number of the last event of an earlier verification: it must still be there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) expect_count: Option<i64>,
    /// Hash of the last event of an earlier verification: it must still be there
    #[arg(long, value_name = "HASH", value_parser = hash)]
    pub(crate) expect_head: Option<String>,
    /// Read the events from these files, one a line, and ask no broker; files of one trail may come in any order
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
    /// Go on with the broker's trail after the files
    #[arg(long, requires = "file")]
    pub(crate) live: bool,
    /// File with keys, as /.well-known/jwks.json has them: for --file, or older ones beside those that the broker publishes
    #[arg(long, value_name = "FILE")]
    pub(crate) jwks: Option<PathBuf>,
}

fn hash(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text.to_owned())
    } else {
        Err("it must be 64 characters of 0-9 and a-f".to_owned())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write; default: standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}
