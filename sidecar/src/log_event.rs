//! How the agent's notices read in the log: one line for each, with what a person can do about a refusal.

use std::time::Duration;

use agentwrit_protocol::ErrorCode;

use crate::agent::{Holding, Jump, Notice};
use crate::log::{Level, timestamp};
use crate::request::BrokerRequest;

/// A notice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEvent {
    /// How much it matters.
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl LogEvent {
    /// What to write for `notice`; `policy` is the name of the `LaunchToken`.
    pub(crate) fn of(notice: &Notice, policy: &str) -> Self {
        Self {
            level: level(notice),
            text: text(notice, policy),
        }
    }
}

fn level(notice: &Notice) -> Level {
    match notice {
        Notice::Found { .. } | Notice::Registered(_) | Notice::Renewed(_) | Notice::Stopping | Notice::Released => {
            Level::Info
        }
        Notice::FoundInvalid
        | Notice::Refused { .. }
        | Notice::Trouble { .. }
        | Notice::NoLongerValid
        | Notice::Dropped { .. }
        | Notice::Quarantined { .. }
        | Notice::ClockJumped(_)
        | Notice::WriteFailed { .. }
        | Notice::NotReleased { .. } => Level::Warn,
    }
}

fn text(notice: &Notice, policy: &str) -> String {
    match notice {
        Notice::Found { left } => {
            format!(
                "found the token of a former process, good for {} s: it stays until this process has one of its own",
                left.as_secs()
            )
        }
        Notice::FoundInvalid => "found a token file without a valid token: removing it".to_owned(),
        Notice::Registered(holding) => format!("registered: {}", holder(holding)),
        Notice::Renewed(holding) => format!("renewed: {}", holder(holding)),
        Notice::Refused {
            request,
            code,
            detail,
            pause,
        } => format!(
            "the broker refused to {request} under LaunchToken {policy:?}: {code}: {detail}. To do: {}. Next try in {}",
            advice(*request, *code),
            seconds(*pause)
        ),
        Notice::Trouble {
            request, text, pause, ..
        } => {
            format!("could not {request}: {text}. Next try in {}", seconds(*pause))
        }
        Notice::NoLongerValid => "the broker no longer accepts the token: asking for the reason".to_owned(),
        Notice::Dropped { reason } => format!("removed the token file, not ready: {reason}"),
        Notice::Quarantined { pod_uid } => {
            let uid = if pod_uid.is_empty() {
                "<pod UID>"
            } else {
                pod_uid.as_str()
            };
            format!(
                "a person revoked this pod's agent (LaunchToken {policy:?}, code revoked): not ready until the pod \
                 is replaced or released by `awrit pod release {uid}`; asking once a minute"
            )
        }
        Notice::ClockJumped(Jump::Forward(by)) => format!("the clock jumped by {}: renewing now", seconds(*by)),
        Notice::ClockJumped(Jump::Backward(by)) => format!("the clock jumped by -{}: renewing now", seconds(*by)),
        Notice::WriteFailed { reason, pause } => {
            format!(
                "could not write the token file: {reason}. Next try in {}",
                seconds(*pause)
            )
        }
        Notice::Stopping => "stopping".to_owned(),
        Notice::Released => "released the token".to_owned(),
        Notice::NotReleased { reason } => format!(
            "could not release the token: {reason}. The controller ends it when the pod is gone, its TTL at the latest"
        ),
    }
}

fn holder(holding: &Holding) -> String {
    let Holding { agent_id, scopes, exp } = holding;
    format!("agent_id={agent_id} scopes={scopes} expires={}", timestamp(*exp))
}

/// One sentence for the log; names the object to look at.
fn advice(request: BrokerRequest, code: ErrorCode) -> &'static str {
    if code == ErrorCode::Unauthorized && request != BrokerRequest::Launch {
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
        ErrorCode::InternalError | ErrorCode::Unavailable => "look at the broker's log; the sidecar keeps trying",
    }
}

/// To a tenth, cut off.
fn seconds(length: Duration) -> String {
    format!("{}.{} s", length.as_secs(), length.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::UnixSeconds;

    #[test]
    fn a_refusal_names_policy_code_and_remedy() {
        for code in ErrorCode::ALL {
            let notice = Notice::Refused {
                request: BrokerRequest::Launch,
                code: *code,
                detail: "because".into(),
                pause: Duration::from_millis(1_500),
            };
            let line = LogEvent::of(&notice, "order-reader").text;
            for part in ["\"order-reader\"", code.as_str(), "because", "To do: ", "in 1.5 s"] {
                assert!(line.contains(part), "{part} not in {line}");
            }
        }
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(timestamp(UnixSeconds::new(0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(UnixSeconds::new(i64::MAX)), i64::MAX.to_string());
        let jumped = |jump| LogEvent::of(&Notice::ClockJumped(jump), "order-reader").text;
        for (jump, wanted) in [
            (Jump::Backward(Duration::from_millis(2_199)), "-2.1 s"),
            (Jump::Forward(Duration::from_mins(10)), "600.0 s"),
        ] {
            assert_eq!(jumped(jump), format!("the clock jumped by {wanted}: renewing now"));
        }
    }
}
