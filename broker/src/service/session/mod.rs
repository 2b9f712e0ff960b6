//! A session from its registration to its end: tokens, renewals, delegations, release, revocation.

pub mod delegate;
pub mod delegation;
pub(crate) mod lineage;
pub mod presented;
pub mod proof_of_possession;
pub mod register;
pub mod registration;
pub mod release;
pub mod renew;
pub mod renewal_proof;
pub mod revoke;
pub mod token;
