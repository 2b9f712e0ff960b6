//! Limits of endpoints that need no credential: the first check of each. A refusal is audited now and then.

use agentwrit_limits::Limits;

use super::denial_auditor::DenialAuditor;
use super::error::RateLimited;
use super::origin::AuditOrigin;

#[derive(Clone, Copy)]
pub(crate) struct RateLimits<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) denials: &'a DenialAuditor,
}

impl RateLimits<'_> {
    pub(crate) fn challenge(self, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
        self.check(origin, self.limits.challenge(origin.source), 1)
    }

    pub(crate) fn register(self, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
        self.check(origin, self.limits.register(origin.source), 1)
    }

    pub(crate) fn admin_auth(self, origin: AuditOrigin<'_>) -> Result<(), RateLimited> {
        self.check(origin, self.limits.admin_auth(origin.source), 1)
    }

    /// By the source, then by the client that it names.
    pub(crate) fn app_auth(self, origin: AuditOrigin<'_>, client_id: Option<&str>) -> Result<(), RateLimited> {
        self.check(origin, self.limits.app_auth_source(origin.source), 1)?;
        self.check(origin, self.limits.app_auth(client_id, origin.source), 60)
    }

    fn check(self, origin: AuditOrigin<'_>, allowed: bool, retry_after: u32) -> Result<(), RateLimited> {
        if allowed {
            return Ok(());
        }
        self.denials.rate_limit(origin);
        Err(RateLimited { retry_after })
    }
}
