//! Where the trail is cut into segments, and what is kept of it.

use agentwrit_protocol::UnixNanos;
use agentwrit_store::segment::{Cut, Segment};

/// Bytes that short events take less than they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// In sealed segments.
    pub sealed: i64,
    /// In the one that grows.
    pub growing: i64,
}

impl Saved {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sealed: self.sealed.saturating_add(other.sealed),
            growing: self.growing.saturating_add(other.growing),
        }
    }
}

/// The segment that grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growing {
    /// Number of its first event.
    pub first: i64,
    /// Its events.
    pub events: i64,
    /// What they take, about.
    pub bytes: i64,
    /// When its first event was.
    pub first_at: UnixNanos,
    /// When its latest event was.
    pub last_at: UnixNanos,
    /// `hash` of its first event.
    pub first_hash: String,
}

impl Growing {
    /// One that begins with this event, and has none yet.
    pub fn from(first: i64) -> Self {
        Self {
            first,
            events: 0,
            bytes: 0,
            first_at: UnixNanos::default(),
            last_at: UnixNanos::MIN,
            first_hash: String::new(),
        }
    }

    /// Takes note of an event.
    pub fn add(&mut self, at: UnixNanos, bytes: i64) {
        if self.events == 0 {
            self.first_at = at;
        }
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.last_at = self.last_at.max(at);
    }

    fn is_due(&self, cut: Cut, now: UnixNanos) -> bool {
        // A checkpoint alone stands for what was sealed before it: it isn't sealed again and again.
        let least = if self.first == 1 { 1 } else { 2 };
        // One that begins in the future was begun by a clock that was wrong.
        let aged = |age| now.since(self.first_at).max(self.first_at.since(now)) >= age;
        self.bytes >= cut.bytes || (self.events >= least && cut.age.is_some_and(aged))
    }
}

/// What is kept of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of the first event that is kept.
    pub first: i64,
    /// Sealed segments.
    pub segments: i64,
    /// What their events take, about.
    pub sealed_bytes: i64,
    /// The segment that grows.
    pub growing: Growing,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            first: 1,
            segments: 0,
            sealed_bytes: 0,
            growing: Growing::from(1),
        }
    }
}

impl Kept {
    /// What the events that are kept take, about.
    pub fn bytes(&self) -> i64 {
        self.sealed_bytes.saturating_add(self.growing.bytes)
    }

    /// Takes note of an event that was appended.
    pub fn appended(&mut self, at: UnixNanos, bytes: i64, hash: &str) {
        if self.growing.events == 0 {
            hash.clone_into(&mut self.growing.first_hash);
        }
        self.growing.add(at, bytes);
    }

    /// Whether the next event has to be the checkpoint that a new segment begins with.
    pub fn is_due(&self, cut: Cut, now: UnixNanos) -> bool {
        self.growing.is_due(cut, now)
    }

    /// Seals what has grown up to the event of this number and hash.
    pub fn seal(&mut self, last: i64, head: &str) -> Segment {
        let grown = std::mem::replace(&mut self.growing, Growing::from(last.saturating_add(1)));
        self.segments = self.segments.saturating_add(1);
        self.sealed_bytes = self.sealed_bytes.saturating_add(grown.bytes);
        Segment {
            first: grown.first,
            last,
            bytes: grown.bytes,
            first_at: grown.first_at,
            last_at: grown.last_at,
            first_hash: grown.first_hash,
            head: head.to_owned(),
            exported: None,
        }
    }

    /// Takes note of events that were shortened.
    pub fn shortened(&mut self, saved: Saved) {
        self.sealed_bytes = self.sealed_bytes.saturating_sub(saved.sealed).max(0);
        self.growing.bytes = self.growing.bytes.saturating_sub(saved.growing).max(0);
    }

    /// Takes note of segments that were dropped.
    pub fn dropped(&mut self, segments: &[Segment]) {
        for segment in segments {
            self.first = segment.last.saturating_add(1);
            self.segments = self.segments.saturating_sub(1);
            self.sealed_bytes = self.sealed_bytes.saturating_sub(segment.bytes);
        }
    }
}
