//! Bits in a row.

/// Bits of a word.
const BITS: u32 = u64::BITS;

/// So many bits, each of which is set or not; of those beyond them none is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    bits: u32,
}

impl Bitmap {
    /// With none set.
    pub fn new(bits: u32) -> Self {
        let words = usize::try_from(bits.div_ceil(BITS)).unwrap_or_default();
        Self {
            words: vec![0; words],
            bits,
        }
    }

    /// The number of the word that a bit is in, and the bit in it; `None` beyond the last bit.
    fn place(&self, bit: u32) -> Option<(usize, u64)> {
        let word = usize::try_from(bit / BITS).ok()?;
        (bit < self.bits).then_some((word, 1 << (bit % BITS)))
    }

    /// Whether a bit is set.
    pub fn get(&self, bit: u32) -> bool {
        let word = self
            .place(bit)
            .and_then(|(word, mask)| Some(self.words.get(word)? & mask));
        word.is_some_and(|found| found != 0)
    }

    /// Sets a bit; whether that changed it.
    pub fn set(&mut self, bit: u32) -> bool {
        self.change(bit, true)
    }

    /// Takes a bit back; whether that changed it.
    pub fn clear(&mut self, bit: u32) -> bool {
        self.change(bit, false)
    }

    fn change(&mut self, bit: u32, to: bool) -> bool {
        let Some((word, mask)) = self.place(bit) else {
            return false;
        };
        match self.words.get_mut(word) {
            Some(word) if (*word & mask != 0) != to => {
                *word ^= mask;
                true
            }
            _ => false,
        }
    }

    /// How many are set.
    pub fn ones(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The bits of these words that are not set, counted.
    pub(super) fn zeros_in(&self, words: std::ops::Range<u32>) -> u32 {
        words.map(|word| self.free_in(word).count_ones()).sum()
    }

    /// The `rank`-th bit, from 0, that is not set in these words.
    pub(super) fn zero_at(&self, words: std::ops::Range<u32>, mut rank: u32) -> Option<u32> {
        for word in words {
            let mut free = self.free_in(word);
            let here = free.count_ones();
            if rank >= here {
                rank -= here;
                continue;
            }
            for _ in 0..rank {
                free &= free.wrapping_sub(1);
            }
            return Some(word * BITS + free.trailing_zeros());
        }
        None
    }

    /// A word with those bits set that are not set in this one.
    fn free_in(&self, word: u32) -> u64 {
        let Some(found) = usize::try_from(word).ok().and_then(|word| self.words.get(word)) else {
            return 0;
        };
        let beyond = self.bits.saturating_sub(word * BITS);
        let within = if beyond >= BITS { u64::MAX } else { (1 << beyond) - 1 };
        !found & within
    }

    /// How many words there are.
    pub(super) fn words(&self) -> u32 {
        self.bits.div_ceil(BITS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bit_changes_once_and_none_beyond_the_last() {
        let mut bits = Bitmap::new(70);
        assert!(bits.set(69) && !bits.set(69) && bits.get(69));
        assert_eq!(bits.ones(), 1);
        assert!(bits.clear(69) && !bits.clear(69) && !bits.get(69));
        for beyond in [70, 127, 128, u32::MAX] {
            assert!(
                !bits.set(beyond) && !bits.get(beyond) && !bits.clear(beyond),
                "{beyond}"
            );
        }
        assert_eq!(bits, Bitmap::new(70));
    }

    proptest! {
        #[test]
        fn each_rank_is_another_free_bit(size in 1_u32..300, set in prop::collection::btree_set(0_u32..300, 0..200)) {
            let mut bits = Bitmap::new(size);
            for bit in &set {
                bits.set(*bit);
            }
            let free: Vec<u32> = (0..size).filter(|bit| !set.contains(bit)).collect();
            let words = 0..bits.words();
            prop_assert_eq!(bits.zeros_in(words.clone()), u32::try_from(free.len()).unwrap());
            let found: Vec<u32> = (0..).map_while(|rank| bits.zero_at(words.clone(), rank)).collect();
            prop_assert_eq!(&found, &free);
            let set: BTreeSet<u32> = set.into_iter().filter(|bit| *bit < size).collect();
            prop_assert_eq!(usize::try_from(bits.ones()).unwrap(), set.len());
        }
    }
}
