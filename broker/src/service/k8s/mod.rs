//! Pods and their controller: who calls, what the policies allow, launches, ends and quarantine of pods.

pub(crate) mod callers;
pub(crate) mod denials;
pub(crate) mod error;
pub(crate) mod launch;
mod launch_ask;
mod launch_bucket;
mod places;
pub(crate) mod pod_binding;
pub(crate) mod pods;
pub(crate) mod policy;
pub(crate) mod quarantine;
#[cfg(test)]
mod tests;
