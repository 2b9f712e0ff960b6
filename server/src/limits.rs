//! What a listener allows: times, sizes, and how many bytes its connections may hold together.

use std::time::Duration;

use crate::{descriptors, memory};

/// How long each phase of a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte to the end of its header block.
    pub header: Duration,
    /// From a request's first byte to the end of its body.
    pub read: Duration,
    /// From the moment an answer is made to its last byte.
    pub write: Duration,
    /// Between requests, and before the first.
    pub idle: Duration,
    /// For a refusal, and for what the peer still sends: closing on unread bytes could take the refusal from it.
    pub linger: Duration,
}

impl Times {
    /// The times of the broker's API (`docs/wire-contract.md` §1).
    pub const API: Self = Self {
        handshake: Duration::from_secs(5),
        header: Duration::from_secs(5),
        read: Duration::from_secs(15),
        write: Duration::from_secs(30),
        idle: Duration::from_mins(2),
        linger: Duration::from_secs(1),
    };
    /// For probes and scrapes, which come from nearby and ask for little.
    pub const OPS: Self = Self {
        handshake: Duration::from_secs(5),
        header: Duration::from_secs(2),
        read: Duration::from_secs(5),
        write: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        linger: Duration::from_millis(200),
    };
}

/// The memory that the connections of a listener may take together. A connection counts with `place` bytes from its
/// first moment, and with what it sends and is sent beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// All connections together, bytes.
    pub bytes: usize,
    /// What trusted sources may take beyond, bytes.
    pub reserve: usize,
    /// What each connection counts with at least: its buffers, its task, and what it may send without being counted.
    pub place: usize,
}

/// Measured with idle, half-read and TLS connections: 12 to 49 KiB each; the rest is for the kernel's receive buffer.
pub(crate) const BYTES_PER_CONNECTION: usize = 80 * 1024;
/// More would not help: further connections wait in the kernel.
const MAX_CONNECTIONS: usize = 16_384;
/// The usual [`Settings::socket_buffer`].
pub const SOCKET_BUFFER: usize = 32 * 1024;
/// When neither a container nor the system says how much memory there is.
const UNKNOWN_MEMORY: usize = 512 * 1024 * 1024;

impl Budget {
    /// For the main listener of a program: half of the memory that the process may use, and no more connections than
    /// it has file descriptors for.
    pub fn of_process() -> Self {
        Self::of(memory::limit().unwrap_or(UNKNOWN_MEMORY), descriptors::connections())
    }

    /// For a listener beside the main one.
    pub const fn small(connections: usize) -> Self {
        Self {
            bytes: connections.saturating_mul(BYTES_PER_CONNECTION),
            reserve: 0,
            place: BYTES_PER_CONNECTION,
        }
    }

    fn of(memory: usize, descriptors: usize) -> Self {
        let most = descriptors.clamp(1, MAX_CONNECTIONS);
        let bytes = (memory / 2).min(MAX_CONNECTIONS.saturating_mul(BYTES_PER_CONNECTION));
        let reserve = bytes / 16;
        // Fewer descriptors than the memory has room for: places then count more, so that they can't run out.
        let place = BYTES_PER_CONNECTION.max(bytes.saturating_add(reserve) / most);
        Self { bytes, reserve, place }
    }
}

/// Everything that a listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Deadlines.
    pub times: Times,
    /// Memory.
    pub budget: Budget,
    /// Largest header block, bytes; hyper's least is 8,192.
    pub max_head: usize,
    /// Most lines of a header block.
    pub max_header_lines: usize,
    /// Whether a connection may serve more than one request.
    pub keep_alive: bool,
    /// The kernel's buffers for what a peer has not taken yet, and for what we have not read yet, bytes each; the kernel
    /// may use twice as much (socket(7)). Left to themselves they grow to megabytes a connection, and the memory counts
    /// as the container's.
    pub socket_buffer: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_budget_is_half_of_the_memory_and_fits_the_descriptors() {
        let small = Budget::of(256 * MIB, 100_000);
        assert_eq!(
            (small.bytes, small.reserve, small.place),
            (128 * MIB, 8 * MIB, BYTES_PER_CONNECTION)
        );
        assert_eq!(
            Budget::of(usize::MAX, 100_000).bytes,
            MAX_CONNECTIONS * BYTES_PER_CONNECTION
        );
        for (memory, descriptors) in [(256 * MIB, 512), (usize::MAX, 512), (64 * MIB, 1), (8 * MIB, 0)] {
            let budget = Budget::of(memory, descriptors);
            let connections = (budget.bytes + budget.reserve) / budget.place;
            assert!(connections <= descriptors.max(1), "{memory} {descriptors}: {budget:?}");
        }
    }
}
