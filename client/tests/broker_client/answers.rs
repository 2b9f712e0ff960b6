//! Answers, missing answers and refusals.

use super::*;

#[tokio::test]
async fn connections_are_kept_alive() {
    let authority = Authority::new();
    let server = tls_server(&authority).await;
    let client = https(&server, Trust::Pem(authority.pem().into_bytes()));
    for _ in 0..5 {
        client.health().await.unwrap();
    }
    assert_eq!(*server.connections.lock(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_meets_the_deadline() {
    let server = Server::plain(|_| None).await;
    let client = BrokerClient::new(ClientConfig {
        timeout: Duration::from_secs(3),
        ..server.config()
    })
    .unwrap();
    let start = tokio::time::Instant::now();
    let error = client.challenge().await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert_eq!(error.class(), Class::Retry(None));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn an_answer_over_the_bound_is_dropped() {
    let server = Server::plain(|_| answer(200, &"x".repeat(2000))).await;
    let client = BrokerClient::new(ClientConfig {
        max_response_bytes: 1000,
        ..server.config()
    })
    .unwrap();
    let error = client.health().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1000 }), "{error:?}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_a_reason_to_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = BrokerClient::new(ClientConfig::new(format!("http://{address}"))).unwrap();
    let error = client.challenge().await.unwrap_err();
    assert_eq!((error.kind(), error.class()), ("network", Class::Retry(None)));
}

#[tokio::test]
async fn refusals_keep_code_detail_hint_and_retry_after() {
    let server = Server::plain(|seen| {
        let (status, body) = match seen.headers["authorization"].to_str().unwrap() {
            "Bearer t-revoked" => (
                403,
                r#"{"type":"urn:agentwrit:error:revoked","title":"Forbidden","status":403,
                    "detail":"token has been revoked","error_code":"revoked","hint":"ask"}"#,
            ),
            "Bearer limited" => (429, r#"{"error_code":"rate_limited","detail":"slow down"}"#),
            "Bearer away" => (503, r#"{"error_code":"unavailable","detail":"store"}"#),
            "Bearer gateway" => (404, "<html>nothing here</html>"),
            _ => (500, "{}"),
        };
        let mut response = answer(status, body).unwrap();
        response.headers_mut().insert("Retry-After", "7".parse().unwrap());
        Some(response)
    })
    .await;
    let client = server.client();
    let after = Some(Duration::from_secs(7));
    let table = [
        (
            "t-revoked",
            Class::Denied(ErrorCode::Revoked),
            "the broker refused with 403 revoked: token has been revoked (ask)",
        ),
        ("limited", Class::RateLimited(after), "429 rate_limited: slow down"),
        ("away", Class::Retry(after), "not available: 503 unavailable: store"),
        ("gateway", Class::Denied(ErrorCode::NotFound), "is this URL a broker's?"),
        ("other", Class::Retry(after), "500 internal_error"),
    ];
    for (token, class, text) in table {
        let error = client
            .renew(&Sensitive::from(token), Renewal::default())
            .await
            .unwrap_err();
        assert_eq!(error.class(), class, "{token}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn tokens_never_show_even_when_the_broker_repeats_them() {
    let server = Server::plain(|seen| {
        let bearer = seen.headers["authorization"].to_str().unwrap();
        let token = bearer.trim_start_matches("Bearer ").to_owned();
        match seen.path.as_str() {
            "/v1/token/release" => answer(403, &format!(r#"{{"error_code":"forbidden","detail":"no {token}"}}"#)),
            _ => answer(
                200,
                &format!(r#"{{"access_token":{{"odd":"{token}"}},"expires_in":5}}"#),
            ),
        }
    })
    .await;
    let client = server.client();
    let token = Sensitive::from("eyJhunter2");
    for error in [
        client.release(&token).await.unwrap_err(),
        client.renew(&token, Renewal::default()).await.unwrap_err(),
        client.release(&Sensitive::from("hunter2\n")).await.unwrap_err(),
    ] {
        let body = error.refusal().map(|refusal| refusal.body.clone());
        let text = format!("{error} {error:?} {body:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(!format!("{client:?}").contains("hunter2"));
}

#[tokio::test]
async fn the_brokers_clock_is_known_from_every_answer() {
    let dated = |seen: &Seen| {
        let (status, date) = match seen.path.as_str() {
            "/v1/health" => (200, "Sun, 06 Nov 1994 08:49:37 GMT"),
            "/v1/challenge" => (503, "Sun, 06 Nov 1994 08:49:38 GMT"),
            _ => (200, "yesterday"),
        };
        let response = Response::builder().status(status).header("Date", date);
        Some(response.body(Full::new(Bytes::from(HEALTH))).unwrap())
    };
    let server = Server::plain(dated).await;
    let client = server.client();
    assert_eq!(client.take_time(), None);
    client.health().await.unwrap();
    assert_eq!(client.take_time(), Some(UnixSeconds::new(784_111_777)));
    assert_eq!(client.take_time(), None, "each answer once");
    client.clone().challenge().await.unwrap_err();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(
        client.take_time(),
        Some(UnixSeconds::new(784_111_787)),
        "of a refusal to another clone, nine seconds ago"
    );
    tokio::time::resume();
    client.jwks().await.unwrap_err();
    assert_eq!(client.take_time(), None, "one that can't be read says nothing");
}

#[tokio::test]
async fn a_request_without_an_answer_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let hangs_up = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let short = hangs_up.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(hangs_up.accept().await);
        }
    });
    let (ours, other) = (Authority::new(), Authority::new());
    let server = tls_server(&other).await;
    let untrusted = https(&server, Trust::Pem(ours.pem().into_bytes()));
    let plain = |url: &str| BrokerClient::new(ClientConfig::new(url)).unwrap();
    let table = [
        (plain(&format!("http://{nobody}")), &["connection_refused"][..]),
        (plain(&format!("http://{short}")), &["connection_closed", "network"]),
        (untrusted, &["tls"]),
    ];
    for (client, wanted) in table {
        let error = client.health().await.unwrap_err();
        assert!(wanted.contains(&error.symptom()), "{}: {error}", error.symptom());
        assert_eq!(error.kind(), "network");
    }
}
