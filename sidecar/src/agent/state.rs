//! The agent's states, and the token that it holds in some of them.

use std::time::Duration;

use agentwrit_protocol::Sensitive;

use super::event::Now;
use crate::schedule::Schedule;
use crate::token::Issued;

/// The moments in it are of the monotonic clock ([`Now::mono`]).
#[derive(Debug)]
pub(super) enum State {
    /// Before [`super::Event::Started`].
    New,
    /// Wants a first token, or another in place of `old`, which may still be accepted.
    Registering {
        old: Option<Held>,
        at: Duration,
    },
    /// Holds one and keeps it fresh.
    Holding {
        held: Held,
        renew_at: Duration,
    },
    /// Revoked by a person: tries to register now and then, until it is released.
    Quarantined {
        at: Duration,
    },
    /// Stopping: gives the token back.
    Stopping {
        held: Option<Held>,
        until: Duration,
        wait: Duration,
        release_at: Duration,
    },
    Stopped,
}

impl State {
    pub(super) fn held(&self) -> Option<&Held> {
        match self {
            Self::Registering { old: held, .. } | Self::Stopping { held, .. } => held.as_ref(),
            Self::Holding { held, .. } => Some(held),
            Self::New | Self::Quarantined { .. } | Self::Stopped => None,
        }
    }

    pub(super) fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Registering { old: held, .. } | Self::Stopping { held, .. } => held.as_mut(),
            Self::Holding { held, .. } => Some(held),
            Self::New | Self::Quarantined { .. } | Self::Stopped => None,
        }
    }

    pub(super) fn into_held(self) -> Option<Held> {
        match self {
            Self::Registering { old: held, .. } | Self::Stopping { held, .. } => held,
            Self::Holding { held, .. } => Some(held),
            Self::New | Self::Quarantined { .. } | Self::Stopped => None,
        }
    }

    /// Takes the token away; without one, the agent registers at once, unless it is stopping.
    pub(super) fn drop_held(&mut self, now: Now) -> Option<Held> {
        match self {
            Self::Registering { old: held, .. } | Self::Stopping { held, .. } => held.take(),
            Self::Holding { .. } => {
                let registering = Self::Registering {
                    old: None,
                    at: now.mono,
                };
                std::mem::replace(self, registering).into_held()
            }
            Self::New | Self::Quarantined { .. } | Self::Stopped => None,
        }
    }
}

/// The token that pod and sidecar hold now.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) issued: Issued,
    pub(super) expires: Now,
    pub(super) expires_by: ExpiresBy,
    pub(super) origin: Origin,
    pub(super) standing: Standing,
    pub(super) validate_at: Duration,
    /// The log already says that validation gets no answer.
    pub(super) outage_logged: bool,
    pub(super) renewal: Renewal,
}

/// How the token came to the file. Only a token that this process got can be renewed: the key of another is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A former process left it. After the first answer that it is valid, it is validated again soon (`recheck`): if
    /// that process was given another just before its end, this one is valid for the overlap only.
    Found { recheck: bool },
    /// This process got it, and writes it at `write_at`; `None` while it is being written.
    Received { write_at: Option<Duration> },
    /// This process got it and wrote it.
    Written,
}

/// What the broker last said about the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Accepted,
    /// It is no longer valid.
    Rejected,
}

/// Which clock decides whether the token has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpiresBy {
    /// The earlier: the wall clock notices a suspend, the monotonic one a wall clock that was set back.
    EitherClock,
    /// After a jump, until the renewal has shown whether time passed or only the wall clock was set.
    MonotonicClock,
}

/// The tries to renew one token.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    key: Option<String>,
    pub(super) tries: u32,
    pub(super) first_tried: Option<Now>,
    /// A proof was stale, and the next has the time of that answer.
    pub(super) time_corrected: bool,
}

impl Held {
    /// A token with `life` left from `since`.
    pub(super) fn new(issued: Issued, origin: Origin, since: Now, life: Duration, validate_at: Duration) -> Self {
        Self {
            issued,
            expires: Now {
                wall: since.wall + life,
                mono: since.mono.saturating_add(life),
            },
            expires_by: ExpiresBy::EitherClock,
            origin,
            standing: Standing::Accepted,
            validate_at,
            outage_logged: false,
            renewal: Renewal::default(),
        }
    }

    pub(super) fn has_expired(&self, now: Now) -> bool {
        now.mono >= self.expires.mono || (self.expires_by == ExpiresBy::EitherClock && now.wall >= self.expires.wall)
    }

    /// The token, when it is time to write it: it counts as being written then.
    pub(super) fn take_due_write(&mut self, now: Now) -> Option<Sensitive> {
        match &mut self.origin {
            Origin::Received { write_at } if write_at.is_some_and(|at| now.mono >= at) => {
                *write_at = None;
                Some(self.issued.token.clone())
            }
            Origin::Found { .. } | Origin::Received { .. } | Origin::Written => None,
        }
    }

    /// Notes a try to renew it, and returns the idempotency key, which is the same for every try.
    pub(super) fn try_renewal(&mut self, now: Now, schedule: &Schedule) -> Option<String> {
        let renewal = &mut self.renewal;
        renewal.tries = renewal.tries.saturating_add(1);
        renewal.first_tried.get_or_insert(now);
        if renewal.key.is_none() {
            renewal.key = schedule.random_key();
        }
        renewal.key.clone()
    }
}
