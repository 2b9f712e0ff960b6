//! What the agent wants done, and what it has to say.

use std::time::Duration;

use agentwrit_protocol::{ErrorCode, PodUid, Sensitive, UnixSeconds};

use crate::request::BrokerRequest;
use crate::token::Issued;

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Launch, challenge, register; answer with [`super::Event::Registered`].
    Register,
    /// Renew; answer with [`super::Event::Renewed`].
    Renew {
        /// The bearer, and what a proof names of it.
        held: Box<Issued>,
        /// The same for every try with this bearer.
        idempotency_key: Option<String>,
    },
    /// Ask whether the token is valid; answer with [`super::Event::Validated`].
    Validate(Sensitive),
    /// Give the token back, dropping any other request; answer with [`super::Event::Released`].
    Release(Sensitive),
    /// Replace the token file; answer with [`super::Event::Written`].
    Write(Sensitive),
    /// Remove the token file.
    Remove,
    /// Write a line.
    Tell(Notice),
    /// End the process with success.
    Exit,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A token of a former process is in the volume.
    Found {
        /// How long it is still good.
        left: Duration,
    },
    /// What is in the volume is not a valid token.
    FoundInvalid,
    /// A first token, or one after starting over.
    Registered(Holding),
    /// A fresh token in place of the last.
    Renewed(Holding),
    /// The broker said no.
    Refused {
        /// What was asked.
        request: BrokerRequest,
        /// The reason's code.
        code: ErrorCode,
        /// The broker's sentence.
        detail: String,
        /// Pause before the next try.
        pause: Duration,
    },
    /// No useful answer.
    Trouble {
        /// What was asked.
        request: BrokerRequest,
        /// What was in the way, in one word.
        symptom: &'static str,
        /// What went wrong.
        text: String,
        /// Pause before the next try.
        pause: Duration,
    },
    /// The broker says that the token is no longer valid.
    NoLongerValid,
    /// The token file was removed.
    Dropped {
        /// Why.
        reason: &'static str,
    },
    /// A person revoked this agent: nothing to do but ask now and then.
    Quarantined {
        /// UID of the pod; empty when unknown.
        pod_uid: PodUid,
    },
    /// Wall clock and monotonic clock disagree: a suspend, or a corrected clock.
    ClockJumped(Jump),
    /// The token file can't be written.
    WriteFailed {
        /// The system's reason.
        reason: String,
        /// Pause before the next try.
        pause: Duration,
    },
    /// Told to stop.
    Stopping,
    /// The token was given back.
    Released,
    /// It couldn't be given back; it ends by pod-ended or its TTL.
    NotReleased {
        /// What went wrong.
        reason: String,
    },
}

/// How far the wall clock moved while the monotonic one didn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// To a later time.
    Forward(Duration),
    /// To an earlier time.
    Backward(Duration),
}

/// An agent's token: its id, its scopes, its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The agent's SPIFFE id.
    pub agent_id: String,
    /// How many scopes.
    pub scopes: usize,
    /// Last second of the token.
    pub exp: UnixSeconds,
}
