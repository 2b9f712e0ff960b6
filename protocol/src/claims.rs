//! JWT claims and delegation records, in the key order of `docs/wire-contract.md` §13.2 and §10.1.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ids::{Jti, OrchId, SessionId, TaskId};
use crate::k8s::ORCH_PREFIX;
#[cfg(feature = "openapi")]
use crate::schema;
use crate::scope::{ScopeError, ScopeSet};
use crate::time::UnixSeconds;

/// Who a token speaks for; endpoint guards check it beside the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// A person or tool that logged in with the admin secret.
    Admin,
    /// A registered application, `app:<app_id>`.
    App,
    /// An agent, by its SPIFFE id.
    Agent,
}

/// The claims of every AgentWrit token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claims {
    /// Issuer; `""` when none is configured.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub iss: String,
    /// `admin`, `app:<app_id>` or an agent's SPIFFE id.
    pub sub: String,
    /// Audiences; absent when none is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// Last second in which the token is good, Unix time.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub exp: UnixSeconds,
    /// First second in which the token is good, Unix time.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = i64, required))]
    pub nbf: UnixSeconds,
    /// Second of issue, Unix time.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = i64, required))]
    pub iat: UnixSeconds,
    /// Token id, 32 lower-hex characters.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex32))]
    pub jti: Jti,
    /// Session id; agents' tokens only, kept across renewals and delegations.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sid: SessionId,
    /// Granted scopes, as requested, order kept.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes, required))]
    pub scope: Vec<String>,
    /// Task of the agent.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub task_id: TaskId,
    /// Orchestration of the agent.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub orch_id: OrchId,
    /// Who delegated to whom, root first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegation_chain: Vec<DelegationRecord>,
    /// Lower-hex SHA-256 of the chain as serialised here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex64))]
    pub chain_hash: String,
    /// Ids of the delegations on the way from the session to this token, root first; beside the contract's claims, for
    /// the broker alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub delegation_nodes: Vec<SessionId>,
}

/// What a token says of itself, for its holder: nothing is checked but the form. `None` when it has another form.
pub fn unverified<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&payload).ok()
}

impl Claims {
    /// The kind of subject.
    pub fn subject_kind(&self) -> SubjectKind {
        if self.sub == "admin" {
            SubjectKind::Admin
        } else if self.sub.starts_with("app:") {
            SubjectKind::App
        } else {
            SubjectKind::Agent
        }
    }

    /// The scopes, parsed.
    ///
    /// # Errors
    /// When one of them is malformed.
    pub fn scopes(&self) -> Result<ScopeSet, ScopeError> {
        ScopeSet::parse(&self.scope)
    }
}

/// One hop of a delegation, signed by the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DelegationRecord {
    /// The delegating agent.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::SpiffeId))]
    pub agent: String,
    /// The delegating agent's scopes.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes))]
    pub scope: Vec<String>,
    /// When, RFC 3339 UTC with up to nine fraction digits.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::PreciseTimestamp))]
    pub delegated_at: String,
    /// Ed25519 over `agent|scopes joined by ,|delegated_at`, 128 lower-hex characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex128, required))]
    pub signature: String,
}

/// Bytes of a header line that common servers still take: nginx and Tomcat stop at 8 KiB, Apache at 8,190 bytes.
pub const MAX_HEADER_LINE: usize = 8_190;
/// `Authorization: Bearer ` before the token.
const BEFORE_TOKEN: usize = "Authorization: Bearer ".len();
/// The header of every token; its `kid` is a SHA-256 in base64url.
const HEADER: usize = r#"{"alg":"EdDSA","typ":"JWT","kid":""}"#.len() + base64url(32);
/// Ed25519.
const SIGNATURE: usize = 64;

/// Characters of so many bytes in base64url without padding.
const fn base64url(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

impl Claims {
    /// Whether these are the claims of an attested agent, or of one that it delegated to: nobody else can have the prefix.
    pub fn is_attested(&self) -> bool {
        self.orch_id.starts_with(ORCH_PREFIX)
    }

    /// The delegation by the session itself that the bearer descends from; none for the session's own token.
    pub fn branch(&self) -> Option<&SessionId> {
        self.delegation_nodes.first()
    }

    /// Bytes of a token with these claims.
    ///
    /// # Errors
    /// When the claims are no JSON.
    pub fn token_bytes(&self) -> Result<usize, serde_json::Error> {
        let payload = crate::go_json::to_vec(self)?.len();
        Ok(base64url(HEADER) + 1 + base64url(payload) + 1 + base64url(SIGNATURE))
    }
}

/// Bytes of the header line with a token of `token` bytes, if that is more than common servers take.
pub fn too_long_for_a_header(token: usize) -> Option<usize> {
    Some(BEFORE_TOKEN + token).filter(|line| *line > MAX_HEADER_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_without_padding_has_this_length() {
        let lengths = [0, 1, 2, 3, 4, 32, 64].map(base64url);
        assert_eq!(lengths, [0, 2, 3, 4, 6, 43, 86]);
    }

    #[test]
    fn a_header_line_of_8190_bytes_is_still_taken() {
        assert_eq!(too_long_for_a_header(MAX_HEADER_LINE - 22), None);
        assert_eq!(too_long_for_a_header(MAX_HEADER_LINE - 21), Some(8_191));
    }

    #[test]
    fn absent_optionals_are_omitted_and_order_is_the_contracts() {
        let claims = Claims {
            iss: String::new(),
            sub: "admin".into(),
            aud: vec![],
            exp: UnixSeconds::new(2),
            nbf: UnixSeconds::new(1),
            iat: UnixSeconds::new(1),
            jti: "ab".into(),
            sid: SessionId::default(),
            scope: vec!["admin:audit:*".into()],
            task_id: TaskId::default(),
            orch_id: OrchId::default(),
            delegation_chain: vec![],
            chain_hash: String::new(),
            delegation_nodes: vec![],
        };
        assert_eq!(
            serde_json::to_string(&claims).unwrap(),
            r#"{"iss":"","sub":"admin","exp":2,"nbf":1,"iat":1,"jti":"ab","scope":["admin:audit:*"]}"#
        );
        assert_eq!(claims.subject_kind(), SubjectKind::Admin);
    }
}
