//! Keeps the issuers' CAs where cert-manager signs: every replica uses what the `ConfigMap` of the installation holds; the
//! leader keeps that up with what the Secrets name, and does what is due.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::{Clock, UnixSeconds};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::replicas::Replicas;
use super::roots::{Found, Roots};
use super::{BROKER_ISSUED, Issued, IssuedError, WEBHOOK_ISSUED};
use crate::http::ops::Readiness;
use crate::leader::leadership::Leadership;
use crate::pki::authority::{certificates, validity};
use crate::pki::ca_reach::{Behind, elsewhere};
use crate::pki::patience::Patience;
use crate::pki::secrets::{BROKER_TLS_SECRET, CERTIFICATE, Secrets, text};
use crate::pki::succession::{SETTLED_AT, is_valid};
use crate::pki::trust::{Signer, Trusted, believes};
use crate::pki::{PkiError, is_code, is_ours, our_metadata};
use crate::report::Reporter;

/// `ConfigMap` with the CAs that are trusted, in the release namespace.
pub(crate) const STATE: &str = "agentwrit-issuers";
/// Its entries.
const SHOWN: &str = "ca.crt";
const NEXT: &str = "next.crt";
const PREVIOUS: &str = "previous.crt";

/// Reason of the Event while the `ConfigMap` can't be read or written.
const NOT_KEPT: &str = "IssuersNotKept";
/// Reasons of the Events while cert-manager has issued nothing that could be used.
const WEBHOOK_NOT_ISSUED: &str = "WebhookCertificateNotIssued";
const BROKER_NOT_ISSUED: &str = "BrokerCertificateNotIssued";

/// Where what cert-manager issues is found.
pub(crate) struct Sources {
    pub(crate) secrets: Secrets,
    /// Folder with the webhook's.
    pub(crate) webhook: PathBuf,
    pub(crate) replicas: Replicas,
}

pub(crate) struct IssuedKeeper {
    sources: Sources,
    /// Reads, and writes while this replica leads.
    client: Client,
    patience: Patience,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    reporter: Reporter,
    readiness: Arc<Readiness>,
    overlap: Duration,
    /// The lease epoch under which it is known what others have published.
    followed: Option<i64>,
    /// What this replica uses.
    memory: Option<Roots>,
}

/// The `ConfigMap`.
struct Stored {
    version: String,
    roots: Roots,
}

impl IssuedKeeper {
    pub(crate) fn new(
        (sources, client, patience): (Sources, Client, Patience),
        leadership: Leadership,
        clock: Arc<dyn Clock>,
        (reporter, readiness): (Reporter, Arc<Readiness>),
        overlap: Duration,
    ) -> Self {
        Self {
            sources,
            client,
            patience,
            leadership,
            clock,
            reporter,
            readiness,
            overlap,
            followed: None,
            memory: None,
        }
    }

    pub(in crate::pki) const fn overlap(&self) -> Duration {
        self.overlap
    }

    /// What is trusted now.
    pub(in crate::pki) async fn look(&mut self) -> Option<Trusted> {
        let now = self.clock.unix_seconds();
        let epoch = self.leadership.claim().map(|claim| claim.epoch);
        let webhook = Issued::from_folder(&self.sources.webhook, &self.sources.replicas.name, now);
        let why = webhook.as_ref().err().map(|error| not_issued(WEBHOOK_ISSUED, error));
        self.tell(WEBHOOK_NOT_ISSUED, why.as_ref()).await;
        self.readiness.issued(why.map(|error| error.to_string()));
        let kept = if epoch.is_some() {
            let kept = self.keep(webhook, self.followed == epoch, now).await;
            if kept.is_ok() {
                self.followed = epoch;
            }
            kept
        } else {
            self.stored().await.map(|stored| stored.map(|stored| stored.roots))
        };
        let roots = match kept {
            Ok(roots) => {
                self.reporter.own_recovered(NOT_KEPT);
                roots?
            }
            // Another one was faster, or leads: what it wrote is read at the next look.
            Err(error) if error.is_not_leading() => return None,
            Err(PkiError::Api { source, .. }) if is_code(&source, 409) => return None,
            Err(error) => {
                let doing = "keeping the CAs of the issuers";
                self.reporter.own_recurring(doing, NOT_KEPT, &error).await;
                return None;
            }
        };
        if !roots.shown.iter().any(|root| is_valid(root, now)) {
            return None;
        }
        let trusted = Trusted {
            signer: Signer::Issuers {
                shown: roots.shown.concat(),
            },
            bundle: roots.bundle(),
            as_of: epoch,
        };
        self.memory = Some(roots);
        Some(trusted)
    }

    async fn tell(&self, reason: &'static str, error: Option<&PkiError>) {
        match error {
            None => self.reporter.own_recovered(reason),
            Some(error) => {
                let doing = "reading what cert-manager has issued";
                self.reporter.own_recurring(doing, reason, error).await;
            }
        }
    }

    /// What the leader does: one write a look at most.
    async fn keep(
        &mut self,
        webhook: Result<Issued, IssuedError>,
        is_followed: bool,
        now: UnixSeconds,
    ) -> Result<Option<Roots>, PkiError> {
        let broker = self.sources.secrets.issued_broker(now).await;
        let broker = broker.inspect_err(|error| self.leadership.cede_when_forbidden(error))?;
        let why = broker.as_ref().err().map(|error| not_issued(BROKER_ISSUED, error));
        self.tell(BROKER_NOT_ISSUED, why.as_ref()).await;
        let found = Found {
            is_complete: webhook.is_ok() && broker.is_ok(),
            roots: [webhook, broker]
                .into_iter()
                .flatten()
                .flat_map(|issued| issued.roots)
                .collect(),
        };
        let stored = self.stored().await?;
        let mut before = match (&stored, &self.memory) {
            (Some(stored), _) if !stored.roots.shown.is_empty() => stored.roots.clone(),
            // Was deleted, or can't be read.
            (_, Some(memory)) => memory.clone(),
            (_, None) => Roots::default(),
        };
        if !is_followed {
            self.follow_others(&mut before, now).await?;
        }
        let after = before.with(&found, now);
        if stored.as_ref().is_none_or(|stored| stored.roots != after) {
            if after.shown.is_empty() {
                return Ok(None);
            }
            self.write(stored.as_ref(), &after).await?;
            return Ok(Some(after));
        }
        let Some(due) = after.due(now, self.overlap) else {
            self.patience.ends();
            return Ok(Some(after));
        };
        let behind = self.behind(&after, now).await;
        if !self.patience.is_over(behind, self.overlap, now).await {
            return Ok(Some(after));
        }
        let next = after.after(due, now);
        self.write(stored.as_ref(), &next).await?;
        tracing::info!(step = ?due, "a step from one CA of an issuer to another");
        Ok(Some(next))
    }

    /// What is published isn't ours, when this replica begins to lead: our own CA signed before, or the `ConfigMap` was lost at
    /// a stop. It is followed in steps, too.
    async fn follow_others(&self, roots: &mut Roots, now: UnixSeconds) -> Result<(), PkiError> {
        let published = self.patience.reach().published(now).await?;
        if !roots.shown.iter().any(|root| published.contains(root)) {
            let others = published.into_iter().filter(|root| !roots.knows(root));
            let others: Vec<String> = others.collect();
            roots.shown.extend(others);
        }
        Ok(())
    }

    /// Who is behind after the last step, if anybody is: who doesn't trust what is announced, or the broker or a controller that
    /// shows what a predecessor signed.
    async fn behind(&self, roots: &Roots, now: UnixSeconds) -> Result<Option<Behind>, PkiError> {
        let needed: Vec<&str> = roots.needed().collect();
        if !roots.next.is_empty() {
            return self.patience.reach().trusting(&needed).await;
        }
        let name = self.sources.secrets.broker_name();
        let (shown, bundle) = (roots.shown.concat(), roots.bundle());
        if let Some(leaf) = self.sources.secrets.get(BROKER_TLS_SECRET).await? {
            let leaf = text(&leaf, CERTIFICATE).unwrap_or_default();
            let is_believed = |bundle: &str| believes(bundle.as_bytes(), &leaf, &name, now).is_ok();
            // One that nobody believes in any case, such as one that has expired, holds nothing up.
            if is_believed(&bundle) && !is_believed(&shown) {
                let what = format!("the Secret {BROKER_TLS_SECRET} holds a certificate of another CA still");
                return Ok(Some(elsewhere(what)));
            }
        }
        let behind = self.sources.replicas.behind(&shown, &bundle, now).await?;
        if behind.is_empty() {
            return Ok(None);
        }
        let names = behind.join(", ");
        let what = format!("the webhook has a certificate of another CA still in the pods {names}");
        Ok(Some(elsewhere(what)))
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), self.sources.secrets.namespace())
    }

    /// What the `ConfigMap` holds; none when it is to be written anew.
    async fn stored(&self) -> Result<Option<Stored>, PkiError> {
        let doing = format!("reading the ConfigMap {STATE}");
        let Some(map) = self.maps().get_opt(STATE).await.map_err(PkiError::api(doing))? else {
            return Ok(None);
        };
        if !is_ours(&map.metadata) {
            return Err(PkiError::NotOurs {
                kind: "ConfigMap",
                namespace: self.sources.secrets.namespace().to_owned(),
                name: STATE.to_owned(),
            });
        }
        let list = |entry| {
            let text = map.data.as_ref().and_then(|data| data.get(entry));
            let mut roots = text.map(|text| certificates(text)).unwrap_or_default();
            roots.retain(|root| validity(root).is_ok());
            roots
        };
        let annotations = map.metadata.annotations.as_ref();
        let seconds = annotations.and_then(|all| all.get(SETTLED_AT)?.parse().ok());
        Ok(Some(Stored {
            roots: Roots {
                shown: list(SHOWN),
                next: list(NEXT),
                previous: list(PREVIOUS),
                settled_at: seconds.map(UnixSeconds::new),
            },
            version: map.metadata.resource_version.unwrap_or_default(),
        }))
    }

    async fn write(&self, stored: Option<&Stored>, roots: &Roots) -> Result<(), PkiError> {
        let doing = || format!("writing the ConfigMap {STATE}");
        let settled_at = roots.settled_at.map(|at| at.get().to_string());
        let entries = [(SHOWN, &roots.shown), (NEXT, &roots.next), (PREVIOUS, &roots.previous)];
        let data = entries.map(|(name, list)| (name.to_owned(), list.concat()));
        let Some(stored) = stored else {
            let annotations = settled_at.map(|at| BTreeMap::from([(SETTLED_AT.to_owned(), at)]));
            let map = ConfigMap {
                metadata: ObjectMeta {
                    annotations,
                    ..our_metadata(self.sources.secrets.namespace(), STATE)
                },
                data: Some(data.into()),
                ..ConfigMap::default()
            };
            let created = self.maps().create(&PostParams::default(), &map).await;
            return created.map(drop).map_err(PkiError::api(doing()));
        };
        let patch = json!({
            // Of two writers, one is refused.
            "metadata": {"resourceVersion": stored.version, "annotations": {SETTLED_AT: settled_at}},
            "data": BTreeMap::from(data),
        });
        let patched = self
            .maps()
            .patch(STATE, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.map(drop).map_err(PkiError::api(doing()))
    }
}

fn not_issued(secret: &'static str, error: &IssuedError) -> PkiError {
    PkiError::NotIssued {
        secret,
        error: error.clone(),
    }
}

#[cfg(test)]
mod tests;
