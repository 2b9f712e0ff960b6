//! The AgentWrit sidecar: gets, keeps fresh and gives back one pod's token.
//!
//! [`agent`] decides, and knows neither sockets nor files; [`driver`] does what it decides. Beside them stand the
//! token file, the endpoint on localhost and the health listener.
#![deny(missing_docs)]

pub mod agent;
pub mod broker_time;
pub mod cause;
pub mod config;
pub mod driver;
pub mod endpoint;
pub mod enrol;
pub mod key;
pub mod listener;
pub mod log;
pub mod notice;
pub mod run;
pub mod status;
pub mod token;
pub mod token_file;

mod advice;
mod schedule;
