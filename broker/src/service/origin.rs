//! Where a request comes from, as audit events have it.

use std::net::IpAddr;

/// The caller's address and what it asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditOrigin<'a> {
    /// Network address of the caller.
    pub(crate) source: IpAddr,
    /// Path of the endpoint, decoded, without its query.
    pub(crate) resource: &'a str,
}
