//! The AgentWrit sidecar: gets, keeps fresh and gives back one pod's token.
//!
//! `agent` decides, and knows neither sockets nor files; `runtime` does what it decides. Beside them stand the
//! token file, the endpoint on localhost and the health listener.
#![deny(missing_docs)]

mod agent;
mod broker_calls;
mod broker_time;
mod cause;
mod config;
mod http;
mod key;
mod log;
mod log_event;
mod request;
mod run;
mod runtime;
mod schedule;
mod status;
mod token;
mod token_file;
mod wait;

pub use config::{Config, ConfigErrors};
pub use log::{Log, Sink, Stdout};
pub use run::{Listeners, StartError, from_environment, run, terminated};
pub use wait::{LONGEST_WAIT, wait};

// For the tests of the agent's decisions.
pub use agent::{Action, Agent, Event, Failure, Found, Holding, Jump, Notice, Now};
pub use request::BrokerRequest;
pub use token::Issued;
