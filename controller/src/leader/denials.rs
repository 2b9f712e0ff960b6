//! The broker's refusals become Events on the pods that wait.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::Denial;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::runtime::events::EventType;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::context::Context;

/// How often we ask.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Older denials were reported by an earlier leader, or are of no use any more.
const MAX_AGE: time::Duration = time::Duration::seconds(60);

/// Asks for ever, while this replica leads.
pub(super) async fn run(context: Arc<Context>) {
    let mut cursor = 0;
    loop {
        context.leadership.gained().await;
        // BrokerSync logs whether the broker answers.
        if let Ok((denials, next)) = context.broker.denials(cursor).await {
            for denial in denials {
                context.silent.settle(&denial.pod_uid);
                report(&context, &denial).await;
            }
            // Also backwards: another store counts from the beginning.
            cursor = next;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn report(context: &Context, denial: &Denial) {
    if !recent(&denial.at, context.clock.now()) {
        return;
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &denial.namespace);
    let pod = match api.get_opt(&denial.pod).await {
        Ok(Some(pod)) if pod.metadata.uid.as_deref() == Some(denial.pod_uid.as_str()) => pod,
        Ok(_) => return,
        Err(error) => {
            tracing::debug!(pod = denial.pod, %error, "a refused pod can't be read");
            return;
        }
    };
    let reference = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(denial.namespace.clone()),
        name: Some(denial.pod.clone()),
        uid: Some(denial.pod_uid.to_string()),
        ..ObjectReference::default()
    };
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let (reason, note) = event_text(denial, account.unwrap_or("default"));
    // The LaunchToken is part of the action, so that refusals under another one aren't counted up with these.
    let action = format!("Launch/{}", denial.policy);
    context
        .reporter
        .event(EventType::Warning, &reason, &action, &note, &reference)
        .await;
    context.metrics.denials.inc();
}

fn recent(at: &str, now: OffsetDateTime) -> bool {
    OffsetDateTime::parse(at, &Rfc3339).is_ok_and(|at| now - at < MAX_AGE)
}

/// The Event's reason, the kind in the style of Kubernetes, and its note, which names what the pod ran with.
fn event_text(denial: &Denial, service_account: &str) -> (String, String) {
    let reason: String = denial
        .error_kind
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect();
    let note = format!(
        "AgentWrit issues no token to this pod (LaunchToken {}, ServiceAccount {service_account}): {}",
        denial.policy, denial.message
    );
    let reason = if reason.is_empty() {
        "LaunchDenied".to_owned()
    } else {
        reason
    };
    (reason, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_names_launch_token_and_service_account() {
        let denial = Denial {
            cursor: 1,
            at: "2026-11-21T08:00:00Z".into(),
            namespace: "shop".into(),
            pod: "web".into(),
            pod_uid: "u".into(),
            policy: "reader".into(),
            error_kind: "service_account_not_allowed".into(),
            message: "The pod's ServiceAccount is not listed.".into(),
        };
        let (reason, note) = event_text(&denial, "default");
        assert_eq!(reason, "ServiceAccountNotAllowed");
        assert_eq!(
            note,
            "AgentWrit issues no token to this pod (LaunchToken reader, ServiceAccount default): The pod's ServiceAccount is not listed."
        );
    }

    #[test]
    fn old_refusals_are_not_reported_again() {
        let now = OffsetDateTime::parse("2026-11-21T08:01:00Z", &Rfc3339).unwrap();
        assert!(recent("2026-11-21T08:00:01Z", now));
        assert!(recent("2026-11-21T08:01:05Z", now), "a clock that is ahead");
        assert!(!recent("2026-11-21T08:00:00Z", now));
        assert!(!recent("yesterday", now));
    }
}
