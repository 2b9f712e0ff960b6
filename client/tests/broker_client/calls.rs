//! What each call sends.

use super::*;

#[tokio::test]
async fn renewal_sends_overlap_and_key_and_nothing_when_not_asked() {
    let server = Server::plain(|_| answer(200, r#"{"access_token":"new","expires_in":300}"#)).await;
    let client = server.client();
    let token = Sensitive::from("old");
    let renewed = client
        .renew(
            &token,
            Renewal {
                overlap: Some(Ttl::seconds(10)),
                idempotency_key: Some("key-1"),
                proof: Some("v1;t=1;sig=AA"),
            },
        )
        .await
        .unwrap();
    assert_eq!(
        (renewed.access_token.expose(), renewed.expires_in),
        ("new", Ttl::seconds(300))
    );
    let seen = server.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/token/renew"));
    assert_eq!(seen.body, r#"{"overlap_seconds":10}"#);
    assert_eq!(seen.headers["idempotency-key"], "key-1");
    assert_eq!(seen.headers["agentwrit-proof"], "v1;t=1;sig=AA");
    client.renew(&token, Renewal::default()).await.unwrap();
    let seen = server.last();
    assert_eq!(seen.body, "");
    assert!(!seen.headers.contains_key("idempotency-key"));
    assert!(!seen.headers.contains_key("agentwrit-proof"));
}

#[tokio::test]
async fn policy_calls_escape_names_and_carry_the_epoch() {
    let server = Server::plain(|_| answer(200, r#"{"revoked":2}"#)).await;
    let client = BrokerClient::new(ClientConfig {
        identity: Some(Identity::Token(Sensitive::from("sa"))),
        ..server.config()
    })
    .unwrap();
    let order = WriteOrder {
        lease_epoch: 3,
        sequence: 9,
    };
    let answer = client
        .delete_policy(PolicyKind::LaunchToken, "shop", "a/b", &"u&x".into(), order, true)
        .await
        .unwrap();
    assert_eq!((answer.value.revoked, answer.epoch.as_str()), (2, "epoch-1"));
    let seen = server.last();
    assert_eq!(seen.method, "DELETE");
    assert_eq!(
        seen.path,
        "/v1/k8s/policies/launch-tokens/shop/a%2Fb?uid=u%26x&lease_epoch=3&sequence=9&revoke=true"
    );
}

const APP: &str = r#"{"app_id":"app-order-reader-0a1b2c","name":"order-reader","client_id":"or-0123456789ab","scopes":["read:orders:*"],"token_ttl":1800,"status":"active","created_at":"2026-11-21T07:00:00Z","updated_at":"2026-11-21T07:00:00Z"}"#;

#[tokio::test]
async fn app_calls_send_what_the_contract_asks_for() {
    let server = Server::plain(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        // The reference's bodies hold empty members of which the contract says nothing.
        ("POST", "/v1/admin/apps") => answer(
            201,
            r#"{"app_id":"app-order-reader-0a1b2c","name":"","client_id":"or-0123456789ab","client_secret":"5ec2e7","scopes":["read:orders:*"],"token_ttl":1800,"status":""}"#,
        ),
        ("GET", "/v1/admin/apps") => answer(200, &format!(r#"{{"apps":[{APP}],"total":1}}"#)),
        ("GET" | "PUT", "/v1/admin/apps/a%2Fb%20%3F") => answer(200, APP),
        ("DELETE", "/v1/admin/apps/a%2Fb%20%3F") => answer(
            200,
            r#"{"app_id":"x","name":"","client_id":"","scopes":null,"token_ttl":0,"status":"inactive","deregistered_at":"2026-11-21T07:00:00Z"}"#,
        ),
        ("POST", "/v1/app/auth") => answer(200, r#"{"access_token":"jwt","expires_in":1800,"token_type":"Bearer"}"#),
        ("POST", "/v1/app/launch-tokens") => answer(
            201,
            r#"{"launch_token":"1a","expires_at":"2026-11-21T07:00:00Z","policy":{"allowed_scope":[],"max_ttl":5}}"#,
        ),
        _ => answer(404, ""),
    })
    .await;
    let (client, token) = (server.client(), Sensitive::from("admin-jwt"));
    let last = || {
        let seen = server.last();
        let bearer = seen
            .headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        (seen.body, bearer.unwrap_or_default())
    };

    let request = RegisterAppRequest {
        name: Some("order-reader".into()),
        scopes: Some(vec!["read:orders:*".into()]),
        token_ttl: None,
    };
    let registered = client.register_app(&token, &request).await.unwrap();
    assert_eq!(registered.client_secret.expose(), "5ec2e7");
    assert!(!format!("{registered:?}").contains("5ec2e7"));
    assert_eq!(
        last(),
        (
            r#"{"name":"order-reader","scopes":["read:orders:*"]}"#.into(),
            "Bearer admin-jwt".into()
        )
    );

    let listed = client.apps(&token).await.unwrap();
    assert_eq!((listed.total, listed.apps[0].status), (1, AppStatus::Active));
    assert_eq!(client.app(&token, "a/b ?").await.unwrap(), listed.apps[0]);
    let update = UpdateAppRequest {
        token_ttl: Some(60),
        ..UpdateAppRequest::default()
    };
    client.update_app(&token, "a/b ?", &update).await.unwrap();
    assert_eq!(last().0, r#"{"token_ttl":60}"#);
    let removed = client.remove_app(&token, "a/b ?").await.unwrap();
    assert_eq!(removed.status, AppStatus::Inactive);

    let issued = client
        .app_auth("or-0123456789ab", &Sensitive::from("5ec2e7"))
        .await
        .unwrap();
    assert_eq!((issued.expires_in.get(), issued.scopes.len()), (1800, 0));
    assert_eq!(
        last(),
        (
            r#"{"client_id":"or-0123456789ab","client_secret":"5ec2e7"}"#.into(),
            String::new()
        )
    );
    client
        .app_launch_token(&issued.access_token, &LaunchTokenRequest::default())
        .await
        .unwrap();
    assert_eq!(last().1, "Bearer jwt");
}
