//! Starts the webhook's listener, and what keeps its client CA.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_server::Usage;
use agentwrit_server::tls::TlsError;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::leaf::LeafKeeper;
use super::tls::{Leaf, WebhookTls};
use super::{CpuQuotas, MAX_BODY, Namespaces, SidecarSettings, Webhook, quotas, router};
use crate::context::Context;
use crate::http::Routes;
use crate::http::listeners::{self, ListenError};
use crate::pki::secrets::service_names;
use crate::reconcile::watches;

/// Why the webhook can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The file with the CA of webhook clients can't be used.
    #[error("AGENTWRIT_WEBHOOK_CLIENT_CA")]
    ClientCa(#[from] TlsError),
    /// The first certificate isn't usable.
    #[error("the webhook's certificate isn't usable: {0}")]
    Certificate(String),
}

/// Serves the webhook; returns its address.
pub(crate) fn spawn(
    context: &Arc<Context>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    usages: &mut Vec<(&'static str, Usage)>,
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr, ServeError> {
    let config = &context.config;
    let (applied, namespaces_applied) = watch::channel(());
    tasks.spawn(watches::namespaces(
        context.client.clone(),
        namespaces,
        applied,
        Arc::clone(&context.metrics),
    ));
    let quotas = Arc::<CpuQuotas>::default();
    tasks.spawn(quotas::watch(
        context.client.clone(),
        Arc::clone(&quotas),
        Arc::clone(&context.metrics),
    ));
    let webhook = Webhook::new(
        SidecarSettings::from(config),
        config.namespace.clone(),
        Namespaces::new(context.namespaces.clone(), namespaces_applied),
        quotas,
        context.caches.launch_tokens.clone(),
        Arc::clone(&context.clock),
        Arc::clone(&context.metrics),
    );
    let leaf = Arc::new(Leaf::default());
    let mut names = service_names("agentwrit-controller", &config.namespace);
    names.extend(config.webhook_names.iter().filter(|name| !name.is_empty()).cloned());
    let keeper = LeafKeeper::new(Arc::clone(context), Arc::clone(&leaf), names).map_err(ServeError::Certificate)?;
    let tls = Arc::new(WebhookTls::load(Arc::clone(&leaf), config.webhook_client_ca.clone())?);
    let settings = listeners::webhook();
    let (listener, address) = listeners::listen("webhook", config.webhook_address, settings, Some(tls.clone()))?;
    usages.push(("webhook", listener.usage()));
    let routes = Routes::new(router(Arc::new(webhook)), MAX_BODY);
    tasks.spawn(listeners::serve(listener, routes));
    tasks.spawn(follow_client_ca(tls));
    tasks.spawn(keeper.run());
    Ok(address)
}

/// Reads the file with the CA of webhook clients again each minute, for ever.
async fn follow_client_ca(tls: Arc<WebhookTls>) {
    loop {
        tokio::time::sleep(Duration::from_mins(1)).await;
        match tls.refresh() {
            Ok(true) => tracing::info!("the CA of webhook clients has changed"),
            Ok(false) => {}
            Err(error) => {
                let error = agentwrit_protocol::error_chain(&error);
                tracing::error!(error, "keeping the last good CA of webhook clients");
            }
        }
    }
}
