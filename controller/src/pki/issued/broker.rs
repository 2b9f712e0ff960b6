//! The broker's certificate: what cert-manager has issued, in the Secret that the broker reads, once all pods trust it.

use std::collections::BTreeMap;

use agentwrit_protocol::UnixSeconds;
use k8s_openapi::ByteString;
use serde_json::json;

use super::{BROKER_ISSUED, Issued, may_be_shown};
use crate::pki::secrets::{BROKER_TLS_SECRET, CERTIFICATE, KEY, Secrets, TLS, pair_data, service_names, text};
use crate::pki::trust::believes;
use crate::pki::{PkiError, is_ours};

impl Secrets {
    /// The name under which pods know the broker.
    pub(super) fn broker_name(&self) -> String {
        service_names("agentwrit-broker", self.namespace()).swap_remove(0)
    }

    /// What cert-manager has issued for the broker.
    pub(super) async fn issued_broker(&self, now: UnixSeconds) -> Result<Result<Issued, super::IssuedError>, PkiError> {
        let secret = self.get(BROKER_ISSUED).await?;
        Ok(Issued::from_secret(secret.as_ref(), &self.broker_name(), now))
    }

    /// Lets the broker have what cert-manager has issued: not before pods, which trust `bundle`, have trusted its CA for an
    /// overlap, so that it is among `shown`; unless what the broker has is worth nothing.
    pub(crate) async fn issued_broker_leaf(&self, shown: &str, bundle: &str, now: UnixSeconds) -> Result<(), PkiError> {
        // The keeper says what is wrong with it.
        let Ok(issued) = self.issued_broker(now).await? else {
            return Ok(());
        };
        let name = self.broker_name();
        let is_believed = |leaf: &str| believes(bundle.as_bytes(), leaf, &name, now).is_ok();
        let new = issued.pair;
        if !is_believed(&new.certificate) {
            return Ok(());
        }
        let Some(stored) = self.get(BROKER_TLS_SECRET).await? else {
            self.create(BROKER_TLS_SECRET, Some(TLS), pair_data(new)).await?;
            tracing::info!(
                secret = BROKER_TLS_SECRET,
                "the broker has the certificate that cert-manager issued"
            );
            return Ok(());
        };
        if !is_ours(&stored.metadata) {
            return Err(self.not_ours(BROKER_TLS_SECRET));
        }
        let present = text(&stored, CERTIFICATE).unwrap_or_default();
        if present == new.certificate && text(&stored, KEY).is_ok_and(|key| key == new.key) {
            return Ok(());
        }
        if is_believed(&present) && !may_be_shown(shown, &new.certificate, &present, &name, now) {
            return Ok(());
        }
        let data: BTreeMap<String, ByteString> = pair_data(new);
        let patch = json!({
            // Of two writers, one is refused.
            "metadata": {"resourceVersion": stored.metadata.resource_version},
            "data": data,
        });
        self.patch(BROKER_TLS_SECRET, &patch, "renewing the broker's certificate")
            .await?;
        tracing::info!(
            secret = BROKER_TLS_SECRET,
            from = BROKER_ISSUED,
            "the broker has another certificate that cert-manager issued"
        );
        Ok(())
    }
}
