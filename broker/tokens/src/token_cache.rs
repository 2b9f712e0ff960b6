//! A bounded cache of good signatures: tokens by their digests.

use std::collections::HashMap;
use std::sync::Arc;

use agentwrit_protocol::claims::Claims;
use sha2::{Digest, Sha256};

/// Tokens in each of the cache's two generations.
const CACHE_GENERATION: usize = 8192;

/// Digest of a token.
pub(crate) type Key = [u8; 32];

/// What was used last, by two generations: what is not used during a whole one is forgotten.
pub(crate) struct Generations<V> {
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V: Clone> Generations<V> {
    pub(crate) fn get(&mut self, key: &Key) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    pub(crate) fn put(&mut self, key: Key, value: V) {
        if self.young.len() >= CACHE_GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

/// What is remembered of tokens.
#[derive(Default)]
pub(crate) struct TokenCache {
    /// Claims of tokens with good signatures.
    pub(crate) claims: Generations<Arc<Claims>>,
    /// Tokens that this process has signed, whose signatures need no look.
    pub(crate) issued: Generations<()>,
}

#[cfg(test)]
impl TokenCache {
    /// Whether no token's claims are remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.young.is_empty() && self.claims.old.is_empty()
    }
}

/// The digest that a token is remembered by.
pub(crate) fn digest(token: &str) -> Key {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_is_used_and_stays_bounded() {
        let mut cache = Generations::default();
        let claims: Arc<Claims> = Arc::new(serde_json::from_str(r#"{"sub":"a","jti":"b","exp":1}"#).unwrap());
        let key = |n: usize| digest(&n.to_string());
        for n in 0..3 * CACHE_GENERATION {
            cache.put(key(n), Arc::clone(&claims));
            assert!(cache.get(&key(0)).is_some(), "used all the time, after {n}");
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * CACHE_GENERATION);
        assert!(cache.get(&key(1)).is_none());
    }
}
