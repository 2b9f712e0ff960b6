//! What holds for every request.

use agentwrit_testkit::Harness;
use std::io::{Read, Write};

use serde_json::json;

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let harness = Harness::new().await;
    for path in [
        "/",
        "/v1",
        "/v1/nope",
        "/v1/health/",
        "/v1/admin/apps/",
        "/v1/k8s/policies",
    ] {
        let answer = harness.get(path).await;
        answer.refused(404, "not_found", "no such path");
        assert_eq!(answer.json()["instance"], path);
    }
    let answer = harness.get("/v1%2Fhealth").await;
    answer.refused(404, "not_found", "no such path");
    assert_eq!(answer.json()["instance"], "/v1/health", "decoded, though no separator");
    let table = [
        ("DELETE", "/v1/health", "GET, HEAD"),
        ("POST", "/v1/audit/events", "GET, HEAD"),
        ("GET", "/v1/register", "POST"),
        ("PUT", "/v1/admin/auth", "POST"),
    ];
    for (method, path, allow) in table {
        let answer = harness.send(method, path, &[], "").await;
        assert_eq!(answer.problem().1, "method_not_allowed");
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
    }
    assert!(
        harness
            .events("")
            .await
            .iter()
            .all(|event| event["event_type"] == "admin_auth"),
        "nothing is audited"
    );
}

#[tokio::test]
async fn head_is_answered_wherever_get_is() {
    let harness = Harness::new().await;
    for path in ["/v1/health", "/v1/challenge", "/v1/metrics", "/.well-known/jwks.json"] {
        let answer = harness.send("HEAD", path, &[], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
        assert!(!answer.header("content-type").is_empty());
    }
    assert_eq!(harness.send("HEAD", "/v1/audit/events", &[], "").await.status, 401);
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let harness = Harness::new().await;
    for good in ["a", "A.b_c-9", &"x".repeat(128)] {
        let answer = harness.send("GET", "/v1/health", &[("x-request-id", good)], "").await;
        assert_eq!(answer.header("x-request-id"), good);
    }
    for bad in ["", "a b", "ä", "a;b", &"x".repeat(129)] {
        let answer = harness.send("GET", "/v1/nope", &[("x-request-id", bad)], "").await;
        let id = answer.header("x-request-id");
        assert!(
            id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()),
            "{bad:?} became {id:?}"
        );
        assert_eq!(answer.json()["request_id"], id);
    }
}

#[tokio::test]
async fn security_headers_are_on_every_answer() {
    let harness = Harness::new().await;
    let large = vec![b' '; 1_048_577];
    for answer in [
        harness.get("/v1/health").await,
        harness.get("/nope").await,
        harness.post("/v1/register", "{").await,
        harness.post("/v1/register", large).await,
        harness.get("/v1/audit/events").await,
    ] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("strict-transport-security"), "", "never over plain HTTP");
    }
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_the_largest() {
    let harness = Harness::new().await;
    let mut body = json!({"token": "x"}).to_string().into_bytes();
    body.resize(1_048_576, b' ');
    assert_eq!(harness.post("/v1/token/validate", &body).await.status, 200);
    body.push(b' ');
    for path in ["/v1/token/validate", "/nope"] {
        let answer = harness.post(path, &body).await;
        answer.refused(413, "payload_too_large", "request body must not exceed 1 MB");
    }
}

#[tokio::test]
async fn large_bodies_are_refused_before_or_while_they_are_sent() {
    let harness = Harness::new().await;
    let announced = b"POST /v1/register HTTP/1.1\r\nhost: b\r\ncontent-length: 99999999999\r\n\r\n";
    assert!(harness.raw(announced).await.starts_with("HTTP/1.1 413 "));
    let mut chunked = b"POST /v1/register HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..17 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&vec![b'x'; 65_536]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert!(harness.raw(&chunked).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_of_too_much_still_gets_the_answer() {
    let harness = Harness::new().await;
    // Closing with bytes unread resets the connection, now and then before the answer is read.
    let address = harness.address();
    let patient = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"POST /nope HTTP/1.1\r\nhost: b\r\ncontent-length: 2000000\r\nconnection: close\r\n\r\n")
            .unwrap();
        for _ in 0..200 {
            stream.write_all(&[b' '; 10_000]).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    };
    for _ in 0..40 {
        tokio::task::spawn_blocking(patient).await.unwrap();
    }
    let waits = b"POST /v1/register HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n";
    assert!(
        harness.raw(waits).await.starts_with("HTTP/1.1 413 "),
        "not told to go on"
    );
}

#[tokio::test]
async fn stalled_bodies_delay_no_other_request() {
    use tokio::io::AsyncWriteExt;
    let harness = Harness::new().await;
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = tokio::net::TcpStream::connect(harness.address()).await.unwrap();
        stream
            .write_all(b"POST /nope HTTP/1.1\r\nhost: b\r\ncontent-length: 1048576\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(&vec![b'x'; 1_048_575]).await.unwrap();
        held.push(stream);
    }
    let body = vec![b' '; 1000];
    for _ in 0..20 {
        assert_eq!(
            harness.post("/v1/token/validate", &body).await.status,
            400,
            "its own answer"
        );
    }
    drop(held);
}

#[tokio::test]
async fn escapes_are_decoded_and_untidy_paths_redirected() {
    let harness = Harness::new().await;
    assert_eq!(harness.get("/v1/%68ealth").await.status, 200);
    for (path, location) in [
        ("//v1/health", "/v1/health"),
        ("/v1/./health?a=b", "/v1/health?a=b"),
        ("/x/../v1/health", "/v1/health"),
    ] {
        let answer = harness.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (307, location), "{path}");
    }
}

#[tokio::test]
async fn problems_and_the_trail_show_the_decoded_path() {
    let harness = Harness::new().await;
    for (path, shown) in [
        ("/v1/%72evoke", "/v1/revoke"),
        ("/v1/admin/apps/%3Cx%3E?a=%3C", "/v1/admin/apps/<x>"),
        ("/v1/admin/apps/a%20b", "/v1/admin/apps/a b"),
        ("/v1/admin/apps/a%0Ab", "/v1/admin/apps/a\nb"),
    ] {
        let method = if path.contains("apps") { "GET" } else { "POST" };
        let answer = harness.send(method, path, &[], "").await;
        answer.refused(401, "unauthorized", "missing authorization header");
        assert_eq!(answer.json()["instance"], shown);
        assert_eq!(harness.last("token_auth_failed").await["resource"], shown);
    }
    for (path, shown) in [
        ("/v1%2Fhealth", "/v1/health"),
        ("/%3Cx%3E", "/<x>"),
        ("/%FF%2Fx", "/\u{fffd}/x"),
    ] {
        let answer = harness.get(path).await;
        answer.refused_like(404, "not_found", "");
        assert_eq!(answer.json()["instance"], shown);
    }
    let answer = harness.get("/%3Cx%3E").await;
    assert!(answer.text.contains(r"\u003cx\u003e"), "{answer:?}");
}

#[tokio::test]
async fn the_client_address_is_the_rightmost_untrusted_hop() {
    let body = json!({"secret": "wrong"}).to_string();
    for (proxies, wanted) in [("", "127.0.0.1"), ("127.0.0.0/8", "203.0.113.9")] {
        let harness = Harness::with(&[("AA_TRUSTED_PROXIES", proxies)]).await;
        let headers = [("x-forwarded-for", "1.1.1.1, 203.0.113.9")];
        assert_eq!(
            harness
                .send("POST", "/v1/admin/auth", &headers, body.clone())
                .await
                .status,
            401
        );
        assert_eq!(harness.last("admin_auth_failed").await["source"], wanted);
    }
}

#[tokio::test]
async fn without_a_content_type_json_is_json() {
    let harness = Harness::new().await;
    let answer = harness.post("/v1/token/validate", "{\"token\":\"x\"} trailing").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.text.ends_with("}\n") && answer.json().get("request_id").is_none());
}

#[tokio::test]
async fn without_one_host_nothing_is_served() {
    let harness = Harness::new().await;
    let table = [
        ("GET /v1/health HTTP/1.1\r\n", "missing Host header"),
        (
            "GET /v1/health HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
            "more than one Host header",
        ),
        (
            "GET http://a/v1/health HTTP/1.1\r\nhost: a\r\nHost: a\r\n",
            "more than one Host header",
        ),
        (
            "POST /v1/register HTTP/1.1\r\ncontent-length: 2\r\n",
            "missing Host header",
        ),
    ];
    for (head, detail) in table {
        let answer = harness
            .raw(format!("{head}connection: close\r\n\r\n{{}}").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
        assert!(answer.contains(&format!("\"detail\":\"{detail}\"")), "{answer}");
    }
    // Nobody had to name a host in those days.
    let old = harness.raw(b"GET /v1/health HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
}
