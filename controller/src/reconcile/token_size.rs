//! Whether a `LaunchToken`'s tokens fit into a header of common servers.

use agentwrit_crds::{CONDITION_TOKEN_SIZE, LaunchToken};
use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::claims::{Claims, too_long_for_a_header};
use agentwrit_protocol::k8s::orch_id;
use kube::ResourceExt;

use crate::reconcile::condition::Wanted;

/// Reason of the condition, and of its Event.
const REASON: &str = "TokenTooLong";
/// The broker's trust domain isn't known here: as long as most are.
const SAMPLE_TRUST_DOMAIN: &str = "agentwrit.example.org";
/// As long as a pod's UID.
const SAMPLE_UID: &str = "00000000-0000-0000-0000-000000000000";
/// As long as any moment of the next centuries.
const SAMPLE_TIME: UnixSeconds = UnixSeconds::new(1_800_000_000);

/// What to say of a token with all scopes, if it is longer than a header line of common servers.
pub(crate) fn warning(token: &LaunchToken, audiences: &[String], issuer: &str) -> Option<Wanted> {
    let bytes = claims(token, audiences, issuer).token_bytes().ok()?;
    let line = too_long_for_a_header(bytes)?;
    Some(Wanted {
        type_: CONDITION_TOKEN_SIZE,
        is_true: false,
        reason: REASON,
        message: format!(
            "A token with all {} scopes of spec.allowedScopes has about {bytes} bytes, its header line {line}: common \
             servers and proxies refuse a header line of more than 8 KiB (400, 414 or 431). Use fewer or wider scopes, \
             or several LaunchTokens; a pod may ask for less by the annotation agentwrit.io/scopes.",
            token.spec.allowed_scopes.len()
        ),
    })
}

/// The claims of a pod's token, as long as they will be.
fn claims(token: &LaunchToken, audiences: &[String], issuer: &str) -> Claims {
    let orch = orch_id(&token.namespace().unwrap_or_default(), &token.spec.app_ref.name);
    Claims {
        iss: issuer.to_owned(),
        sub: format!("spiffe://{SAMPLE_TRUST_DOMAIN}/agent/{orch}/{SAMPLE_UID}/0123456789abcdef"),
        aud: [&[format!("agentwrit:{SAMPLE_TRUST_DOMAIN}")], audiences].concat(),
        exp: SAMPLE_TIME,
        nbf: SAMPLE_TIME,
        iat: SAMPLE_TIME,
        jti: "0".repeat(32).into(),
        sid: "0".repeat(32).into(),
        scope: token.spec.allowed_scopes.clone(),
        task_id: SAMPLE_UID.into(),
        orch_id: orch,
        ..Claims::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(scopes: usize) -> LaunchToken {
        let scopes: Vec<String> = (0..scopes)
            .map(|number| format!("read:orders:{number:0>244}"))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "reader", "namespace": "shop"},
            "spec": {
                "appRef": {"name": "orders"}, "agentName": "reader", "allowedScopes": scopes,
                "serviceAccountNames": ["default"],
            },
        }))
        .unwrap()
    }

    #[test]
    fn scopes_of_more_than_8_kib_are_warned_of_with_their_size() {
        let issuer = "https://agentwrit-broker.agentwrit-system.svc:8443";
        assert_eq!(warning(&token(1), &[], issuer), None);
        assert_eq!(warning(&token(20), &[], issuer), None);
        let long = vec!["x".repeat(256); 16];
        assert!(warning(&token(10), &[], issuer).is_none() && warning(&token(10), &long, issuer).is_some());
        let warning = warning(&token(64), &[], issuer).unwrap();
        assert!(
            warning.message.contains("64 scopes") && !warning.is_true,
            "{}",
            warning.message
        );
        let bytes = claims(&token(64), &[], issuer).token_bytes().unwrap();
        assert!((21_000..24_000).contains(&bytes), "{bytes}");
    }
}
