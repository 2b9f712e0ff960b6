//! The audit trail as a reader follows it.

use agentwrit_protocol::audit::{AuditEvent, ChainWalker};
use agentwrit_store::testing::HashSigner;
use agentwrit_store::{EventFilter, Store};

/// Events of a page.
const PAGE: i64 = 500;

/// The trail up to some event.
pub(crate) struct Trail {
    walker: ChainWalker,
    read: i64,
}

impl Trail {
    pub(crate) fn from_start() -> Self {
        Self {
            walker: ChainWalker::from_start(),
            read: 0,
        }
    }

    /// Reads on to the end, sees that the chain holds, and answers how the details of all events but checkpoints begin.
    pub(crate) async fn read_on(&mut self, store: &Store) -> Vec<String> {
        let mut details = Vec::new();
        loop {
            let filter = EventFilter {
                cursor: Some(self.read),
                limit: PAGE,
                ..EventFilter::default()
            };
            let page = store.events(filter).await.unwrap();
            let Some(last) = page.last else { return details };
            let events: Vec<AuditEvent> = serde_json::from_str(&page.events).unwrap();
            for event in events {
                self.walker.feed(&event, &HashSigner("test")).unwrap();
                if event.event_type != "audit_checkpoint" {
                    details.extend(event.detail.split(';').next().map(str::to_owned));
                }
            }
            assert_eq!(self.walker.sequence(), last);
            self.read = last;
        }
    }

    /// The number of the last event that was read.
    pub(crate) const fn read(&self) -> i64 {
        self.read
    }
}
