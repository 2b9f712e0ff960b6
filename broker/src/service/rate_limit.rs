//! Limits of endpoints that need no credential: the first check of each. A refusal is audited now and then.

use super::error::RateLimited;
use super::origin::AuditOrigin;
use crate::broker::Broker;

/// The limit of challenges.
///
/// # Errors
/// When this source has had too many.
pub fn challenge(broker: &Broker, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
    check(broker, origin, broker.limits.challenge(origin.source), 1)
}

/// The limit of registrations.
///
/// # Errors
/// When this source has tried too many.
pub fn register(broker: &Broker, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
    check(broker, origin, broker.limits.register(origin.source), 1)
}

/// The limit of admin logins.
///
/// # Errors
/// When this source has tried too many.
pub fn admin_auth(broker: &Broker, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
    check(broker, origin, broker.limits.admin_auth(origin.source), 1)
}

/// The limits of app logins: by the source, then by the client that it names.
///
/// # Errors
/// When the source or the client has tried too many.
pub fn app_auth(broker: &Broker, origin: AuditOrigin<'_>, client_id: Option<&str>) -> Result<(), RateLimited> {
    check(broker, origin, broker.limits.app_auth_source(origin.source), 1)?;
    check(broker, origin, broker.limits.app_auth(client_id, origin.source), 60)
}

fn check(broker: &Broker, origin: AuditOrigin<'_>, allowed: bool, retry_after: u32) -> Result<(), RateLimited> {
    if allowed {
        return Ok(());
    }
    broker.audit_rate_limit(origin.source, origin.resource);
    Err(RateLimited { retry_after })
}
