//! Policy writes as they come in: read, checked, and made uniform.

use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, MAX_RESOURCE_NAME_BYTES, is_dns_label};
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::k8s::clients::{MAX_CLIENT_SECRETS, is_lower_hex};
use agentwrit_protocol::k8s::{
    AppClient, AppSpec, LaunchTokenSpec, MAX_ACTIVE_AGENTS, MAX_AUDIENCE_BYTES, MAX_AUDIENCES,
    MAX_DELEGATION_NAMESPACES, PolicyState, PutPolicy, WriteOrder,
};
use agentwrit_protocol::scope::{MAX_SCOPE_BYTES, MAX_SCOPES};
use agentwrit_protocol::ttl::{MAX_TTL_SECONDS, MIN_POLICY_TTL_SECONDS};
use agentwrit_protocol::{ErrorCode, PolicyUid, Scope};
use agentwrit_store::policy::{PolicyKey, PolicySpec};
use serde::Serialize;

use crate::service::scope_limits::{ScopeLimits, TooManyScopes};

const MAX_UID_BYTES: usize = 128;
const MAX_REASON_BYTES: usize = 256;
const MAX_AGENT_NAME_BYTES: usize = 256;
const MAX_SERVICE_ACCOUNTS: usize = 16;

/// What is wrong with a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InputError {
    /// `invalid_request`, `invalid_scope_format`, `invalid_ttl` or `forbidden`.
    pub code: ErrorCode,
    /// Names the field, what is wrong with it, and what would be right.
    pub detail: String,
}

impl InputError {
    /// An `invalid_request`.
    pub fn new(detail: impl Into<String>) -> Self {
        Self::with(ErrorCode::InvalidRequest, detail)
    }

    fn with(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

impl From<TooManyScopes> for InputError {
    fn from(error: TooManyScopes) -> Self {
        Self::with(ErrorCode::InvalidScopeFormat, error.to_string())
    }
}

type Checked<T> = Result<T, InputError>;

/// A write whose every value is in range.
#[derive(Debug, Clone)]
pub struct Write {
    /// Where the policy is found.
    pub key: PolicyKey,
    /// `metadata.uid`.
    pub uid: PolicyUid,
    /// `metadata.generation`.
    pub generation: i64,
    /// Lease epoch and sequence.
    pub order: WriteOrder,
    /// Whether the policy may be used.
    pub state: PolicyState,
    /// Why not.
    pub reason: Option<String>,
    /// What to enforce.
    pub spec: PolicySpec,
    /// Over everything but the order.
    pub digest: String,
}

impl Write {
    /// Checks a write of an AgentApp.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn app(key: PolicyKey, put: PutPolicy<AppSpec>) -> Checked<Self> {
        check_scopes("spec.scopes", &put.spec.scopes)?;
        check_ttl("spec.max_agent_ttl_seconds", put.spec.max_agent_ttl_seconds)?;
        check_audiences("spec.audiences", &put.spec.audiences)?;
        check_namespaces("spec.delegation_namespaces", &put.spec.delegation_namespaces)?;
        if let Some(client) = &put.spec.client {
            check_client(client)?;
        }
        Self::checked(key, put, PolicySpec::App)
    }

    /// Checks a write of a LaunchToken.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn launch_token(key: PolicyKey, put: PutPolicy<LaunchTokenSpec>) -> Checked<Self> {
        check_label("spec.app", &put.spec.app, MAX_RESOURCE_NAME_BYTES)?;
        check_text("spec.agent_name", &put.spec.agent_name, MAX_AGENT_NAME_BYTES)?;
        check_scopes("spec.allowed_scopes", &put.spec.allowed_scopes)?;
        check_ttl("spec.max_ttl_seconds", put.spec.max_ttl_seconds)?;
        let accounts = &put.spec.service_account_names;
        check_count("spec.service_account_names", accounts.len(), MAX_SERVICE_ACCOUNTS)?;
        for account in accounts {
            check_text("spec.service_account_names", account, 253)?;
        }
        if let Some(selector) = &put.spec.pod_selector {
            selector
                .check()
                .map_err(|error| InputError::new(format!("spec.pod_selector: {error}")))?;
        }
        if let Some(most) = put.spec.max_active_agents
            && !(1..=MAX_ACTIVE_AGENTS).contains(&most)
        {
            return Err(InputError::new(format!(
                "spec.max_active_agents must be 1 to {MAX_ACTIVE_AGENTS}, not {most}"
            )));
        }
        Self::checked(key, put, PolicySpec::LaunchToken)
    }

    fn checked<S: Serialize>(key: PolicyKey, put: PutPolicy<S>, wrap: fn(S) -> PolicySpec) -> Checked<Self> {
        check_key(&key)?;
        check_uid(&put.uid)?;
        check_order(put.order)?;
        check_number("generation", put.generation)?;
        if let Some(reason) = &put.reason {
            check_text("reason", reason, MAX_REASON_BYTES)?;
        }
        Ok(Self {
            digest: put.digest(),
            key,
            uid: put.uid,
            generation: put.generation,
            order: put.order,
            state: put.state,
            reason: put.reason,
            spec: wrap(put.spec),
        })
    }
}

/// Checks namespace and name of a policy.
pub(crate) fn check_key(key: &PolicyKey) -> Checked<()> {
    check_label("namespace", &key.namespace, MAX_LABEL_BYTES)?;
    check_label("name", &key.name, MAX_RESOURCE_NAME_BYTES)
}

/// Checks a UID.
pub(crate) fn check_uid(uid: &str) -> Checked<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if uid.is_empty() || uid.len() > MAX_UID_BYTES || !uid.bytes().all(legal) {
        return Err(InputError::new(format!(
            "uid must be 1 to {MAX_UID_BYTES} characters of A-Z, a-z, 0-9, '-', '.' and '_'"
        )));
    }
    Ok(())
}

/// Checks the order of a write.
pub(crate) fn check_order(order: WriteOrder) -> Checked<()> {
    check_number("order.lease_epoch", order.lease_epoch)?;
    check_number("order.sequence", order.sequence)
}

fn check_number(field: &str, value: i64) -> Checked<()> {
    if value < 0 {
        return Err(InputError::new(format!("{field} must be 0 or more, not {value}")));
    }
    Ok(())
}

fn check_text(field: &str, value: &str, most: usize) -> Checked<()> {
    if value.is_empty() || value.len() > most || value.chars().any(char::is_control) {
        return Err(InputError::new(format!(
            "{field} must be 1 to {most} bytes without control characters"
        )));
    }
    Ok(())
}

fn check_label(field: &str, value: &str, most: usize) -> Checked<()> {
    if is_dns_label(value, most) {
        Ok(())
    } else {
        Err(InputError::new(format!(
            "{field} must be a DNS label of at most {most} characters (a-z, 0-9 and '-', not at the ends)"
        )))
    }
}

fn check_namespaces(field: &str, namespaces: &[String]) -> Checked<()> {
    if namespaces.len() > MAX_DELEGATION_NAMESPACES {
        return Err(InputError::new(format!(
            "{field} must have at most {MAX_DELEGATION_NAMESPACES} items, not {}",
            namespaces.len()
        )));
    }
    namespaces
        .iter()
        .try_for_each(|namespace| check_label(field, namespace, MAX_LABEL_BYTES))
}

fn check_audiences(field: &str, audiences: &[String]) -> Checked<()> {
    if audiences.len() > MAX_AUDIENCES {
        return Err(InputError::new(format!(
            "{field} must have at most {MAX_AUDIENCES} items, not {}",
            audiences.len()
        )));
    }
    let illegal = |c: char| c.is_whitespace() || c.is_control();
    let wrong =
        |audience: &&String| audience.is_empty() || audience.len() > MAX_AUDIENCE_BYTES || audience.contains(illegal);
    match audiences.iter().find(wrong) {
        None => Ok(()),
        Some(audience) => Err(InputError::new(format!(
            "{field} {:?} must be 1 to {MAX_AUDIENCE_BYTES} bytes without white space and control characters",
            excerpt(audience)
        ))),
    }
}

fn check_count(field: &str, count: usize, most: usize) -> Checked<()> {
    if count == 0 || count > most {
        return Err(InputError::new(format!(
            "{field} must have 1 to {most} items, not {count}"
        )));
    }
    Ok(())
}

fn check_ttl(field: &str, value: i64) -> Checked<()> {
    if (MIN_POLICY_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&value) {
        return Ok(());
    }
    Err(InputError::with(
        ErrorCode::InvalidTtl,
        format!("{field} must be {MIN_POLICY_TTL_SECONDS} to {MAX_TTL_SECONDS} seconds, not {value}"),
    ))
}

fn check_client(client: &AppClient) -> Checked<()> {
    check_ttl("spec.client.token_ttl_seconds", client.token_ttl_seconds)?;
    check_count("spec.client.secrets", client.secrets.len(), MAX_CLIENT_SECRETS)?;
    for (index, secret) in client.secrets.iter().enumerate() {
        if secret.sha256.len() != 64 || !is_lower_hex(&secret.sha256) {
            return Err(InputError::new(format!(
                "spec.client.secrets[{index}].sha256 must be 64 lower-case hexadecimal digits"
            )));
        }
        if let Some(until) = secret.until {
            check_number(&format!("spec.client.secrets[{index}].until"), until.get())?;
        }
    }
    if client.secrets.iter().filter(|secret| secret.until.is_none()).count() > 1 {
        return Err(InputError::new(
            "spec.client.secrets must have one item without until at most: the current secret",
        ));
    }
    Ok(())
}

fn check_scopes(field: &'static str, scopes: &[String]) -> Checked<()> {
    if scopes.is_empty() {
        check_count(field, 0, MAX_SCOPES)?;
    }
    ScopeLimits::ATTESTED.check(field, scopes)?;
    for text in scopes {
        let scope = parse_scope(text).ok_or_else(|| {
            InputError::with(
                ErrorCode::InvalidScopeFormat,
                format!(
                    "{field} {:?} must be action:resource:identifier, at most {MAX_SCOPE_BYTES} bytes, without white \
                     space, ',' and '|'",
                    excerpt(text)
                ),
            )
        })?;
        if scope.is_reserved() {
            return Err(InputError::with(
                ErrorCode::Forbidden,
                format!(
                    "{field} {:?}: the families admin: and app: can't be granted to agents",
                    excerpt(text)
                ),
            ));
        }
    }
    Ok(())
}

/// `^[^:\s,|]+:[^:\s,|]+:[^\s,|]+$`, at most 256 bytes.
pub fn parse_scope(text: &str) -> Option<Scope> {
    let illegal = |c: char| c.is_whitespace() || matches!(c, ',' | '|');
    if text.len() > MAX_SCOPE_BYTES || text.contains(illegal) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
