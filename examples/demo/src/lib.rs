//! A protected service, and a client that knows only `AGENTWRIT_TOKEN_FILE`.
//!
//! The service shows what a resource server does with an AgentWrit token: check it offline with the broker's published
//! keys, then authorise on the scope *and* on every link of the delegation chain, never on `sub` alone. A revocation is
//! felt here when the token expires; who needs it within a second asks the broker's `/v1/token/validate` instead.
#![deny(missing_docs)]

pub mod client;
pub mod service;
mod stop;
