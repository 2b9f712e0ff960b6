//! What happens to an agent.

use std::time::Duration;

use agentwrit_client::{Class, Error};
use agentwrit_protocol::UnixMillis;

use crate::request::BrokerRequest;
use crate::token::Issued;

/// A reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The wall clock.
    pub wall: UnixMillis,
    /// Time since the start of the process; doesn't jump, and doesn't advance during a suspend.
    pub mono: Duration,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which request.
    pub request: BrokerRequest,
    /// What to do about it.
    pub class: Class,
    /// What was in the way, in one word of ours: a code of the broker, or such as `dns`, `timeout`.
    pub symptom: &'static str,
    /// For the log; holds no token.
    pub text: String,
}

impl Failure {
    /// From the client's error.
    pub(crate) fn new(request: BrokerRequest, error: &Error) -> Self {
        let text = match (error.class(), error.refusal()) {
            (Class::Denied(_), Some(refusal)) => refusal.problem.detail.clone(),
            _ => error.to_string(),
        };
        Self {
            request,
            class: error.class(),
            symptom: error.symptom(),
            text,
        }
    }
}

/// What was in the token volume at start.
#[derive(Debug, Clone)]
pub enum Found {
    /// No file.
    Nothing,
    /// A file that holds no token.
    Invalid,
    /// A token of a former process.
    Token(Issued),
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The process started.
    Started(Found),
    /// The deadline came.
    Tick,
    /// [`super::Action::Register`] ended.
    Registered(Result<Issued, Failure>),
    /// [`super::Action::Renew`] ended.
    Renewed(Result<Issued, Failure>),
    /// [`super::Action::Validate`] ended.
    Validated(Result<bool, Failure>),
    /// [`super::Action::Release`] ended.
    Released(Result<(), Failure>),
    /// [`super::Action::Write`] ended.
    Written(Result<(), String>),
    /// SIGTERM.
    Stop,
}
