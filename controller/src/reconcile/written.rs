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

/// The resourceVersion of our last write of an object, by its UID; gone once a run has started from it.
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

    /// Whether the state of a run is older than our own last write. If not, that write is forgotten: the states that an
    /// object's runs start from only get later. Not when the watch shows it, since a run may then have begun on the state
    /// before.
    pub(crate) fn is_ahead_of(&self, state: &ObjectMeta, now: Instant) -> bool {
        let Some(uid) = &state.uid else { return false };
        let mut writes = self.0.lock();
        let Some(write) = writes.get(uid) else { return false };
        let is_ahead = now < write.at + AT_MOST && version(state).is_some_and(|version| version < write.version);
        if !is_ahead {
            writes.remove(uid);
        }
        is_ahead
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
        assert!(written.is_ahead_of(&object("a", "9"), now), "still");
        assert!(!written.is_ahead_of(&object("a", "10"), now), "our own write is shown");
        assert!(written.0.lock().is_empty(), "nothing is kept of what a run has seen");
        written.add(&object("a", "10"), now);
        assert!(!written.is_ahead_of(&object("a", "11"), now), "a later change");
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
