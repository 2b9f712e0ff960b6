//! How one CA follows another without a moment in which anybody trusts too little: what is stored, and what is due.
//!
//! 1. *Announced*: the successor is trusted everywhere, and signs nothing yet.
//! 2. *Promoted*: it signs; its predecessor is still trusted.
//! 3. *Forgotten*: the predecessor isn't trusted any more.
//!
//! A step is *settled* once everything that it concerns has been found as it has to be: after the first, what is trusted
//! everywhere; after the second, who signed what is shown. That is stored, and the overlap begins with it, however
//! long nobody was there to see to it. The overlap is longer than a change of a `ConfigMap` or Secret takes to reach pods.

use std::time::Duration;

use agentwrit_protocol::{Ttl, UnixSeconds};

use super::authority::{BACKDATED, PemPair, validity};

/// Certificates of predecessors that are kept; more than one only after a CA was replaced by hand.
pub(super) const MAX_PREVIOUS: usize = 2;

/// Annotation with the Unix seconds since when the last step is settled.
pub(super) const SETTLED_AT: &str = "agentwrit.io/settled-at";

/// The CAs of an installation, as the Secret holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cas {
    /// Signs every leaf.
    pub(crate) signing: PemPair,
    /// Will sign next.
    pub(crate) next: Option<PemPair>,
    /// Certificates of those that signed before and are trusted still.
    pub(crate) previous: Vec<String>,
    /// Since when the last step is settled.
    pub(crate) settled_at: Option<UnixSeconds>,
}

/// What a person asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Another CA.
    pub(crate) another: bool,
    /// That the announced one signs at once, whoever doesn't trust it yet.
    pub(crate) at_once: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Make a successor and have it trusted.
    Announce,
    /// The overlap begins, if all is as it has to be.
    Settle,
    /// Let the successor sign, if all is still so.
    Promote,
    /// The same whatever was reached: the CA ends soon or has ended, or a person wants it.
    PromoteAnyway,
    /// The CA has expired, and nobody was announced: another one signs at once.
    Replace,
    /// Trust the predecessors no longer, if nothing that they signed is shown.
    Forget,
    /// The same whatever is shown: they have expired.
    ForgetAnyway,
}

impl Due {
    /// Whether it is done only when all is as it has to be after the last step.
    pub(crate) const fn is_conditional(self) -> bool {
        match self {
            Self::Settle | Self::Promote | Self::Forget => true,
            Self::Announce | Self::PromoteAnyway | Self::Replace | Self::ForgetAnyway => false,
        }
    }
}

impl Cas {
    pub(crate) const fn new(signing: PemPair) -> Self {
        Self {
            signing,
            next: None,
            previous: Vec::new(),
            settled_at: None,
        }
    }

    /// All that is trusted, PEM; the CA that signs comes first.
    pub(crate) fn bundle(&self) -> String {
        let mut bundle = String::new();
        for certificate in self.trusted() {
            bundle.push_str(certificate.trim_end());
            bundle.push('\n');
        }
        bundle
    }

    fn trusted(&self) -> impl Iterator<Item = &String> {
        let next = self.next.iter().map(|next| &next.certificate);
        std::iter::once(&self.signing.certificate)
            .chain(next)
            .chain(&self.previous)
    }

    /// What everybody has to trust before the next step: who signs, and who will.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &str> {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        std::iter::once(self.signing.certificate.as_str()).chain(next)
    }

    /// What is due now.
    pub(crate) fn due(&self, now: UnixSeconds, overlap: Duration, asked: Asked) -> Option<Due> {
        let (from, to) = validity(&self.signing.certificate).unwrap_or_default();
        let next_serves = self.next.as_ref().is_some_and(|next| is_valid(&next.certificate, now));
        if now >= to {
            return Some(if next_serves { Due::PromoteAnyway } else { Due::Replace });
        }
        let overlap = Ttl::seconds(i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX));
        let life = (to - (from + BACKDATED)).get();
        // What was settled by a clock that was ahead is settled anew.
        let settled = self.settled_at.filter(|at| *at <= now);
        let has_waited = settled.map(|at| now >= at + overlap);
        match (&self.next, self.previous.is_empty()) {
            (Some(_), _) if !next_serves => Some(Due::Announce),
            (Some(_), _) if asked.at_once || now >= to - Ttl::seconds(life / 6) => Some(Due::PromoteAnyway),
            (Some(_), _) => on(has_waited, Due::Promote),
            (None, false) if !self.previous.iter().any(|before| is_valid(before, now)) => Some(Due::ForgetAnyway),
            (None, false) => on(has_waited, Due::Forget),
            (None, true) => (asked.another || now >= to - Ttl::seconds(life / 3)).then_some(Due::Announce),
        }
    }

    /// What is stored after that; `make` makes a CA.
    pub(crate) fn after<E>(
        &self,
        due: Due,
        now: UnixSeconds,
        make: impl FnOnce() -> Result<PemPair, E>,
    ) -> Result<Self, E> {
        let mut after = Self {
            settled_at: None,
            ..self.clone()
        };
        match due {
            Due::Announce => after.next = Some(make()?),
            Due::Settle => after.settled_at = Some(now),
            Due::Promote | Due::PromoteAnyway => {
                if let Some(next) = after.next.take() {
                    let before = std::mem::replace(&mut after.signing, next);
                    after.remember(&before.certificate, now);
                }
            }
            Due::Replace => {
                after.next = None;
                let before = std::mem::replace(&mut after.signing, make()?);
                after.remember(&before.certificate, now);
            }
            Due::Forget | Due::ForgetAnyway => after.previous.clear(),
        }
        Ok(after)
    }

    /// Whether this certificate is among those that are trusted.
    pub(crate) fn knows(&self, certificate: &str) -> bool {
        self.trusted().any(|known| known.trim() == certificate.trim())
    }

    /// Trusts what signed before for as long as it may take to replace all that it signed.
    pub(crate) fn remember(&mut self, certificate: &str, now: UnixSeconds) {
        if is_valid(certificate, now) {
            self.previous.insert(0, format!("{}\n", certificate.trim()));
        }
        self.previous.retain(|certificate| is_valid(certificate, now));
        self.previous.truncate(MAX_PREVIOUS);
    }
}

/// Settles first, waits, then does the step.
fn on(has_waited: Option<bool>, step: Due) -> Option<Due> {
    match has_waited {
        None => Some(Due::Settle),
        Some(has_waited) => has_waited.then_some(step),
    }
}

/// Whether a certificate can be read and hasn't expired.
pub(crate) fn is_valid(certificate: &str, now: UnixSeconds) -> bool {
    validity(certificate).is_ok_and(|(_, to)| now < to)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::super::authority::{Authority, Lives};
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
    const OVERLAP: Duration = Duration::from_hours(1);
    const DAY: i64 = 86_400;
    const NOTHING: Asked = Asked {
        another: false,
        at_once: false,
    };
    const ANOTHER: Asked = Asked {
        another: true,
        at_once: false,
    };

    fn at(seconds: i64) -> UnixSeconds {
        NOW + Ttl::seconds(seconds)
    }

    /// Lives for 30 days from then.
    fn ca(from: i64) -> PemPair {
        let made = OffsetDateTime::from_unix_timestamp(at(from).get()).unwrap();
        let lives = Lives {
            ca: Duration::from_hours(30 * 24),
            ..Lives::default()
        };
        Authority::generate_living("a", made, lives).unwrap()
    }

    fn step(cas: &Cas, due: Due, second: i64) -> Cas {
        cas.after(due, at(second), || Ok::<_, ()>(ca(second))).unwrap()
    }

    #[test]
    fn a_ca_is_followed_when_a_third_of_its_life_is_left() {
        let due = |cas: &Cas, second| cas.due(at(second), OVERLAP, NOTHING);
        let (cas, begin) = (Cas::new(ca(0)), 20 * DAY);
        assert_eq!(due(&cas, begin - 1), None);
        assert_eq!(due(&cas, begin), Some(Due::Announce));
        assert_eq!(cas.due(at(5), OVERLAP, ANOTHER), Some(Due::Announce), "asked for");

        let announced = step(&cas, Due::Announce, begin);
        assert_eq!(announced.signing, cas.signing, "it signs nothing yet");
        assert_eq!(announced.bundle().matches("BEGIN").count(), 2);
        assert_eq!(announced.needed().count(), 2);
        assert_eq!(due(&announced, begin + 3 * DAY), Some(Due::Settle), "nobody was there");
        let settled = step(&announced, Due::Settle, begin + 10);
        assert_eq!(settled.next, announced.next);
        assert_eq!(settled.due(at(begin + 3609), OVERLAP, ANOTHER), None);
        assert_eq!(due(&settled, begin + 3610), Some(Due::Promote));

        let promoted = step(&settled, Due::Promote, begin + 3610);
        assert_eq!(Some(&promoted.signing), announced.next.as_ref());
        assert!(promoted.knows(&cas.signing.certificate) && promoted.next.is_none());
        assert_eq!(due(&promoted, begin + DAY), Some(Due::Settle));
        let settled = step(&promoted, Due::Settle, begin + DAY);
        assert_eq!(settled.due(at(begin + DAY + 3599), OVERLAP, ANOTHER), None);
        assert_eq!(due(&settled, begin + DAY + 3600), Some(Due::Forget));

        let alone = step(&settled, Due::Forget, begin + DAY + 3600);
        assert!(!alone.knows(&cas.signing.certificate));
        assert_eq!(alone.bundle().trim_end(), alone.signing.certificate.trim_end());
        assert_eq!(due(&alone, begin + DAY + 3601), None);
    }

    #[test]
    fn nothing_is_waited_for_when_it_is_wished_or_late() {
        let announced = step(&Cas::new(ca(0)), Due::Announce, 20 * DAY);
        let wish = Asked {
            at_once: true,
            ..NOTHING
        };
        assert_eq!(announced.due(at(21 * DAY), OVERLAP, wish), Some(Due::PromoteAnyway));
        assert_eq!(announced.due(at(25 * DAY - 1), OVERLAP, NOTHING), Some(Due::Settle));
        let late = announced.due(at(25 * DAY), OVERLAP, NOTHING);
        assert_eq!(late, Some(Due::PromoteAnyway), "a sixth of its life is left");
        let promoted = step(&announced, Due::PromoteAnyway, 25 * DAY);
        let expired = promoted.due(at(30 * DAY), OVERLAP, NOTHING);
        assert_eq!(expired, Some(Due::ForgetAnyway), "nobody believes it");
        let all = [Due::Settle, Due::Promote, Due::Forget];
        assert!(all.iter().all(|due| due.is_conditional()));
        let all = [Due::Announce, Due::PromoteAnyway, Due::Replace, Due::ForgetAnyway];
        assert!(!all.iter().any(|due| due.is_conditional()));
    }

    #[test]
    fn an_expired_ca_is_replaced_at_once_and_not_trusted_any_more() {
        let cas = Cas::new(ca(0));
        assert_eq!(cas.due(at(30 * DAY), OVERLAP, NOTHING), Some(Due::Replace));
        let replaced = step(&cas, Due::Replace, 30 * DAY);
        assert!(replaced.previous.is_empty() && replaced.signing != cas.signing);
        let announced = step(&cas, Due::Announce, 30 * DAY - 10);
        assert_eq!(
            announced.due(at(30 * DAY), OVERLAP, NOTHING),
            Some(Due::PromoteAnyway),
            "who is known already"
        );
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_settled_is_settled_anew() {
        let announced = step(&Cas::new(ca(0)), Due::Announce, 20 * DAY);
        let settled = step(&announced, Due::Settle, 20 * DAY + 5);
        assert_eq!(settled.due(at(20 * DAY), OVERLAP, NOTHING), Some(Due::Settle));
    }

    #[test]
    fn no_more_than_two_predecessors_are_trusted() {
        let mut cas = Cas::new(ca(0));
        for second in 1..6 {
            cas.remember(&ca(second).certificate, at(second));
        }
        assert_eq!(cas.bundle().matches("BEGIN").count(), 1 + MAX_PREVIOUS);
        cas.remember("garbage", at(6));
        assert!(!cas.bundle().contains("garbage"));
    }
}
