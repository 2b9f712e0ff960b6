//! Ids in 16 bytes, however long they are.
//!
//! A view knows ids of 32 bytes and texts of callers of thousands. It keeps 128 bits of each: SipHash-2-4 under a key
//! that it draws for itself and shows nobody. Two ids have the same fingerprint with a chance of 2^-128, and who lacks
//! the key can't better that by a choice of ids: with a million entries and a million questions a second, one of
//! questions is answered wrongly in some 10^19 years.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip128::SipHasher24;

/// An id. Without alignment, so that an entry takes no byte more than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Where it is in a table.
    place: [u8; 8],
    /// Which table, by bits that its place doesn't depend on.
    table: [u8; 8],
}

impl Fingerprint {
    /// The number of its table, of so many.
    pub(super) fn table(self, tables: u8) -> usize {
        let number = u64::from_le_bytes(self.table).checked_rem(tables.into());
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.place);
    }
}

/// The hash of a fingerprint: it is one.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes the fingerprints of one view.
pub(super) struct Fingerprints(SipHasher24);

impl Default for Fingerprints {
    /// The key is what std's hash makes of two numbers under its random key, which comes from the operating system.
    fn default() -> Self {
        let random = RandomState::new();
        Self(SipHasher24::new_with_keys(random.hash_one(0), random.hash_one(1)))
    }
}

impl Fingerprints {
    /// That of an id.
    pub(super) fn of(&self, id: &str) -> Fingerprint {
        let hash = self.0.hash(id.as_bytes());
        Fingerprint {
            place: hash.h1.to_le_bytes(),
            table: hash.h2.to_le_bytes(),
        }
    }
}

impl fmt::Debug for Fingerprints {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprints").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_one_view_and_shows_no_key() {
        let (one, other) = (Fingerprints::default(), Fingerprints::default());
        assert_eq!(one.of("id"), one.of("id"));
        assert_ne!(one.of("id"), one.of("ie"));
        assert_ne!(one.of("id"), other.of("id"), "each view has a key of its own");
        assert_eq!(format!("{one:?}"), "Fingerprints { .. }");
    }

    /// The vector of the reference implementation (`vectors.h`, `vectors_sip128`), for the key 00 01 … 0f.
    #[test]
    fn it_is_siphash_2_4_of_128_bits() {
        let key: [u8; 16] = std::array::from_fn(|byte| byte.try_into().unwrap());
        let fingerprint = Fingerprints(SipHasher24::new_with_key(&key)).of("");
        let bytes = [fingerprint.place, fingerprint.table].concat();
        assert_eq!(hex::encode(bytes), "a3817f04ba25a8e66df67214c7550293");
    }
}
