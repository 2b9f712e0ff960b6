//! Which of the issuers' CAs are trusted, and of which certificates may be shown: how one CA follows another that somebody
//! else replaces, without a moment in which anybody trusts too little.
//!
//! 1. *Announced*: a CA that a Secret names is trusted everywhere; what it signed isn't shown yet.
//! 2. *Promoted*: what it signed may be shown. Its predecessors, which no Secret names any more, are still trusted.
//! 3. *Forgotten*: they aren't.
//!
//! A step is settled as in `succession.rs`: what it concerns has been found as it has to be, and then the overlap begins.

use std::time::Duration;

use agentwrit_protocol::{Ttl, UnixSeconds};

use super::super::succession::is_valid;

/// CAs in each of the three lists; the last found stay.
const MAX_ROOTS: usize = 8;

/// The CAs that are trusted, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roots {
    /// What these signed may be shown.
    pub(super) shown: Vec<String>,
    /// Trusted, before what they signed is shown.
    pub(super) next: Vec<String>,
    /// No Secret names them any more.
    pub(super) previous: Vec<String>,
    /// Since when the last step is settled.
    pub(super) settled_at: Option<UnixSeconds>,
}

/// What the Secrets name now.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) roots: Vec<String>,
    /// Whether both Secrets could be read: what can't be read names its CA still.
    pub(super) is_complete: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The overlap begins, if all is as it has to be.
    Settle,
    /// What the announced ones signed may be shown, if all is still so.
    Promote,
    /// Trust the predecessors no longer, if nothing that they signed is shown.
    Forget,
}

impl Roots {
    /// All that is trusted.
    pub(super) fn bundle(&self) -> String {
        [self.shown.concat(), self.next.concat(), self.previous.concat()].concat()
    }

    /// What everybody has to trust before the next step.
    pub(super) fn needed(&self) -> impl Iterator<Item = &str> {
        self.shown.iter().chain(&self.next).map(String::as_str)
    }

    /// Whether this CA is among those that are trusted.
    pub(super) fn knows(&self, root: &String) -> bool {
        [&self.shown, &self.next, &self.previous]
            .iter()
            .any(|list| list.contains(root))
    }

    /// What follows at once from what the Secrets name: that can always be published.
    pub(super) fn with(&self, found: &Found, now: UnixSeconds) -> Self {
        let mut after = self.clone();
        for list in [&mut after.shown, &mut after.next, &mut after.previous] {
            list.retain(|root| is_valid(root, now));
        }
        for root in &found.roots {
            if !after.knows(root) {
                after.next.push(root.clone());
            } else if after.previous.contains(root) {
                // Everybody trusts it still.
                after.previous.retain(|other| other != root);
                after.shown.push(root.clone());
            }
        }
        if found.is_complete {
            let is_left = |root: &String| !found.roots.contains(root);
            let mut left: Vec<String> = after.next.extract_if(.., |root| is_left(root)).collect();
            // Until what comes next may be shown, what was shown before is.
            if after.next.is_empty() {
                left.extend(after.shown.extract_if(.., |root| is_left(root)));
            }
            after.previous.splice(0..0, left);
        }
        if after.shown.is_empty() {
            after.shown = std::mem::take(&mut after.next);
        }
        for list in [&mut after.shown, &mut after.next] {
            list.drain(..list.len().saturating_sub(MAX_ROOTS));
        }
        after.previous.truncate(MAX_ROOTS);
        if (&after.shown, &after.next, &after.previous) != (&self.shown, &self.next, &self.previous) {
            after.settled_at = None;
        }
        after
    }

    /// What is due now.
    pub(super) fn due(&self, now: UnixSeconds, overlap: Duration) -> Option<Due> {
        let step = match (self.next.is_empty(), self.previous.is_empty()) {
            (false, _) => Due::Promote,
            (true, false) => Due::Forget,
            (true, true) => return None,
        };
        let overlap = Ttl::seconds(i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX));
        // What was settled by a clock that was ahead is settled anew.
        match self.settled_at.filter(|at| *at <= now) {
            None => Some(Due::Settle),
            Some(at) => (now >= at + overlap).then_some(step),
        }
    }

    /// What is stored after that.
    pub(super) fn after(&self, due: Due, now: UnixSeconds) -> Self {
        let mut after = self.clone();
        after.settled_at = None;
        match due {
            Due::Settle => after.settled_at = Some(now),
            Due::Promote => after.shown.append(&mut after.next),
            Due::Forget => after.previous.clear(),
        }
        after
    }
}

#[cfg(test)]
mod tests;
