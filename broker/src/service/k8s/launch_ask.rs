//! What a pod asks for at its launch: read and checked.

use agentwrit_protocol::excerpt::{describe_request, excerpt};
use agentwrit_protocol::k8s::PodLaunchRequest;
use agentwrit_protocol::{ErrorCode, ScopeSet, Ttl};
use agentwrit_store::policy::PolicyKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;

use super::policy::input::{InputError, check_key, parse_scope};
use crate::service::scope_limits::ScopeLimits;

/// What a pod asks for, every value in range.
#[derive(Debug, Clone)]
pub(crate) struct LaunchAsk {
    /// Name of the LaunchToken in the pod's namespace.
    pub(crate) policy: String,
    /// Raw Ed25519 public key, standard base64 with padding.
    pub(crate) public_key: String,
    /// Less than all that is allowed.
    pub(crate) scopes: Option<ScopeSet>,
    /// A shorter life.
    pub(crate) ttl: Option<Ttl>,
    /// Whether the session's tokens are to be renewed only with a proof of possession.
    pub(crate) renewal_proof: bool,
}

impl LaunchAsk {
    pub(crate) fn parse(namespace: &str, request: PodLaunchRequest) -> Result<Self, InputError> {
        let policy = request
            .policy
            .filter(|name| !name.is_empty())
            .ok_or_else(|| InputError::new("policy is required: the name of a LaunchToken in the pod's namespace"))?;
        check_key(&PolicyKey::launch_token(namespace, &policy)).map_err(|error| InputError {
            detail: format!("policy: {error}"),
            ..error
        })?;
        let public_key = request
            .public_key
            .filter(|key| !key.is_empty())
            .ok_or_else(|| InputError::new("public_key is required: a raw Ed25519 public key in standard base64"))?;
        Ok(Self {
            policy,
            public_key: checked_key(&public_key)?,
            scopes: request
                .scopes
                .filter(|scopes| !scopes.is_empty())
                .as_deref()
                .map(checked_scopes)
                .transpose()?,
            ttl: request.ttl_seconds.map(checked_ttl).transpose()?,
            renewal_proof: request.renewal_proof.unwrap_or(false),
        })
    }
}

impl LaunchAsk {
    /// What was asked for, for the audit trail.
    pub(crate) fn describe_request(&self, names: &[(&str, &str)]) -> String {
        let scopes = self.scopes.as_ref().map(ScopeSet::to_strings);
        describe_request(scopes.as_deref(), names)
    }
}

fn checked_key(text: &str) -> Result<String, InputError> {
    let wrong = |what: &str| InputError::new(format!("public_key {what}"));
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| wrong("must be standard base64 with padding"))?;
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| wrong("must decode to 32 bytes"))?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| wrong("is not an Ed25519 public key"))?;
    if key.is_weak() {
        return Err(wrong("is a weak Ed25519 public key"));
    }
    Ok(STANDARD.encode(bytes))
}

fn checked_scopes(items: &[String]) -> Result<ScopeSet, InputError> {
    ScopeLimits::ATTESTED.check("scopes", items)?;
    items
        .iter()
        .map(|item| {
            parse_scope(item).ok_or_else(|| InputError {
                code: ErrorCode::InvalidScopeFormat,
                detail: format!(
                    "scopes {:?} must be action:resource:identifier, at most 256 bytes",
                    excerpt(item)
                ),
            })
        })
        .collect()
}

fn checked_ttl(seconds: i64) -> Result<Ttl, InputError> {
    if seconds >= 1 {
        return Ok(Ttl::seconds(seconds));
    }
    Err(InputError {
        code: ErrorCode::InvalidTtl,
        detail: format!("ttl_seconds must be 1 or more, not {seconds}"),
    })
}
