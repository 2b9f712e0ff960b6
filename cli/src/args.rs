//! Flags and arguments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const AFTER: &str = "\
Environment:
  AACTL_BROKER_URL    the broker's URL, such as https://agentwrit-broker.agentwrit-system.svc:8443
  AACTL_ADMIN_SECRET  the admin secret
  AACTL_CA_CERT       file with the CA certificate, as --ca-cert

The CA of an installation, from any namespace that uses it:
  kubectl get configmap agentwrit-ca -o jsonpath='{.data.ca\\.crt}' > ca.crt";

/// The command line of AgentWrit.
#[derive(Debug, Parser)]
#[command(name = "awrit", version, about, after_help = AFTER, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// File with the CA certificate that signed the broker's, PEM; default: the system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AACTL_CA_CERT",
        hide_env_values = true
    )]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Seconds to wait for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a configuration with a new admin secret, for a broker outside Kubernetes
    #[command(after_help = "Examples:\n  awrit init\n  awrit init --mode prod --config-path /etc/broker/config")]
    Init(InitArgs),
    /// Revoke a token, an agent, a task or a delegation chain
    #[command(after_help = "\
Levels: token (by jti), agent (by SPIFFE id), task (by task id; a pod's UID), chain (by the root agent's SPIFFE id).
There is no way back for what is revoked; the pod of an attested agent may start anew after: awrit pod release UID

Examples:
  awrit revoke --level agent --target spiffe://agentwrit.local/agent/k8s.shop.orders/<pod UID>/<instance>
  awrit revoke --level task --target <pod UID>")]
    Revoke(RevokeArgs),
    /// The audit trail
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
    /// Tokens
    #[command(subcommand, arg_required_else_help = true)]
    Token(TokenCommand),
    /// Pods
    #[command(subcommand, arg_required_else_help = true)]
    Pod(PodCommand),
}

impl Command {
    /// The names that lead to it.
    pub(crate) fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Init(_) => &["init"],
            Self::Revoke(_) => &["revoke"],
            Self::Audit(AuditCommand::Events(_)) => &["audit", "events"],
            Self::Token(TokenCommand::Release(_)) => &["token", "release"],
            Self::Pod(PodCommand::Release(_)) => &["pod", "release"],
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// dev: the secret is stored as it is; prod: only its bcrypt hash is
    #[arg(long, default_value = "dev", value_name = "dev|prod")]
    pub(crate) mode: String,
    /// Replace a configuration that is there; its secret is lost
    #[arg(long)]
    pub(crate) force: bool,
    /// Where to write; default: `AA_CONFIG_PATH`, then ~/.broker/config
    #[arg(long, value_name = "FILE")]
    pub(crate) config_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// token, agent, task or chain (required)
    #[arg(long)]
    pub(crate) level: Option<String>,
    /// What to revoke: jti, SPIFFE id or task id (required)
    #[arg(long)]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, oldest first
    #[command(after_help = "\
Examples:
  awrit audit events --pod-uid $(kubectl get pod NAME -o jsonpath='{.metadata.uid}')
  awrit audit events --outcome denied --since 2026-11-21T07:00:00Z
  awrit audit events --correlation-id ID --json")]
    Events(EventsArgs),
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
    /// Not before this time (RFC 3339)
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Not after this time (RFC 3339)
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Most events to list, up to 1000; default 100
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) limit: Option<i64>,
    /// Events to skip
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) offset: Option<i64>,
    /// success or denied
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Only the session that began with this launch
    #[arg(long)]
    pub(crate) correlation_id: Option<String>,
    /// Only this pod (metadata.uid)
    #[arg(long)]
    pub(crate) pod_uid: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Give a token back before it expires; needs no admin secret
    #[command(after_help = "Example:\n  awrit token release --token - < token")]
    Release(TokenReleaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenReleaseArgs {
    /// The token (required); - reads it from standard input, where no list of processes shows it
    #[arg(long)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Let a pod whose agent was revoked get a token again
    #[command(after_help = "\
The pod's sidecar asks once a minute, so the pod is ready again within a minute.

Example:
  awrit pod release $(kubectl get pod NAME -o jsonpath='{.metadata.uid}')")]
    Release(PodReleaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PodReleaseArgs {
    /// metadata.uid of the pod
    #[arg(value_name = "UID")]
    pub(crate) uid: String,
}
