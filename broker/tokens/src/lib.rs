//! What makes and checks the broker's tokens: the keys they are signed with, the check of a token, what has been revoked,
//! and the nonces that a registration signs to prove that it has its key.
//!
//! Nothing here knows HTTP or a store. What a store commits comes in as
//! [`ViewChange`](agentwrit_protocol::revocation_change::ViewChange)s.
#![deny(missing_docs)]

mod key_file;
mod key_pair;
pub mod key_set;
pub mod key_source;
mod mac;
pub mod nonce;
pub mod shared_revocation_view;
mod token_cache;
pub mod verifier;
