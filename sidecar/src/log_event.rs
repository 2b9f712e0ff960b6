//! What the sidecar tells people: one line for each change of state. No notice can hold a token.

use std::fmt;

use agentwrit_protocol::ErrorCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::advice::advice;
use crate::agent::Stage;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The ordinary course.
    Info,
    /// Something to know about, or a person's turn.
    Warn,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A token of a former process is in the volume.
    Found {
        /// Seconds until it expires.
        seconds_left: i64,
    },
    /// What is in the volume is not a token that stands.
    FoundUseless,
    /// A first token, or one after starting over.
    Registered(Holding),
    /// A fresh token in place of the last.
    Renewed(Holding),
    /// The broker said no.
    Refused {
        /// What was asked.
        stage: Stage,
        /// The reason's code.
        code: ErrorCode,
        /// The broker's sentence.
        detail: String,
        /// Milliseconds until the next try.
        retry_ms: i64,
    },
    /// No useful answer.
    Trouble {
        /// What was asked.
        stage: Stage,
        /// What was in the way, in one word.
        symptom: &'static str,
        /// What happened.
        text: String,
        /// Milliseconds until the next try.
        retry_ms: i64,
    },
    /// The broker says that the token no longer stands.
    NoLongerValid,
    /// The token file was removed.
    Dropped {
        /// Why.
        reason: &'static str,
    },
    /// A person revoked this agent: nothing to do but ask now and then.
    Quarantined {
        /// UID of the pod; empty when unknown.
        pod_uid: String,
    },
    /// Wall clock and monotonic clock disagree: a suspend, or a corrected clock.
    ClockJumped {
        /// Milliseconds, negative when backwards.
        millis: i64,
    },
    /// The token file can't be written.
    WriteFailed {
        /// The system's reason.
        reason: String,
        /// Milliseconds until the next try.
        retry_ms: i64,
    },
    /// Told to stop.
    Stopping,
    /// The token was given back.
    Released,
    /// It couldn't be given back; it ends by pod-ended or its TTL.
    NotReleased {
        /// What happened.
        reason: String,
    },
}

/// Who holds what until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The agent's SPIFFE id.
    pub agent_id: String,
    /// How many scopes.
    pub scopes: usize,
    /// Last second of the token, Unix time.
    pub exp: i64,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent_id, scopes, exp } = self;
        write!(f, "agent_id={agent_id} scopes={scopes} expires={}", timestamp(*exp))
    }
}

/// RFC 3339 in UTC; the number itself when it is out of range.
pub(crate) fn timestamp(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

impl Notice {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Found { .. } | Self::Registered(_) | Self::Renewed(_) | Self::Stopping | Self::Released => {
                Level::Info
            }
            Self::FoundUseless
            | Self::Refused { .. }
            | Self::Trouble { .. }
            | Self::NoLongerValid
            | Self::Dropped { .. }
            | Self::Quarantined { .. }
            | Self::ClockJumped { .. }
            | Self::WriteFailed { .. }
            | Self::NotReleased { .. } => Level::Warn,
        }
    }

    /// The line, given the policy's name.
    pub fn line(&self, policy: &str) -> String {
        match self {
            Self::Found { seconds_left } => {
                format!(
                    "found the token of a former process, good for {seconds_left} s: it stays until this process has one \
                     of its own"
                )
            }
            Self::FoundUseless => "found a token file without a token that stands: removing it".to_owned(),
            Self::Registered(holding) => format!("registered: {holding}"),
            Self::Renewed(holding) => format!("renewed: {holding}"),
            Self::Refused {
                stage,
                code,
                detail,
                retry_ms,
            } => format!(
                "the broker refused to {stage} under LaunchToken {policy:?}: {code}: {detail}. To do: {}. Next try in {}",
                advice(*stage, *code),
                seconds(*retry_ms)
            ),
            Self::Trouble {
                stage, text, retry_ms, ..
            } => {
                format!("could not {stage}: {text}. Next try in {}", seconds(*retry_ms))
            }
            Self::NoLongerValid => "the broker no longer accepts the token: asking for the reason".to_owned(),
            Self::Dropped { reason } => format!("removed the token file, not ready: {reason}"),
            Self::Quarantined { pod_uid } => {
                let uid = if pod_uid.is_empty() { "<pod UID>" } else { pod_uid };
                format!(
                    "a person revoked this pod's agent (LaunchToken {policy:?}, code revoked): not ready until the pod \
                     is replaced or released by `awrit pod release {uid}`; asking once a minute"
                )
            }
            Self::ClockJumped { millis } => {
                format!("the clock jumped by {}: renewing now", seconds(*millis))
            }
            Self::WriteFailed { reason, retry_ms } => {
                format!(
                    "could not write the token file: {reason}. Next try in {}",
                    seconds(*retry_ms)
                )
            }
            Self::Stopping => "told to stop".to_owned(),
            Self::Released => "released the token".to_owned(),
            Self::NotReleased { reason } => format!(
                "could not release the token: {reason}. The controller ends it when the pod is gone, its TTL at the latest"
            ),
        }
    }
}

fn seconds(millis: i64) -> String {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    format!("{sign}{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_policy_code_and_remedy() {
        for code in ErrorCode::ALL {
            let notice = Notice::Refused {
                stage: Stage::Launch,
                code: *code,
                detail: "because".into(),
                retry_ms: 1_500,
            };
            let line = notice.line("order-reader");
            for part in ["\"order-reader\"", code.as_str(), "because", "To do: ", "in 1.5 s"] {
                assert!(line.contains(part), "{part} not in {line}");
            }
        }
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(-2_100), "-2.1 s");
    }
}
