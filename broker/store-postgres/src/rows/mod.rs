//! The repositories: one file for the rows of each.

mod apps;
pub(crate) mod launch;
mod maintenance;
mod meta;
mod pods;
mod policy;
mod revocation;
mod segments;
pub(crate) mod session;
pub(crate) mod signing_keys;
pub(crate) mod status;
