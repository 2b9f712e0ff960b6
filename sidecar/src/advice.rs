//! What a person can do about a refusal.

use agentwrit_protocol::ErrorCode;

use crate::agent::Stage;

/// One sentence for the log; names the object to look at.
pub(crate) fn advice(stage: Stage, code: ErrorCode) -> &'static str {
    if code == ErrorCode::Unauthorized && stage != Stage::Launch {
        return "nothing to do: the sidecar registers again";
    }
    match code {
        ErrorCode::LaunchTokenNotFound => {
            "create that LaunchToken in this pod's namespace, or correct the annotation agentwrit.io/launch-token"
        }
        ErrorCode::ServiceAccountNotAllowed => {
            "add this pod's ServiceAccount to spec.serviceAccountNames of the LaunchToken, or run the pod under one that is listed"
        }
        ErrorCode::PodNotSelected => "make the pod's labels match spec.podSelector of the LaunchToken",
        ErrorCode::Suspended => "set spec.suspend of the LaunchToken and its AgentApp to false",
        ErrorCode::PolicyNotReady => "kubectl describe the LaunchToken: its condition Ready says why",
        ErrorCode::PolicyChanged | ErrorCode::Superseded | ErrorCode::ProofRequired | ErrorCode::ProofInvalid => {
            "nothing to do: the sidecar registers again"
        }
        ErrorCode::ProofStale => "compare the clocks of the node and of the broker's replicas with each other",
        ErrorCode::MaxActiveAgents => "raise spec.maxActiveAgents of the LaunchToken, or end other pods",
        ErrorCode::Revoked => "a person revoked this pod's agent: replace the pod, or lift it with awrit pod release",
        ErrorCode::ScopeViolation | ErrorCode::InvalidScopeFormat => {
            "the annotation agentwrit.io/scopes must be covered by spec.allowedScopes of the LaunchToken"
        }
        ErrorCode::InvalidTtl => "the annotation agentwrit.io/ttl-seconds must be a number of seconds from 10",
        ErrorCode::RateLimited => "nothing to do: the sidecar waits",
        ErrorCode::Unauthorized => {
            "the broker must accept this cluster's ServiceAccount tokens with the audience of this installation"
        }
        ErrorCode::InsufficientScope | ErrorCode::Forbidden => {
            "the audit trail names the cause: awrit audit events --outcome denied"
        }
        ErrorCode::NotFound | ErrorCode::MethodNotAllowed => {
            "the broker doesn't serve pods: check its URL, AA_ATTEST_AUDIENCE and AA_CONTROLLER_SUBJECT"
        }
        ErrorCode::InvalidRequest | ErrorCode::PayloadTooLarge | ErrorCode::Conflict | ErrorCode::StaleWriter => {
            "sidecar and broker may be of different versions: update both"
        }
        ErrorCode::InternalError | ErrorCode::Unavailable => "look at the broker's log; the sidecar goes on trying",
    }
}
