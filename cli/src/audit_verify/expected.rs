//! What somebody noted of the trail earlier.

use agentwrit_protocol::audit::AuditEvent;

use super::Broken;

/// The number of events, and the hash of the last of them, as an earlier verification showed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    count: Option<i64>,
    head: Option<String>,
    /// Whether the event was met.
    met: bool,
}

impl Expected {
    pub(crate) fn new(count: Option<i64>, head: Option<String>) -> Self {
        Self {
            count,
            head,
            ..Self::default()
        }
    }

    /// Looks at an event that fits, or at the one before the first.
    pub(super) fn meet(&mut self, count: i64, hash: &str) -> Result<(), Broken> {
        let same = self.head.as_deref() == Some(hash);
        match self.count {
            Some(expected) if expected == count => {
                if self.head.is_some() && !same {
                    return Err(Broken {
                        event: AuditEvent::id_for(count),
                        problem: "its hash is not the one that was noted: the trail was rewritten".to_owned(),
                    });
                }
                self.met = true;
            }
            None if same => self.met = true,
            _ => {}
        }
        Ok(())
    }

    /// What is missing at the end of the trail.
    pub(super) fn unmet(&self, count: i64) -> Option<Broken> {
        let broken = |sequence: i64, problem: &str| {
            Some(Broken {
                event: AuditEvent::id_for(sequence),
                problem: problem.to_owned(),
            })
        };
        match (self.count, &self.head) {
            (Some(expected), _) if expected > count => broken(
                count.saturating_add(1),
                "it is missing, although it was noted: the end of the trail was cut off",
            ),
            (Some(expected), Some(_)) if !self.met => broken(
                expected,
                "it was noted, and lies before the place that the verification starts from: verify from the first event, with the exported files of what was dropped",
            ),
            (None, Some(_)) if !self.met => broken(
                count,
                "the trail ends here without an event of the noted hash: its end was cut off or rewritten",
            ),
            _ => None,
        }
    }
}
