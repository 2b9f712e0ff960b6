//! `awrit revoke`, `awrit token`, `awrit pod`.

use clap::{Args, Subcommand};

pub(super) const REVOKE_EXAMPLES: &str = "\
Levels: token (by jti), agent (by SPIFFE id), task (by task id; a pod's UID), chain (by the root agent's SPIFFE id).
A revocation can't be undone; the pod of an attested agent may register again after: awrit pod release UID
The pod behind the target is quarantined, whether it has a session at that moment or not. A warning on stderr says when
the broker found neither a session nor a pod.

By name: all pods that match and have launched are quarantined in one commit, also those without a session at that
moment, and their sessions end. Pods that launch later are others, and may: to keep them out suspend the AgentApp first,
  kubectl patch agentapp NAME -n NAMESPACE --type merge -p '{\"spec\":{\"suspend\":true}}'
--all quarantines nobody: agents register again by themselves.

Examples:
  awrit revoke --namespace shop --dry-run
  awrit revoke --app shop/orders
  awrit revoke --node worker-7
  awrit revoke --all --installation agentwrit-system/agentwrit
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
    /// token, agent, task or chain; with --target
    #[arg(long)]
    pub(crate) level: Option<String>,
    /// What to revoke: jti, SPIFFE id or task id
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// All pods of a namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// All pods that launched under an AgentApp
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) app: Option<String>,
    /// All pods that launched under a LaunchToken
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) policy: Option<String>,
    /// All pods on a node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// All pods that run under a ServiceAccount
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) service_account: Option<String>,
    /// Every token that there is, by a new epoch; asks for --installation
    #[arg(long)]
    pub(crate) all: bool,
    /// Name of the installation, or its trust domain when it has none: another broker revokes nothing
    #[arg(long, value_name = "NAMESPACE/RELEASE")]
    pub(crate) installation: Option<String>,
    /// Only say how many it would hit; not with --level
    #[arg(long)]
    pub(crate) dry_run: bool,
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
