//! Keeps the CAs: every replica uses what the Secret holds; the leader puts right what is wrong, and does what is due.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, Ttl, UnixSeconds};
use kube::runtime::events::EventType;

use super::authority::{Authority, Lives, PemPair};
use super::ca_secret::{EXPIRED, Found, Memory, Stored, Told};
use super::patience::Patience;
use super::secrets::{CA_SECRET, Secrets};
use super::succession::{Cas, Due, is_valid};
use super::trust::{Signer, Trusted};
use super::{PkiError, ca_secret, is_code};
use crate::leader::leadership::Leadership;
use crate::report::Reporter;

/// Reason of the Event while the Secret can't be read or put right.
const NOT_KEPT: &str = "CANotKept";

pub(crate) struct CaKeeper {
    secrets: Secrets,
    patience: Patience,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    reporter: Reporter,
    lives: Lives,
    overlap: Duration,
    /// The lease epoch under which it is known what others have published.
    followed: Option<i64>,
    /// What this replica uses, and when it was last looked up.
    memory: Option<(Cas, UnixSeconds)>,
}

impl CaKeeper {
    pub(crate) fn new(
        (secrets, patience): (Secrets, Patience),
        leadership: Leadership,
        clock: Arc<dyn Clock>,
        reporter: Reporter,
        (lives, overlap): (Lives, Duration),
    ) -> Self {
        Self {
            secrets,
            patience,
            leadership,
            clock,
            reporter,
            lives,
            overlap,
            followed: None,
            memory: None,
        }
    }

    pub(super) const fn overlap(&self) -> Duration {
        self.overlap
    }

    /// What the Secret holds now, or has to.
    pub(super) async fn look(&mut self) -> Option<Trusted> {
        let now = self.clock.unix_seconds();
        let epoch = self.leadership.claim().map(|claim| claim.epoch);
        let kept = if epoch.is_some() {
            let kept = self.keep(self.followed == epoch, now).await;
            if kept.is_ok() {
                self.followed = epoch;
            }
            kept
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
            signer: Signer::Own(Arc::new(authority)),
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
    async fn keep(&mut self, is_followed: bool, now: UnixSeconds) -> Result<Option<Cas>, PkiError> {
        let secret = self.secrets.get(CA_SECRET).await;
        let secret = secret.inspect_err(|error| self.leadership.cede_when_forbidden(error))?;
        let found = Found::read(secret.as_ref(), now);
        if !found.is_ours() {
            return self.persons_own(found, now).map(Some);
        }
        if let Some(mut repair) = found.repair(self.memory(now), now, || self.make())? {
            if !is_followed {
                self.follow_others(&mut repair.cas, now).await?;
            }
            self.write(found.version(), &repair.cas).await?;
            if let Some(told) = repair.told {
                self.tell(told).await;
            }
            return Ok(Some(repair.cas));
        }
        let Found::Usable(mut stored) = found else {
            return Ok(None);
        };
        if !is_followed && self.follow_others(&mut stored.cas, now).await? {
            self.write(Some(&stored.version), &stored.cas).await?;
            return Ok(Some(stored.cas));
        }
        let Some(due) = stored.cas.due(now, self.overlap, stored.asked) else {
            return Ok(Some(stored.cas));
        };
        if due.is_conditional() {
            let behind = self.patience.reach().behind(&stored.cas).await;
            if !self.patience.is_over(behind, self.overlap, now).await {
                return Ok(Some(stored.cas));
            }
        } else {
            self.patience.ends();
        }
        self.step(*stored, due, now).await
    }

    /// Trusts what is published, when this replica begins to lead and what signs here isn't among it: cert-manager signed before, or the
    /// Secret was lost at a stop. Whether there was any.
    async fn follow_others(&self, cas: &mut Cas, now: UnixSeconds) -> Result<bool, PkiError> {
        let mut all = self.patience.reach().published(now).await?;
        let signing = cas.signing.certificate.trim();
        if all.iter().any(|ca| ca.trim() == signing) {
            return Ok(false);
        }
        all.retain(|ca| !cas.knows(ca));
        for ca in &all {
            cas.remember(ca, now);
            cas.settled_at = None;
        }
        Ok(!all.is_empty())
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
