//! How long a connection may take for what it does, and what it holds of the listener's memory.
//!
//! hyper's own header timeout also runs while a connection is idle, so the times are kept here. The stream under hyper
//! ([`crate::deadline_stream::DeadlineStream`]) and the service above it report what happens.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::limits::{Settings, Times};
use crate::pool::{Evictable, Place, Pool};

/// Bytes that each connection's place pays for: those of a header block, of its parsed lines, of a body and of an
/// answer. What is beyond counts by itself.
const FREE_HEAD: usize = 16 * 1024;
const FREE_LINES: usize = 8 * 1024;
const FREE_BODY: usize = 4 * 1024;
const FREE_ANSWER: usize = 16 * 1024;
/// What hyper's read buffer may keep of a body: no more than the kernel has of it at once.
const READ_BUFFER: usize = 64 * 1024;
/// What a peer can make the TLS library keep of its first message, bytes; counted until the handshake is done.
const HANDSHAKE: usize = 64 * 1024;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Handshake,
    /// No byte of a request is here.
    Idle,
    /// A header block is coming in.
    Head,
    /// A body is coming in.
    Body,
    /// A request is being answered.
    Answering,
    /// An answer is going out.
    Writing,
    /// A refusal of an unreadable head is going out, and what else comes in is discarded.
    Refused,
    /// Another connection needed the room.
    Evicted,
}

struct State {
    phase: Phase,
    /// Since when the phase lasts, or a body made its last progress.
    since: Instant,
    /// When the phase has to be over; the reader of a body looks at `read_by` itself.
    deadline: Option<Instant>,
    /// When the request has to be read.
    read_by: Instant,
    /// Bytes of the present request beyond the free ones.
    head: usize,
    head_beyond: usize,
    body_beyond: usize,
    /// Bytes of answers so far, up to what the kernel keeps of them for a peer that doesn't read.
    sent: usize,
    /// What the connection's buffers keep of all requests so far: the longest head, and one reading of a body.
    kept: usize,
    /// What was taken from the pool for all such bytes.
    charged: usize,
    waker: Option<Waker>,
}

struct Shared {
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Evictable for Shared {
    fn idle_since(&self) -> Instant {
        let state = self.lock();
        match state.phase {
            Phase::Answering => Instant::now(),
            _ => state.since,
        }
    }

    fn evict(&self) {
        let mut state = self.lock();
        state.phase = Phase::Evicted;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// A complete header block.
pub(crate) struct Head {
    /// When the body has to be here.
    pub(crate) read_by: Instant,
    /// It came in one piece with the request before.
    pub(crate) pipelined: bool,
}

/// The deadlines of one connection, and its place in the pool.
#[derive(Clone)]
pub(crate) struct Deadlines {
    times: Times,
    /// What the kernel may keep of answers, bytes.
    send_buffer: usize,
    shared: Arc<Shared>,
    place: Arc<Place>,
}

impl Deadlines {
    /// Those of a connection that was just accepted. `None` when there is no room for it at all.
    pub(crate) fn admitted(pool: &Arc<Pool>, peer: IpAddr, settings: &Settings, first: Phase) -> Option<Self> {
        let times = settings.times;
        let now = Instant::now();
        let (limit, handshake) = if first == Phase::Handshake {
            (times.handshake, HANDSHAKE)
        } else {
            (times.idle, 0)
        };
        let state = State {
            phase: first,
            since: now,
            deadline: Some(now + limit),
            read_by: now + times.read,
            head: 0,
            head_beyond: 0,
            body_beyond: 0,
            sent: 0,
            kept: 0,
            charged: 0,
            waker: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
        });
        let place = settings.budget.place;
        let place = pool.admit(peer, place.saturating_add(handshake), place, shared.clone())?;
        Some(Self {
            times,
            send_buffer: settings.socket_buffer.saturating_mul(2),
            shared,
            place: Arc::new(place),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Treats the source as trusted for a minute.
    pub(crate) fn trust(&self) {
        self.place.trust();
    }

    /// Takes `bytes` more from the pool, which must not be done under the lock of the state.
    fn charge(&self, state: MutexGuard<'_, State>, beyond: usize) -> bool {
        let more = beyond.saturating_sub(state.charged);
        drop(state);
        if more == 0 {
            return true;
        }
        let grown = self.place.grow(more);
        if grown {
            self.state().charged += more;
        }
        grown
    }

    /// The handshake is done, and a request may come.
    pub(crate) fn ready(&self) {
        let now = Instant::now();
        self.state().enter(Phase::Idle, now, Some(now + self.times.idle));
        self.place.shrink(HANDSHAKE);
    }

    /// Bytes came in. False when there is no room for so large a header block.
    pub(crate) fn received(&self, bytes: usize) -> bool {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            let now = Instant::now();
            state.enter(Phase::Head, now, Some(now + self.times.header));
            state.read_by = now + self.times.read;
        }
        if state.phase != Phase::Head {
            return true;
        }
        state.head = state.head.saturating_add(bytes);
        state.head_beyond = state.head.saturating_sub(FREE_HEAD);
        let beyond = state.head_beyond;
        beyond == 0 || self.charge(state, beyond)
    }

    /// A header block is complete; its parsed lines take `parsed` bytes. Nothing when there is no room.
    pub(crate) fn head_read(&self, parsed: usize) -> Option<Head> {
        let now = Instant::now();
        let mut state = self.state();
        if state.phase == Phase::Evicted {
            return None;
        }
        let pipelined = state.phase != Phase::Head;
        if pipelined {
            state.read_by = now + self.times.read;
        }
        state.enter(Phase::Body, now, None);
        state.head_beyond = state.head_beyond.saturating_add(parsed.saturating_sub(FREE_LINES));
        state.body_beyond = 0;
        let (read_by, beyond) = (state.read_by, state.head_beyond);
        (beyond == 0 || self.charge(state, beyond)).then_some(Head { read_by, pipelined })
    }

    /// `bytes` of a body are here. False when there is no room for them.
    pub(crate) fn body_grew(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if state.phase == Phase::Body {
            state.since = now;
        }
        state.body_beyond = bytes.saturating_sub(FREE_BODY);
        let beyond = state.head_beyond.saturating_add(state.body_beyond);
        beyond == 0 || self.charge(state, beyond)
    }

    /// The whole body is here.
    pub(crate) fn body_read(&self) {
        let mut state = self.state();
        if state.phase == Phase::Body {
            state.phase = Phase::Answering;
        }
    }

    /// An answer of this size is on its way out. False when there is no room for it.
    pub(crate) fn answered(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        if state.phase == Phase::Evicted {
            return false;
        }
        state.enter(Phase::Writing, now, Some(now + self.times.write));
        let request = state.head_beyond.saturating_add(state.body_beyond);
        state.sent = state.sent.saturating_add(bytes).min(self.send_buffer);
        let answer = bytes.saturating_sub(FREE_ANSWER);
        let kept_by_kernel = state.sent.saturating_sub(FREE_ANSWER);
        let beyond = request.saturating_add(answer).saturating_add(kept_by_kernel);
        beyond == 0 || self.charge(state, beyond)
    }

    /// The head can't be read; nothing follows.
    pub(crate) fn refused(&self) {
        let now = Instant::now();
        self.state().enter(Phase::Refused, now, Some(now + self.times.linger));
    }

    /// Everything that was written is with the peer.
    pub(crate) fn flushed(&self) {
        let mut state = self.state();
        if state.phase == Phase::Writing {
            let now = Instant::now();
            state.enter(Phase::Idle, now, Some(now + self.times.idle));
            let buffered = state.head.saturating_sub(FREE_HEAD);
            let buffered = buffered.saturating_add(state.body_beyond.min(READ_BUFFER));
            state.kept = state.kept.max(buffered);
            (state.head, state.head_beyond, state.body_beyond) = (0, 0, 0);
            let needed = state.kept.saturating_add(state.sent.saturating_sub(FREE_ANSWER));
            let surplus = state.charged.saturating_sub(needed);
            state.charged -= surplus;
            drop(state);
            if surplus > 0 {
                self.place.shrink(surplus);
            }
        }
    }

    /// Ends when the connection has taken too long for what it was doing, or has to make room.
    pub(crate) async fn expired(&self) -> Phase {
        let armed = self
            .state()
            .deadline
            .unwrap_or_else(|| Instant::now() + self.times.write);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(armed));
        std::future::poll_fn(|cx| {
            loop {
                let (phase, deadline) = {
                    let mut state = self.state();
                    if state.phase == Phase::Evicted {
                        return Poll::Ready(Phase::Evicted);
                    }
                    if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        state.waker = Some(cx.waker().clone());
                    }
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
                    Some(deadline) if deadline <= Instant::now() => return Poll::Ready(phase),
                    Some(deadline) => timer.as_mut().reset(deadline),
                    None => timer.as_mut().reset(Instant::now() + self.times.write),
                }
            }
        })
        .await
    }
}

impl State {
    /// An evicted connection stays evicted.
    fn enter(&mut self, phase: Phase, now: Instant, deadline: Option<Instant>) {
        if self.phase != Phase::Evicted {
            self.phase = phase;
            self.since = now;
            self.deadline = deadline;
        }
    }
}
