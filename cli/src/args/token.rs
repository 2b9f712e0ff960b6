//! `awrit revoke`, `awrit token`, `awrit pod`.

use clap::{Args, Subcommand};

pub(super) const REVOKE_EXAMPLES: &str = "\
Levels: token (by jti), agent (by SPIFFE id), task (by task id; a pod's UID), chain (by the root agent's SPIFFE id).
A revocation can't be undone; the pod of an attested agent may register again after: awrit pod release UID
The pod behind the target is quarantined, whether it has a session at that moment or not. A warning on stderr says when
the broker found neither a session nor a pod.

Examples:
  awrit revoke --level agent --target spiffe://agentwrit.local/agent/k8s.shop.orders/<pod UID>/<instance>
  awrit revoke --level task --target <pod UID>";
const RELEASE_EXAMPLES: &str = "\
A token that is revoked or given back already is no error.

Example:
  awrit token release --token - < token";
const VALIDATE_EXAMPLES: &str = "\
Asks the broker, so that revocations count. The exit code is 1 for a token that isn't valid; the broker doesn't say why.

Example:
  awrit token validate --token - < token";
const POD_RELEASE_EXAMPLES: &str = "\
The pod's sidecar asks once a minute, so the pod is ready again within a minute.

Example:
  awrit pod release $(kubectl get pod NAME -o jsonpath='{.metadata.uid}')";

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
pub(crate) enum TokenCommand {
    /// Give a token back before it expires; needs no admin secret
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(TokenArgs),
    /// Ask whether a token is valid, and show its claims; needs no admin secret
    #[command(after_help = VALIDATE_EXAMPLES)]
    Validate(TokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The token (required); - reads it from standard input, where no list of processes shows it
    #[arg(long)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PodCommand {
    /// Let a pod whose agent was revoked get a token again
    #[command(after_help = POD_RELEASE_EXAMPLES)]
    Release(PodReleaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PodReleaseArgs {
    /// metadata.uid of the pod
    #[arg(value_name = "UID")]
    pub(crate) uid: String,
}
