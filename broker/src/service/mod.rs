//! The rules, one module per capability; nowhere else.

pub(crate) mod actor;
pub(crate) mod admin;
pub(crate) mod apps;
pub(crate) mod audit_query;
pub(crate) mod authorize;
pub(crate) mod challenge;
pub(crate) mod denial_auditor;
pub(crate) mod error;
pub(crate) mod k8s;
pub(crate) mod launch;
pub(crate) mod origin;
pub(crate) mod rate_limit;
pub(crate) mod scope_limits;
pub(crate) mod session;
pub(crate) mod signing_keys;
pub(crate) mod stranger_reads;
pub(crate) mod token_check;
