//! Why there is no token, for the probes: one line that quotes nothing, since every program that reaches the port may
//! read it.

use agentwrit_protocol::ErrorCode;

use crate::agent::Notice;
use crate::request::BrokerRequest;

/// What the last notice says about why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Cause {
    /// Nothing has failed: the first answer isn't there yet.
    #[default]
    Starting,
    /// A request got no useful answer.
    Trouble(BrokerRequest, &'static str),
    /// The broker said no.
    Refused(BrokerRequest, ErrorCode),
    /// The token file can't be written.
    NotWritten,
    /// A person revoked this pod's agent.
    Quarantined,
    Stopping,
}

impl Cause {
    /// The cause that a notice gives, if any.
    pub(crate) fn of(notice: &Notice) -> Option<Self> {
        match notice {
            Notice::Trouble { request, symptom, .. } => Some(Self::Trouble(*request, symptom)),
            Notice::Refused { request, code, .. } => Some(Self::Refused(*request, *code)),
            Notice::WriteFailed { .. } => Some(Self::NotWritten),
            Notice::Quarantined { .. } => Some(Self::Quarantined),
            Notice::Registered(_) | Notice::Renewed(_) => Some(Self::Starting),
            Notice::Stopping | Notice::Released | Notice::NotReleased { .. } => Some(Self::Stopping),
            Notice::Found { .. }
            | Notice::FoundInvalid
            | Notice::NoLongerValid
            | Notice::Dropped { .. }
            | Notice::ClockJumped { .. } => None,
        }
    }

    /// The body of a probe that fails: one line of at most 256 bytes.
    pub(crate) fn line(self) -> String {
        let cause = match self {
            Self::Starting => "waiting for the broker's answer".to_owned(),
            Self::Trouble(request, symptom) => format!("could not {request}: {symptom} ({})", explained(symptom)),
            Self::Refused(request, code) => format!("the broker refused to {request}: {code}"),
            Self::NotWritten => "the token file can't be written".to_owned(),
            Self::Quarantined => "a person revoked this pod's agent: revoked".to_owned(),
            Self::Stopping => "the sidecar is stopping".to_owned(),
        };
        format!("there is no token now: {cause}; the log of this container says more\n")
    }
}

fn explained(symptom: &str) -> &'static str {
    match symptom {
        "dns" => "the broker's name isn't found: the pod's DNS, or a NetworkPolicy that blocks it",
        "connection_refused" => "nothing listens there: the broker is down, or its Service has no endpoint",
        "unreachable" => "there is no route to the broker's address",
        "timeout" => "no answer in time: mostly a NetworkPolicy, or the broker is overloaded",
        "tls" => "the broker's certificate isn't trusted: ConfigMap agentwrit-ca",
        "connection_closed" => "the connection was closed: a proxy or mesh on the way",
        "credential" => "the pod's ServiceAccount token can't be read",
        "ca" => "the CA of ConfigMap agentwrit-ca can't be read",
        "unavailable" => "the broker can't serve now",
        "malformed" | "too_large" => "the answer isn't one of the broker's",
        _ => "no useful answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const STAGES: [BrokerRequest; 6] = [
        BrokerRequest::Launch,
        BrokerRequest::Challenge,
        BrokerRequest::Register,
        BrokerRequest::Renew,
        BrokerRequest::Validate,
        BrokerRequest::Release,
    ];
    const SYMPTOMS: [&str; 13] = [
        "dns",
        "connection_refused",
        "unreachable",
        "timeout",
        "tls",
        "connection_closed",
        "credential",
        "ca",
        "unavailable",
        "malformed",
        "too_large",
        "network",
        "rate_limited",
    ];

    #[test]
    fn each_cause_is_one_short_line() {
        let mut all = vec![Cause::Starting, Cause::NotWritten, Cause::Quarantined, Cause::Stopping];
        for request in STAGES {
            all.extend(SYMPTOMS.map(|symptom| Cause::Trouble(request, symptom)));
            all.extend(ErrorCode::ALL.iter().map(|code| Cause::Refused(request, *code)));
        }
        for cause in all {
            let line = cause.line();
            assert!(
                line.len() <= 256 && line.lines().count() == 1,
                "{} bytes: {line}",
                line.len()
            );
        }
    }

    #[test]
    fn text_of_the_broker_or_the_system_is_not_repeated() {
        let trouble = Notice::Trouble {
            request: BrokerRequest::Launch,
            symptom: "dns",
            text: "secret detail".into(),
            pause: Duration::from_secs(1),
        };
        let refused = Notice::Refused {
            request: BrokerRequest::Launch,
            code: ErrorCode::ServiceAccountNotAllowed,
            detail: "secret detail".into(),
            pause: Duration::from_secs(1),
        };
        for (notice, word) in [(trouble, "dns"), (refused, "service_account_not_allowed")] {
            let line = Cause::of(&notice).unwrap().line();
            assert!(line.contains(word) && !line.contains("secret"), "{line}");
        }
    }
}
