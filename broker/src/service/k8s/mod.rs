//! Pods and their controller: who calls, what the policies allow, launches, ends and quarantine of pods.

pub mod callers;
pub mod denials;
#[cfg(test)]
mod disk_full_tests;
pub mod launch;
mod launch_bucket;
pub mod pod_binding;
pub mod pods;
pub mod policy;
pub(crate) mod quarantine;
