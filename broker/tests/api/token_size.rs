//! The size of a token as the controller computes it is that of a token as it is issued.

use agentwrit_protocol::claims::Claims;
use agentwrit_testkit::Harness;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

#[tokio::test]
async fn the_computed_size_is_that_of_an_issued_token() {
    for (issuer, audience) in [
        ("", ""),
        ("https://agentwrit-broker.agentwrit-system.svc:8443", "orders"),
    ] {
        let harness = Harness::with(&[("AA_ISSUER", issuer), ("AA_AUDIENCE", audience)]).await;
        for scopes in [1, 3, 40] {
            // With characters that JSON and Go's JSON write longer than they are.
            let scope: Vec<String> = (0..scopes).map(|number| format!("read:data:<{number}>&\"é")).collect();
            let (_, token) = harness.agent(json!({"requested_scope": scope})).await;
            let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            let claims: Claims = serde_json::from_slice(&payload).unwrap();
            assert_eq!(
                claims.token_bytes().unwrap(),
                token.len(),
                "{scopes} scopes, issuer {issuer:?}"
            );
        }
    }
}
