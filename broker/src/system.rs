//! Randomness, a block at a time.

use agentwrit_protocol::system::SystemEntropy;
use agentwrit_protocol::{Entropy, EntropyError};
use parking_lot::Mutex;

/// Bytes that are asked for at once: what one system call gives without being interrupted (getrandom(2)).
const BLOCK: usize = 256;

/// The same generator, asked for a block at a time: a request needs few bytes, and the call costs more than they do.
/// Bytes are given out once and then overwritten.
pub struct BlockEntropy<E = SystemEntropy> {
    source: E,
    left: Mutex<Block>,
}

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

impl<E> BlockEntropy<E> {
    /// Nothing is asked for before it is needed.
    pub const fn new(source: E) -> Self {
        let empty = Block {
            bytes: [0; BLOCK],
            used: BLOCK,
        };
        Self {
            source,
            left: Mutex::new(empty),
        }
    }
}

impl<E: Entropy> Entropy for BlockEntropy<E> {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        if buffer.len() > BLOCK / 4 {
            return self.source.fill(buffer);
        }
        let mut left = self.left.lock();
        if buffer.len() > BLOCK - left.used {
            // Used up first: after a failure nothing old is given out again.
            left.used = BLOCK;
            self.source.fill(&mut left.bytes)?;
            left.used = 0;
        }
        let used = left.used;
        for (byte, from) in buffer.iter_mut().zip(left.bytes.iter_mut().skip(used)) {
            *byte = std::mem::take(from);
        }
        left.used += buffer.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Counts up, and fails when it comes to 255.
    struct Counter(AtomicU8);

    impl Entropy for Counter {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
            let next = self.0.fetch_add(1, Ordering::SeqCst);
            buffer.fill(next);
            if next == 255 {
                Err(EntropyError("dry".into()))
            } else {
                Ok(())
            }
        }
    }

    fn take(entropy: &impl Entropy, count: usize) -> Result<Vec<u8>, EntropyError> {
        let mut buffer = vec![0; count];
        entropy.fill(&mut buffer).map(|()| buffer)
    }

    #[test]
    fn no_byte_is_given_out_twice_and_large_wishes_go_to_the_source() {
        let blocks = BlockEntropy::new(Counter(AtomicU8::new(1)));
        for _ in 0..8 {
            assert_eq!(take(&blocks, 32).unwrap(), [1; 32]);
        }
        assert_eq!(take(&blocks, 60).unwrap(), [2; 60]);
        assert_eq!(take(&blocks, 200).unwrap(), [3; 200]);
        assert_eq!(take(&blocks, 64).unwrap(), [2; 64]);
        assert_eq!(take(&blocks, 64).unwrap(), [2; 64]);
        assert_eq!(take(&blocks, 64).unwrap(), [2; 64]);
        // Four are left, which are too few.
        assert_eq!(take(&blocks, 5).unwrap(), [4; 5]);
    }

    #[test]
    fn a_source_that_fails_leaves_nothing_to_give_out() {
        let blocks = BlockEntropy::new(Counter(AtomicU8::new(255)));
        assert!(take(&blocks, 8).is_err());
        assert_eq!(take(&blocks, 8).unwrap(), [0; 8], "asked again");
    }

    #[test]
    fn the_systems_generator_does_not_repeat_itself() {
        let blocks = BlockEntropy::new(SystemEntropy);
        let taken: std::collections::HashSet<_> = (0..100).map(|_| take(&blocks, 16).unwrap()).collect();
        assert_eq!(taken.len(), 100);
    }
}
