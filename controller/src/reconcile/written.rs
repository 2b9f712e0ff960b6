//! What we wrote and the cache doesn't show yet: until it does, an object is left alone instead of written again.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A watch is never this late, unless versions have begun anew: an API server whose store was put back.
const AT_MOST: Duration = Duration::from_secs(10);
/// Beyond so many, those that are older than [`AT_MOST`] are dropped.
const MANY: usize = 1024;

/// The resourceVersion of our last write of an object, by its UID; gone once the watch has shown it.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<HashMap<String, Write>>);

#[derive(Debug, Clone, Copy)]
struct Write {
    version: u64,
    at: Instant,
}

/// A version as a number: the API server's are decimal and rise. Of any other nothing is remembered.
fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

impl Written {
    /// Remembers the object as the API server answered with it.
    pub(crate) fn add(&self, answer: &ObjectMeta, now: Instant) {
        let (Some(uid), Some(version)) = (&answer.uid, version(answer)) else {
            return;
        };
        let mut writes = self.0.lock();
        if writes.len() >= MANY {
            writes.retain(|_, write| now < write.at + AT_MOST);
        }
        writes.insert(uid.clone(), Write { version, at: now });
    }

    /// Whether this state is older than our own last write.
    pub(crate) fn is_ahead_of(&self, cached: &ObjectMeta, now: Instant) -> bool {
        let (Some(uid), Some(version)) = (&cached.uid, version(cached)) else {
            return false;
        };
        let writes = self.0.lock();
        writes
            .get(uid)
            .is_some_and(|write| version < write.version && now < write.at + AT_MOST)
    }

    /// The watch shows this state.
    pub(crate) fn seen(&self, shown: &ObjectMeta) {
        let Some(uid) = &shown.uid else { return };
        let mut writes = self.0.lock();
        if let Some(write) = writes.get(uid)
            && version(shown).is_none_or(|version| version >= write.version)
        {
            writes.remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, version: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[tokio::test]
    async fn an_object_is_left_alone_until_our_write_is_shown() {
        let (written, now) = (Written::default(), Instant::now());
        written.add(&object("a", "10"), now);
        assert!(written.is_ahead_of(&object("a", "9"), now));
        assert!(!written.is_ahead_of(&object("b", "9"), now));
        written.seen(&object("a", "9"));
        assert!(written.is_ahead_of(&object("a", "9"), now), "an earlier event");
        assert!(!written.is_ahead_of(&object("a", "11"), now), "a later change");
        written.seen(&object("a", "10"));
        assert!(written.0.lock().is_empty(), "nothing is kept of what was shown");
    }

    #[tokio::test]
    async fn versions_that_begin_anew_hold_nothing_up() {
        let (written, now) = (Written::default(), Instant::now());
        written.add(&object("a", "100"), now);
        assert!(written.is_ahead_of(&object("a", "1"), now));
        assert!(!written.is_ahead_of(&object("a", "1"), now + AT_MOST));
        written.add(&object("b", "opaque"), now);
        assert!(!written.is_ahead_of(&object("b", "other"), now));
    }

    #[tokio::test]
    async fn what_is_never_shown_is_dropped_in_the_end() {
        let (written, now) = (Written::default(), Instant::now());
        for number in 0..2 * MANY {
            written.add(&object(&number.to_string(), "1"), now);
        }
        written.add(&object("last", "1"), now + AT_MOST);
        assert_eq!(written.0.lock().len(), 1);
    }
}
