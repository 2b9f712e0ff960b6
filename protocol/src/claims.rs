//! JWT claims and delegation records, in the key order of the contract §13.2 and §10.1.

use serde::{Deserialize, Serialize};

use crate::scope::{ScopeError, ScopeSet};

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
    pub iss: String,
    /// `admin`, `app:<app_id>` or an agent's SPIFFE id.
    pub sub: String,
    /// Audiences; absent when none is configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// Last second in which the token is good, Unix time.
    pub exp: i64,
    /// First second in which the token is good, Unix time.
    #[serde(default)]
    pub nbf: i64,
    /// Second of issue, Unix time.
    #[serde(default)]
    pub iat: i64,
    /// Token id, 32 lower-hex characters.
    pub jti: String,
    /// Session id; agents' tokens only, kept across renewals and delegations.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sid: String,
    /// Granted scopes, as requested, order kept.
    #[serde(default)]
    pub scope: Vec<String>,
    /// Task of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task_id: String,
    /// Orchestration of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub orch_id: String,
    /// Who delegated to whom, root first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegation_chain: Vec<DelegationRecord>,
    /// Lower-hex SHA-256 of the chain as serialised here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chain_hash: String,
    /// Ids of the delegations on the way from the session to this token, root first; beside the contract's claims, for
    /// the broker alone. See [`crate::session::chain::NodeBinding`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegation_nodes: Vec<String>,
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
    pub agent: String,
    /// The delegating agent's scopes.
    pub scope: Vec<String>,
    /// When, RFC 3339 UTC with up to nine fraction digits.
    pub delegated_at: String,
    /// Ed25519 over `agent|scopes joined by ,|delegated_at`, 128 lower-hex characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_optionals_are_omitted_and_order_is_the_contracts() {
        let claims = Claims {
            iss: String::new(),
            sub: "admin".into(),
            aud: vec![],
            exp: 2,
            nbf: 1,
            iat: 1,
            jti: "ab".into(),
            sid: String::new(),
            scope: vec!["admin:audit:*".into()],
            task_id: String::new(),
            orch_id: String::new(),
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
