//! The client against a small server of its own, over TLS and plain HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentwrit_client::{BrokerClient, Class, ClientConfig, Error, Identity, Renewal, Trust};
use agentwrit_protocol::apps::{AppStatus, RegisterAppRequest, UpdateAppRequest};
use agentwrit_protocol::k8s::{PodLaunchRequest, PolicyKind, WriteOrder};
use agentwrit_protocol::wire::LaunchTokenRequest;
use agentwrit_protocol::{ErrorCode, Sensitive};
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server saw of one request.
#[derive(Debug, Clone)]
struct Seen {
    method: String,
    path: String,
    headers: HeaderMap,
    body: String,
}

type Reply = Arc<dyn Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync>;

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    /// A server that answers with `reply`; `None` never answers.
    async fn start(tls: Option<TlsAcceptor>, reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                let (log, reply, tls) = (Arc::clone(&log), Arc::clone(&reply), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let seen = Seen {
                                method: parts.method.to_string(),
                                path: parts.uri.to_string(),
                                headers: parts.headers,
                                body: String::from_utf8(body.to_vec()).unwrap(),
                            };
                            log.lock().unwrap().push(seen.clone());
                            match reply(&seen) {
                                Some(response) => Ok::<_, Infallible>(response),
                                None => std::future::pending().await,
                            }
                        }
                    });
                    let builder = hyper::server::conn::http1::Builder::new();
                    match tls {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                        None => {
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            connections,
        }
    }

    async fn plain(reply: impl Fn(&Seen) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(reply)).await
    }

    fn config(&self) -> ClientConfig {
        ClientConfig::new(format!("http://{}", self.address))
    }

    fn client(&self) -> BrokerClient {
        BrokerClient::new(self.config()).unwrap()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

// `None`, no answer at all, is the other thing a reply can be.
#[allow(clippy::unnecessary_wraps)]
fn answer(status: u16, body: &str) -> Option<Response<Full<Bytes>>> {
    let response = Response::builder().status(status).header("Agentwrit-Epoch", "epoch-1");
    Some(response.body(Full::new(Bytes::from(body.to_owned()))).unwrap())
}

const HEALTH: &str = r#"{"status":"ok","version":"2.0.0","uptime":1,"db_connected":true,"audit_events_count":0}"#;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn tls_server(authority: &Authority) -> Server {
    Server::start(Some(authority.acceptor()), Arc::new(|_: &Seen| answer(200, HEALTH))).await
}

fn https(server: &Server, trust: Trust) -> BrokerClient {
    let url = format!("https://localhost:{}/", server.address.port());
    BrokerClient::new(ClientConfig {
        trust,
        ..ClientConfig::new(url)
    })
    .unwrap()
}

#[tokio::test]
async fn a_ca_file_is_read_again_when_its_symlink_moves() {
    let (first, second) = (Authority::new(), Authority::new());
    let server = tls_server(&second).await;
    let folder = tempfile::tempdir().unwrap();
    let (old, new, link) = (
        folder.path().join("1"),
        folder.path().join("2"),
        folder.path().join("ca.crt"),
    );
    std::fs::write(&old, first.pem()).unwrap();
    std::fs::write(&new, format!("{}{}", first.pem(), second.pem())).unwrap();
    std::os::unix::fs::symlink(&old, &link).unwrap();
    let client = https(&server, Trust::File(link.clone()));

    let error = client.health().await.unwrap_err();
    assert_eq!((error.kind(), error.class()), ("network", Class::Retry(None)));
    assert!(error.to_string().contains("certificate"), "{error}");

    // As the kubelet does it: a new link is renamed over the old one.
    let next = folder.path().join("next");
    std::os::unix::fs::symlink(&new, &next).unwrap();
    std::fs::rename(&next, &link).unwrap();
    assert_eq!(client.health().await.unwrap().status, "ok");

    std::fs::remove_file(&link).unwrap();
    let error = client.health().await.unwrap_err();
    assert_eq!(error.kind(), "ca");
    assert!(error.to_string().contains("ca.crt"), "{error}");
}

#[tokio::test]
async fn set_ca_replaces_trust_and_bad_bytes_change_nothing() {
    let (first, second) = (Authority::new(), Authority::new());
    let server = tls_server(&second).await;
    let client = https(&server, Trust::Pem(first.pem().into_bytes()));
    assert_eq!(client.health().await.unwrap_err().kind(), "network");
    client.clone().set_ca(second.pem().as_bytes()).unwrap();
    client.health().await.unwrap();
    assert!(client.set_ca(b"-----BEGIN NONSENSE-----").is_err());
    client.health().await.unwrap();
    // Trust that goes away takes effect at once: no old connection is used on.
    client.set_ca(first.pem().as_bytes()).unwrap();
    assert_eq!(client.health().await.unwrap_err().kind(), "network");
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let authority = Authority::new();
    let server = tls_server(&authority).await;
    let client = https(&server, Trust::Pem(authority.pem().into_bytes()));
    for _ in 0..5 {
        client.health().await.unwrap();
    }
    assert_eq!(*server.connections.lock().unwrap(), 1);
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
async fn the_identity_file_is_read_for_every_call() {
    let server = Server::plain(|_| {
        answer(
            201,
            r#"{"launch_token":"t","expires_at":"x","orch_id":"o","task_id":"p",
                "policy":{"allowed_scope":[],"max_ttl":1}}"#,
        )
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let client = BrokerClient::new(ClientConfig {
        identity: Some(Identity::File(path.clone())),
        ..server.config()
    })
    .unwrap();
    let request = PodLaunchRequest {
        policy: Some("order-reader".into()),
        ..PodLaunchRequest::default()
    };
    let error = client.pod_launch(&request).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), ("credential", Class::Retry(None)));
    for token in ["one", "two\n"] {
        std::fs::write(&path, token).unwrap();
        assert_eq!(client.pod_launch(&request).await.unwrap().task_id, "p");
        let wanted = format!("Bearer {}", token.trim());
        assert_eq!(server.last().headers["authorization"], wanted);
    }
    assert_eq!(server.last().body, r#"{"policy":"order-reader"}"#);
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(client.pod_launch(&request).await.unwrap_err().kind(), "credential");
    assert_eq!(server.client().list_policies().await.unwrap_err().kind(), "request");
}

#[tokio::test]
async fn renewal_sends_overlap_and_key_and_nothing_when_not_asked() {
    let server = Server::plain(|_| answer(200, r#"{"access_token":"new","expires_in":300}"#)).await;
    let client = server.client();
    let token = Sensitive::from("old");
    let renewed = client
        .renew(
            &token,
            Renewal {
                overlap_seconds: Some(10),
                idempotency_key: Some("key-1"),
                proof: Some("v1;t=1;sig=AA"),
            },
        )
        .await
        .unwrap();
    assert_eq!((renewed.access_token.expose(), renewed.expires_in), ("new", 300));
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
    assert_eq!(client.take_time(), Some(784_111_777));
    assert_eq!(client.take_time(), None, "each answer once");
    client.clone().challenge().await.unwrap_err();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(
        client.take_time(),
        Some(784_111_787),
        "of a refusal to another clone, nine seconds ago"
    );
    tokio::time::resume();
    client.jwks().await.unwrap_err();
    assert_eq!(client.take_time(), None, "one that can't be read says nothing");
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
        .delete_policy(PolicyKind::LaunchToken, "shop", "a/b", "u&x", order, true)
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
    assert_eq!((issued.expires_in, issued.scopes.len()), (1800, 0));
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

#[tokio::test]
async fn a_request_without_an_answer_says_what_was_in_the_way() {
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
