//! What is done to every request around the router, one tower layer a file. `stack.rs` has their order.
//!
//! They borrow what they need from the stack, so that nothing is boxed or counted for a layer. The security headers are
//! tower-http's; the others are ours, because the contract fixes what they do: a request id that is not fit to be
//! logged is replaced, a panic is logged with its path, and refusals are problems.

pub(super) mod access_log;
mod after;
pub(super) mod body_limit;
pub(super) mod catch_panic;
pub(super) mod paths;
pub(super) mod problem;
pub(super) mod request_id;
pub(super) mod security_headers;
pub(super) mod store_epoch;

use std::convert::Infallible;

use axum::response::Response;

/// What every layer ends with: a refusal is a response too.
pub(super) type Answered = Result<Response, Infallible>;
