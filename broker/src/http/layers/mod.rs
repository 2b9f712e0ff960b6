//! What is done to every request around the router, one tower layer a file. `stack.rs` has their order, `frame.rs` tower's traits.
//!
//! They borrow what they need from the stack, so that nothing is boxed or counted for a layer. None is tower-http's: the
//! contract wants a request id replaced that is not fit to be logged, and a panic logged with its path. tower-http's
//! panic catcher also boxes each body, and its set-header, once for each of four headers, takes 1,260 instructions a
//! request more than one loop.

pub(super) mod access_log;
pub(super) mod body_limit;
pub(super) mod catch_panic;
pub(super) mod frame;
pub(super) mod paths;
pub(super) mod problem;
pub(super) mod request_id;
pub(super) mod security_headers;
pub(super) mod store_epoch;
