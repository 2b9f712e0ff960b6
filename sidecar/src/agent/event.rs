//! What happens to an agent, and what it wants done.

use std::fmt;

use agentwrit_client::{Class, Error};
use agentwrit_protocol::Sensitive;

use crate::log_event::Notice;
use crate::token::Issued;

/// A reading of both clocks, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Unix time.
    pub wall: i64,
    /// Since some moment of the past; doesn't jump, and stands still in a suspend.
    pub mono: i64,
}

/// What was asked of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A launch token, with the pod's `ServiceAccount` token.
    Launch,
    /// A nonce.
    Challenge,
    /// The agent's token.
    Register,
    /// A fresh token.
    Renew,
    /// Whether the token stands.
    Validate,
    /// To take the token back.
    Release,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch => "launch",
            Self::Challenge => "get a challenge",
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Validate => "validate",
            Self::Release => "release",
        })
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which request.
    pub stage: Stage,
    /// What to do about it.
    pub class: Class,
    /// What was in the way, in one word of ours: a code of the broker, or such as `dns`, `timeout`.
    pub symptom: &'static str,
    /// For the log; holds no token.
    pub text: String,
}

impl Failure {
    /// From the client's error.
    pub fn new(stage: Stage, error: &Error) -> Self {
        let text = match (error.class(), error.refusal()) {
            (Class::Denied(_), Some(refusal)) => refusal.problem.detail.clone(),
            _ => error.to_string(),
        };
        Self {
            stage,
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
    Useless,
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
    /// [`Action::Register`] ended.
    Registered(Result<Issued, Failure>),
    /// [`Action::Renew`] ended.
    Renewed(Result<Issued, Failure>),
    /// [`Action::Validate`] ended.
    Validated(Result<bool, Failure>),
    /// [`Action::Release`] ended.
    Released(Result<(), Failure>),
    /// [`Action::Write`] ended.
    Written(Result<(), String>),
    /// SIGTERM.
    Stop,
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Launch, challenge, register; answer with [`Event::Registered`].
    Register,
    /// Renew; answer with [`Event::Renewed`].
    Renew {
        /// The bearer, and what a proof names of it.
        held: Box<Issued>,
        /// The same for every try with this bearer.
        idempotency_key: Option<String>,
    },
    /// Ask whether the token stands; answer with [`Event::Validated`].
    Validate(Sensitive),
    /// Give the token back, dropping any other request; answer with [`Event::Released`].
    Release(Sensitive),
    /// Replace the token file; answer with [`Event::Written`].
    Write(Sensitive),
    /// Remove the token file.
    Remove,
    /// Write a line.
    Tell(Notice),
    /// End the process with success.
    Exit,
}
