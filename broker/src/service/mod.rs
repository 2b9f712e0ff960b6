//! The rules, one module per capability; nowhere else.

pub mod admin;
pub mod app_input;
pub mod app_login;
pub mod apps;
pub mod attestation;
pub mod attested;
pub mod audit;
pub mod authorize;
pub mod delegate;
pub mod denials;
pub mod discovery;
pub mod health;
pub mod launch;
mod launch_bucket;
mod lineage;
pub mod origin;
pub mod pod_launch;
pub mod pods;
pub mod policy;
pub mod policy_input;
pub mod policy_list;
pub mod policy_removal;
pub mod policy_rules;
pub mod presented;
pub mod proof;
mod quarantine;
pub mod register;
mod registration;
pub mod release;
pub mod renew;
pub mod renewal_proof;
pub mod revoke;
#[cfg(test)]
mod room_tests;
pub mod scope_limits;
pub mod seed;
pub mod token;
