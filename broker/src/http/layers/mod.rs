//! What is done to every request around the router.

pub(super) mod body_limit;
pub(super) mod paths;
