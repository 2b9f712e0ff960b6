//! A step from one CA to another waits for who is behind; when that takes long, an Event names them.

use std::time::Duration;

use agentwrit_protocol::{Ttl, UnixSeconds};

use super::PkiError;
use super::ca_distribution::{CaEvent, CaEvents};
use super::ca_reach::{Behind, Reach};
use crate::report::Reporter;

/// Reason of the Event while a step waits for somebody who is behind.
const WAITS: &str = "CARotationWaits";
/// After a step some are behind for a moment; nobody has to hear of that.
const LONG: Duration = Duration::from_mins(10);

pub(crate) struct Patience {
    reach: Reach,
    /// Where namespaces go whose `ConfigMap` is behind.
    events: CaEvents,
    reporter: Reporter,
    /// Since when somebody is behind.
    since: Option<UnixSeconds>,
}

impl Patience {
    pub(crate) const fn new(reach: Reach, events: CaEvents, reporter: Reporter) -> Self {
        Self {
            reach,
            events,
            reporter,
            since: None,
        }
    }

    pub(super) const fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether nobody is behind; an Event tells who is when that takes long, or longer than the overlap.
    pub(super) async fn is_over(
        &mut self,
        behind: Result<Option<Behind>, PkiError>,
        overlap: Duration,
        now: UnixSeconds,
    ) -> bool {
        let error = match behind {
            Ok(None) => {
                self.ends();
                return true;
            }
            Ok(Some(behind)) => {
                for namespace in behind.namespaces {
                    // The receiver is gone only when the process ends.
                    let _ = self.events.send(CaEvent::Needed(namespace));
                }
                PkiError::Behind { behind: behind.what }
            }
            Err(error) => error,
        };
        let since = *self.since.get_or_insert(now);
        let patience = LONG.min(overlap).as_secs();
        if now >= since + Ttl::seconds(i64::try_from(patience).unwrap_or(i64::MAX)) {
            self.reporter.own_recurring("replacing the CA", WAITS, &error).await;
        }
        false
    }

    /// The step is done.
    pub(super) fn ends(&mut self) {
        self.since = None;
        self.reporter.own_recovered(WAITS);
    }
}
