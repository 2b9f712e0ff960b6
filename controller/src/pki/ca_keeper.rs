//! Keeps the CAs: every replica uses what the Secret holds; the leader puts right what is wrong, and does what is due.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, Ttl, UnixSeconds};
use kube::runtime::events::EventType;

use super::authority::{Authority, Lives, PemPair};
use super::ca_distribution::{CaEvent, CaEvents};
use super::ca_reach::Reach;
use super::ca_secret::{EXPIRED, Found, Memory, Stored, Told};
use super::secrets::{CA_SECRET, Secrets};
use super::succession::{Cas, Due, is_valid};
use super::trust::{Trust, Trusted};
use super::{PkiError, ca_secret, is_code};
use crate::leader::leadership::Leadership;
use crate::report::Reporter;

/// Reason of the Event while the Secret can't be read or put right.
const NOT_KEPT: &str = "CANotKept";
/// Reason of the Event while a step waits for somebody who is behind.
const WAITS: &str = "CARotationWaits";
/// Between two looks that came to nothing.
const RETRY: Duration = Duration::from_secs(1);
/// After a step some are behind for a moment; nobody has to hear of that.
const PATIENCE: Duration = Duration::from_mins(10);

pub(crate) struct CaKeeper {
    secrets: Secrets,
    reach: Reach,
    /// Where namespaces go whose `ConfigMap` is behind.
    events: CaEvents,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    reporter: Reporter,
    lives: Lives,
    overlap: Duration,
    /// What this replica uses, and when it was last looked up.
    memory: Option<(Cas, UnixSeconds)>,
    /// Since when somebody is behind.
    waits_since: Option<UnixSeconds>,
}

impl CaKeeper {
    pub(crate) fn new(
        (secrets, reach, events): (Secrets, Reach, CaEvents),
        leadership: Leadership,
        clock: Arc<dyn Clock>,
        reporter: Reporter,
        (lives, overlap): (Lives, Duration),
    ) -> Self {
        Self {
            secrets,
            reach,
            events,
            leadership,
            clock,
            reporter,
            lives,
            overlap,
            memory: None,
            waits_since: None,
        }
    }

    /// Waits until there is a CA; the leader makes it.
    pub(crate) async fn first(&mut self) -> Trusted {
        loop {
            if let Some(trusted) = self.look().await {
                return trusted;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps `trust` up to date; runs for ever.
    pub(crate) async fn run(mut self, trust: Trust) {
        // Several times within an overlap.
        let pause = (self.overlap / 10).clamp(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let as_of = trust.now().as_of;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Nothing is published before who begins to lead has looked.
                () = self.leadership.led_anew(as_of.unwrap_or(0)) => {}
            }
            match self.look().await {
                Some(trusted) => {
                    if trust.set(trusted) {
                        tracing::info!("the CA certificates that are trusted, or the one that signs, have changed");
                    }
                }
                None => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// What the Secret holds now, or has to.
    async fn look(&mut self) -> Option<Trusted> {
        let now = self.clock.unix_seconds();
        let epoch = self.leadership.claim().map(|claim| claim.epoch);
        let kept = if epoch.is_some() {
            self.keep(now).await
        } else {
            self.read(now).await
        };
        let cas = match kept {
            Ok(cas) => {
                self.reporter.own_recovered(NOT_KEPT);
                cas?
            }
            // Another one was faster, or leads: what it wrote is read at the next look.
            Err(error) if error.is_not_leading() => return None,
            Err(PkiError::Api { source, .. }) if is_code(&source, 409) => return None,
            Err(error) => {
                self.reporter.own_recurring("keeping the CA", NOT_KEPT, &error).await;
                match (error, &self.memory) {
                    // A person's own, which only that person can put right: what was used before goes on.
                    (PkiError::Stored { .. }, Some((cas, _))) if is_valid(&cas.signing.certificate, now) => cas.clone(),
                    _ => return None,
                }
            }
        };
        let authority = Authority::signing_for(&cas.signing, self.lives).ok()?;
        let bundle = cas.bundle();
        self.memory = Some((cas, now));
        Some(Trusted {
            authority: Arc::new(authority),
            bundle,
            as_of: epoch,
        })
    }

    fn memory(&self, now: UnixSeconds) -> Option<Memory<'_>> {
        let overlap = Ttl::seconds(i64::try_from(self.overlap.as_secs()).unwrap_or(i64::MAX));
        self.memory.as_ref().map(|(cas, at)| Memory {
            cas,
            is_recent: *at <= now && now < *at + overlap,
        })
    }

    async fn read(&self, now: UnixSeconds) -> Result<Option<Cas>, PkiError> {
        let secret = self.secrets.get(CA_SECRET).await?;
        Ok(Found::read(secret.as_ref(), now).usable(self.memory(now), now))
    }

    /// What the leader does: one write a look at most.
    async fn keep(&mut self, now: UnixSeconds) -> Result<Option<Cas>, PkiError> {
        let secret = self.secrets.get(CA_SECRET).await?;
        let found = Found::read(secret.as_ref(), now);
        if !found.is_ours() {
            return self.persons_own(found, now).map(Some);
        }
        if let Some(repair) = found.repair(self.memory(now), now, || self.make())? {
            self.write(found.version(), &repair.cas).await?;
            if let Some(told) = repair.told {
                self.tell(told).await;
            }
            return Ok(Some(repair.cas));
        }
        let Found::Usable(stored) = found else {
            return Ok(None);
        };
        let Some(due) = stored.cas.due(now, self.overlap, stored.asked) else {
            return Ok(Some(stored.cas));
        };
        if due.is_conditional() && !self.has_arrived(&stored.cas, now).await {
            return Ok(Some(stored.cas));
        }
        self.waits_since = None;
        self.reporter.own_recovered(WAITS);
        self.step(*stored, due, now).await
    }

    /// Another CA.
    fn make(&self) -> Result<PemPair, PkiError> {
        Authority::generate_living(self.secrets.namespace(), self.clock.now(), self.lives)
    }

    async fn step(&self, stored: Stored, due: Due, now: UnixSeconds) -> Result<Option<Cas>, PkiError> {
        let after = stored.cas.after(due, now, || self.make())?;
        self.write(Some(&stored.version), &after).await?;
        tracing::info!(step = ?due, secret = CA_SECRET, "a step from one CA to another");
        if due == Due::Replace {
            let what = "its CA has expired: a new one signs at once".to_owned();
            let reason = EXPIRED;
            self.tell(Told { reason, what }).await;
        }
        Ok(Some(after))
    }

    async fn write(&self, version: Option<&str>, cas: &Cas) -> Result<(), PkiError> {
        let Some(version) = version else {
            return self.secrets.create_ca(cas).await;
        };
        let patch = ca_secret::patch(cas, version);
        self.secrets.patch(CA_SECRET, &patch, "writing the CA").await
    }

    async fn tell(&self, Told { reason, what }: Told) {
        let note = format!("Secret {}/{CA_SECRET}: {what}", self.secrets.namespace());
        tracing::warn!(note, "put the CA right");
        let own = self.reporter.own().clone();
        self.reporter
            .event(EventType::Warning, reason, "Reconcile", &note, &own)
            .await;
    }

    /// Whether all is as it has to be after the last step; an Event names who is behind when that takes long.
    async fn has_arrived(&mut self, cas: &Cas, now: UnixSeconds) -> bool {
        let error = match self.reach.behind(cas).await {
            Ok(None) => return true,
            Ok(Some(behind)) => {
                for namespace in behind.namespaces {
                    // The receiver is gone only when the process ends.
                    let _ = self.events.send(CaEvent::Needed(namespace));
                }
                PkiError::Behind { behind: behind.what }
            }
            Err(error) => error,
        };
        let since = *self.waits_since.get_or_insert(now);
        let patience = PATIENCE.min(self.overlap).as_secs();
        if now >= since + Ttl::seconds(i64::try_from(patience).unwrap_or(i64::MAX)) {
            self.reporter.own_recurring("replacing the CA", WAITS, &error).await;
        }
        false
    }

    /// Used as it is, and left as it is.
    fn persons_own(&self, found: Found, now: UnixSeconds) -> Result<Cas, PkiError> {
        let why = match found {
            Found::Usable(stored) if is_valid(&stored.cas.signing.certificate, now) => return Ok(stored.cas),
            Found::Unusable { why, .. } => why,
            Found::Usable(_) | Found::Missing => "its CA has expired".to_owned(),
        };
        Err(self.secrets.stored(CA_SECRET, "CA", why))
    }
}

#[cfg(test)]
mod tests;
