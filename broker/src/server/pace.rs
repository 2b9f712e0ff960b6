//! How long a connection may take for what it does, and how much of a header block it may hold.
//!
//! hyper's own header timeout also runs while a connection is idle, so the times are kept here: a [`Pace`] is told what
//! happens by the stream under hyper ([`super::stream::Paced`]) and by the service above it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The times of contract §1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From a request's first byte to the end of its header block.
    pub(super) header: Duration,
    /// From a request's first byte to the end of its body.
    pub(super) read: Duration,
    /// From the moment an answer is made to its last byte.
    pub(super) write: Duration,
    /// Between requests, and before the first.
    pub(super) idle: Duration,
    /// The same when connections run short.
    pub(super) idle_when_crowded: Duration,
    /// For a refusal, and for what the peer still sends: closing on unread bytes could take the refusal from it.
    pub(super) linger: Duration,
}

impl Times {
    pub(super) const CONTRACT: Self = Self {
        header: Duration::from_secs(5),
        read: Duration::from_secs(15),
        write: Duration::from_secs(30),
        idle: Duration::from_mins(2),
        idle_when_crowded: Duration::from_secs(5),
        linger: Duration::from_secs(1),
    };
}

/// A header block up to this size is always taken, bytes; what is beyond counts against the total.
const FREE_HEAD: usize = 16 * 1024;
/// Header bytes beyond the free ones that all connections together may hold.
const HEADS_IN_FLIGHT: usize = 64 * 1_048_576;

/// What the connections of a listener share.
pub(super) struct Room {
    pub(super) times: Times,
    connections: Arc<Semaphore>,
    most_connections: usize,
    heads: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new(times: Times, most_connections: usize) -> Self {
        Self {
            times,
            connections: Arc::new(Semaphore::new(most_connections)),
            most_connections,
            heads: Arc::new(Semaphore::new(HEADS_IN_FLIGHT)),
        }
    }

    /// Waits for a place for one more connection.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).acquire_owned().await.ok()
    }

    /// How long a connection may now stay idle.
    pub(super) fn idle(&self) -> Duration {
        if self.connections.available_permits() < self.most_connections / 4 {
            self.times.idle_when_crowded
        } else {
            self.times.idle
        }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of a request is here.
    Idle,
    /// A header block is coming in.
    Head,
    /// A request is read and answered.
    Answering,
    /// An answer is going out.
    Writing,
    /// A refusal of an unreadable head is going out, and what else comes in is forgotten.
    Refused,
}

struct State {
    phase: Phase,
    /// When the phase has to be over; `Answering` looks at the body's time itself.
    deadline: Option<Instant>,
    /// When the request has to be read.
    read_by: Instant,
    head_bytes: usize,
    held: Option<OwnedSemaphorePermit>,
}

/// The clock of one connection.
#[derive(Clone)]
pub(super) struct Pace {
    room: Arc<Room>,
    state: Arc<Mutex<State>>,
}

impl Pace {
    /// A connection whose first byte has just come.
    pub(super) fn begun(room: Arc<Room>) -> Self {
        let now = Instant::now();
        let state = State {
            phase: Phase::Head,
            deadline: Some(now + room.times.header),
            read_by: now + room.times.read,
            head_bytes: 0,
            held: None,
        };
        Self {
            room,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Bytes came in. False when all connections together hold too many header bytes.
    pub(super) fn received(&self, bytes: usize) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            let now = Instant::now();
            state.phase = Phase::Head;
            state.deadline = Some(now + self.room.times.header);
            state.read_by = now + self.room.times.read;
        }
        if state.phase != Phase::Head {
            return true;
        }
        let before = state.head_bytes.max(FREE_HEAD);
        state.head_bytes = state.head_bytes.saturating_add(bytes);
        let over = u32::try_from(state.head_bytes.saturating_sub(before)).unwrap_or(u32::MAX);
        if over == 0 {
            return true;
        }
        match Arc::clone(&self.room.heads).try_acquire_many_owned(over) {
            Ok(more) => {
                match state.held.as_mut() {
                    Some(held) => held.merge(more),
                    None => state.held = Some(more),
                }
                true
            }
            Err(_) => false,
        }
    }

    /// A header block is complete. Answers when the body has to be.
    pub(super) fn called(&self) -> Instant {
        let mut state = self.state();
        if state.phase != Phase::Head {
            // It came in one piece with the request before.
            state.read_by = Instant::now() + self.room.times.read;
        }
        state.phase = Phase::Answering;
        state.deadline = None;
        state.read_by
    }

    /// An answer is on its way out.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.phase = Phase::Writing;
        state.deadline = Some(Instant::now() + self.room.times.write);
    }

    /// The head can't be read; nothing follows.
    pub(super) fn refused(&self) {
        let mut state = self.state();
        state.phase = Phase::Refused;
        state.deadline = Some(Instant::now() + self.room.times.linger);
    }

    /// Everything that was written is with the peer.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Writing {
            state.phase = Phase::Idle;
            state.deadline = Some(Instant::now() + self.room.idle());
            state.head_bytes = 0;
            state.held = None;
        }
    }

    /// Ends when the connection has taken too long for what it was doing.
    pub(super) async fn expired(&self) -> Phase {
        let armed = self
            .state()
            .deadline
            .unwrap_or_else(|| Instant::now() + self.room.times.write);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(armed));
        std::future::poll_fn(|cx| {
            loop {
                let (phase, deadline) = {
                    let state = self.state();
                    (state.phase, state.deadline)
                };
                // A deadline that moved away is looked at when the timer ends: most requests then cost no timer.
                if let Some(deadline) = deadline
                    && deadline < timer.deadline()
                {
                    timer.as_mut().reset(deadline);
                }
                std::task::ready!(timer.as_mut().poll(cx));
                match deadline {
                    Some(deadline) if deadline <= Instant::now() => return std::task::Poll::Ready(phase),
                    Some(deadline) => timer.as_mut().reset(deadline),
                    None => timer.as_mut().reset(Instant::now() + self.room.times.write),
                }
            }
        })
        .await
    }
}
