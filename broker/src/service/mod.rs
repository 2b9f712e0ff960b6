//! The rules, one module per capability; nowhere else.

pub mod admin;
pub mod apps;
pub mod audit;
pub mod authorize;
pub mod challenge;
pub mod denial_auditor;
pub mod error;
pub mod k8s;
pub mod launch;
pub mod origin;
pub mod rate_limit;
pub mod scope_limits;
pub mod session;
pub mod stranger_reads;
