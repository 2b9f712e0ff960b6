//! A session from its registration to its end: tokens, renewals, delegations, release, revocation.

pub(crate) mod delegate;
pub(crate) mod delegate_command;
pub(crate) mod launch_token_check;
pub(crate) mod lineage;
pub(crate) mod proof_of_possession;
pub(crate) mod register;
pub(crate) mod registration;
pub(crate) mod release;
pub(crate) mod renew;
pub(crate) mod renewal_proof;
pub(crate) mod revoke;
pub(crate) mod revoke_matching;
pub(crate) mod token;
