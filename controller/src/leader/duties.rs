//! The leader's duties towards the installation: Secrets and caBundle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::pki::secrets::Secrets;
use crate::pki::trust::Signer;
use crate::pki::{PkiError, ca_bundle};
use crate::report::Reporter;

/// How often Secrets and caBundle are looked after.
const KEEP_EVERY: Duration = Duration::from_secs(10);
/// The same, while there is no webhook configuration: until then, pods are refused.
const CONFIGURE_EVERY: Duration = Duration::from_secs(1);

/// Keeps Secrets and caBundle; runs for ever. A duty that fails gets an Event on the controller's pod, and is tried
/// again after a growing pause.
pub(super) async fn keep_keys(context: Arc<Context>, secrets: Secrets) {
    let mut duties = Duties {
        reporter: context.reporter.clone(),
        next: HashMap::new(),
        failures: Backoff::default(),
    };
    let mut changes = context.trust.changes();
    loop {
        context.leadership.gained().await;
        let trusted = Arc::clone(&changes.borrow_and_update());
        // Who has just begun to lead may know less than was published: what is trusted is looked up first.
        let may_publish = context.trust.is_publishable(&context.leadership);
        // caBundle first: without it, pods are refused.
        if may_publish {
            duties
                .attempt("CABundleNotSet", "setting caBundle", async || {
                    let configured = ca_bundle::set(&context.writer, &trusted.bundle).await?;
                    Ok(if configured { KEEP_EVERY } else { CONFIGURE_EVERY })
                })
                .await;
        }
        duties
            .attempt("SigningKeyNotKept", "keeping the signing keys", async || {
                secrets.signing_key(context.entropy.as_ref()).await?;
                // BrokerSync logs whether the broker answers.
                if let Ok(keys) = context.broker.signing_keys().await {
                    let (clock, entropy) = (context.clock.as_ref(), context.entropy.as_ref());
                    let rotate_every = context.config.signing_key_rotate_every;
                    secrets
                        .rotate_signing_keys(&keys, rotate_every, (clock, entropy))
                        .await?;
                }
                Ok(KEEP_EVERY)
            })
            .await;
        if may_publish {
            duties
                .attempt(
                    "BrokerCertificateNotKept",
                    "keeping the broker's certificate",
                    async || {
                        let clock = context.clock.as_ref();
                        match &trusted.signer {
                            Signer::Own(authority) => secrets.broker_leaf(authority, clock).await?,
                            Signer::Issuers { shown } => {
                                let now = clock.unix_seconds();
                                secrets.issued_broker_leaf(shown, &trusted.bundle, now).await?;
                            }
                        }
                        Ok(KEEP_EVERY)
                    },
                )
                .await;
        }
        tokio::select! {
            () = tokio::time::sleep(CONFIGURE_EVERY) => {}
            // Another CA: what is signed and trusted is looked after at once.
            _ = changes.changed() => {
                duties.next.clear();
            }
        }
    }
}

/// Repeats each duty: after a success in the time that it returns, after a failure with a growing pause.
struct Duties {
    reporter: Reporter,
    next: HashMap<&'static str, Instant>,
    failures: Backoff<&'static str>,
}

impl Duties {
    async fn attempt(
        &mut self,
        reason: &'static str,
        doing: &str,
        duty: impl AsyncFnOnce() -> Result<Duration, PkiError>,
    ) {
        if self.next.get(reason).is_some_and(|next| *next > Instant::now()) {
            return;
        }
        let rest = match duty().await {
            Ok(rest) => {
                self.failures.done(&reason);
                self.reporter.own_recovered(reason);
                rest
            }
            Err(error) if error.is_not_leading() => Duration::ZERO,
            Err(error) => {
                self.reporter.own_recurring(doing, reason, &error).await;
                self.failures.failed(reason)
            }
        };
        self.next.insert(reason, Instant::now() + rest);
    }
}
