//! Problem details (RFC 9457) with the closed vocabulary of error codes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The sentence of every limit of rate.
pub const RATE_LIMITED: &str = "rate limit exceeded, try again later";

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// The closed vocabulary: the last part of `type`, and `error_code`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status that goes with the code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The code with this text, if it is one of ours.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// Bad JSON, a missing field, a value out of its grammar.
    InvalidRequest = "invalid_request", 400;
    /// A scope that is not action:resource:identifier.
    InvalidScopeFormat = "invalid_scope_format", 400;
    /// A time to live out of range.
    InvalidTtl = "invalid_ttl", 400;
    /// Missing or bad credentials, launch token, nonce, key or signature.
    Unauthorized = "unauthorized", 401;
    /// Scope over what the launch token or the delegator holds.
    ScopeViolation = "scope_violation", 403;
    /// The bearer may not use this endpoint; also the answer to a revoked bearer.
    InsufficientScope = "insufficient_scope", 403;
    /// Refused for a reason that isn't the caller's to know, or by the operator's choice.
    Forbidden = "forbidden", 403;
    /// No such thing.
    NotFound = "not_found", 404;
    /// The path exists, the method doesn't.
    MethodNotAllowed = "method_not_allowed", 405;
    /// It exists already, or is owned by somebody else.
    Conflict = "conflict", 409;
    /// A write with an older lease epoch or sequence than the last accepted.
    StaleWriter = "stale_writer", 409;
    /// The body is over 1 MiB.
    PayloadTooLarge = "payload_too_large", 413;
    /// Too many requests; see Retry-After.
    RateLimited = "rate_limited", 429;
    /// Unexpected failure.
    InternalError = "internal_error", 500;
    /// A dependency is away; nothing changed; see Retry-After.
    Unavailable = "unavailable", 503;
    /// The pod's namespace has no such LaunchToken.
    LaunchTokenNotFound = "launch_token_not_found", 404;
    /// The pod's ServiceAccount isn't listed in the LaunchToken.
    ServiceAccountNotAllowed = "service_account_not_allowed", 403;
    /// The pod doesn't match the LaunchToken's selector.
    PodNotSelected = "pod_not_selected", 403;
    /// The AgentApp or LaunchToken is suspended.
    Suspended = "suspended", 403;
    /// The policy is withdrawn until it is repaired.
    PolicyNotReady = "policy_not_ready", 403;
    /// The policy changed since registration: register again.
    PolicyChanged = "policy_changed", 403;
    /// The LaunchToken's limit of live agents is reached.
    MaxActiveAgents = "max_active_agents", 403;
    /// A person revoked this agent; its pod is quarantined.
    Revoked = "revoked", 403;
    /// A later registration of the same pod took over.
    Superseded = "superseded", 403;
    /// The session's token is renewed only with the header `Agentwrit-Proof`.
    ProofRequired = "proof_required", 403;
    /// The header `Agentwrit-Proof` is not a signature of the session's key over this token.
    ProofInvalid = "proof_invalid", 403;
    /// The time of the header `Agentwrit-Proof` is too far from the broker's; see Date.
    ProofStale = "proof_stale", 403;
}

impl ErrorCode {
    /// The standard status text of the code's HTTP status.
    pub const fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Request Entity Too Large",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The prefix of `type`.
pub const TYPE_PREFIX: &str = "urn:agentwrit:error:";

/// An error body, `application/problem+json`; lenient when read, complete when written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Problem {
    /// `urn:agentwrit:error:` and the error code.
    #[serde(rename = "type")]
    #[cfg_attr(
        feature = "openapi",
        schema(
            required,
            pattern = "^urn:agentwrit:error:[a-z_]+$",
            examples("urn:agentwrit:error:not_found")
        )
    )]
    pub type_: String,
    /// Standard status text.
    #[cfg_attr(feature = "openapi", schema(required, examples("Not Found")))]
    pub title: String,
    /// HTTP status.
    #[cfg_attr(feature = "openapi", schema(required, minimum = 400, maximum = 599, examples(404)))]
    pub status: u16,
    /// What was wrong, for a person.
    #[cfg_attr(feature = "openapi", schema(required, examples("app not found")))]
    pub detail: String,
    /// Request path without the query.
    #[cfg_attr(
        feature = "openapi",
        schema(required, examples("/v1/admin/apps/app-order-service-3f9a1c"))
    )]
    pub instance: String,
    /// The code, for programs.
    #[cfg_attr(feature = "openapi", schema(value_type = ErrorCode, required))]
    pub error_code: String,
    /// Equals the header `X-Request-ID`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RequestId, required))]
    pub request_id: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub hint: Option<String>,
    /// With `stale_writer`: the highest lease epoch that the broker has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub current_epoch: Option<i64>,
}

impl Problem {
    /// A problem with the code's type, title and status.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            type_: format!("{TYPE_PREFIX}{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            error_code: code.as_str().to_owned(),
            ..Self::default()
        }
    }

    /// The code, when it is one of ours.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_text(&self.error_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert_ne!(code.title(), "", "{code}");
        }
    }

    #[test]
    fn keys_come_in_the_contracts_order() {
        let mut problem = Problem::new(ErrorCode::NotFound, "app not found");
        problem.instance = "/v1/x".into();
        problem.request_id = "r".into();
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:agentwrit:error:not_found","title":"Not Found","status":404,"detail":"app not found","instance":"/v1/x","error_code":"not_found","request_id":"r"}"#
        );
    }
}
