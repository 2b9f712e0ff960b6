//! The AgentWrit sidecar: gets, keeps fresh and gives back one pod's token.
//!
//! [`agent`] decides, and knows neither sockets nor files; [`runtime`] does what it decides. Beside them stand the
//! token file, the endpoint on localhost and the health listener.
#![deny(missing_docs)]

pub mod agent;
pub mod broker_calls;
pub mod broker_time;
pub mod cause;
pub mod config;
pub mod http;
pub mod key;
pub mod log;
pub mod log_event;
pub mod request;
pub mod run;
pub mod runtime;
pub mod status;
pub mod token;
pub mod token_file;

mod schedule;
