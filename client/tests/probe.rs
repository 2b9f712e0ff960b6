//! What each layer of the way to a broker says, against listeners that have one fault each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;

use agentwrit_client::{BrokerClient, ClientConfig, TlsFacts, TlsProblem, Trust};
use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use agentwrit_testkit::{Authority, Issued};
use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn root() -> Authority {
    Authority::named("root", |params| params.not_after = in_days(1000))
}

/// A certificate for `name`, good between these days from now.
fn leaf(issuer: &Authority, name: &str, from: i64, to: i64) -> Issued {
    issuer.issue_with(name, KeyPair::generate().unwrap(), |params| {
        (params.not_before, params.not_after) = (in_days(from), in_days(to));
    })
}

/// Whole seconds, as certificates count them.
fn in_days(days: i64) -> OffsetDateTime {
    let now = SystemClock.now().replace_nanosecond(0).unwrap();
    now + Duration::days(days)
}

/// A listener that answers the first connection with TLS, or with words.
async fn listener(tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        match tls {
            Some(acceptor) => drop(acceptor.accept(stream).await),
            None => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap(),
        }
    });
    address
}

async fn probe(address: SocketAddr, trusted: &Authority) -> Result<TlsFacts, TlsProblem> {
    let client = BrokerClient::new(ClientConfig {
        trust: Trust::Pem(trusted.pem().into_bytes()),
        ..ClientConfig::new(format!("https://localhost:{}", address.port()))
    })
    .unwrap();
    assert_eq!(client.authority(), ("localhost", address.port()));
    let addresses = client.resolve().await.unwrap();
    let stream = client.connect(&addresses).await.unwrap();
    client.handshake(stream, &SystemClock).await
}

#[tokio::test]
async fn the_end_of_a_chain_is_that_of_its_first_certificate_to_end() {
    for (middle_ends, leaf_ends, wanted) in [(365, 90, 90), (30, 90, 30)] {
        let root = root();
        let middle = root.below("middle", |params| params.not_after = in_days(middle_ends));
        let server = leaf(&middle, "localhost", -1, leaf_ends).acceptor(&[middle.der()]);
        let facts = probe(listener(Some(server)).await, &root).await.unwrap();
        assert_eq!(facts.version, "TLS 1.3");
        let (expires, wanted) = (facts.expires.unwrap(), in_days(wanted));
        assert!((expires - wanted).abs() < Duration::minutes(5), "{expires} {wanted}");
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_named() {
    let (authority, other) = (root(), root());
    let day = |days| in_days(days).date().to_string();
    let table = [
        (
            leaf(&authority, "localhost", -20, -10).acceptor(&[]),
            &authority,
            format!("a certificate of the broker's chain has expired on {}", day(-10)),
        ),
        (
            leaf(&authority, "localhost", 10, 20).acceptor(&[]),
            &authority,
            format!("a certificate of the broker's chain is not valid before {}", day(10)),
        ),
        (
            leaf(&authority, "broker.example", -1, 20).acceptor(&[]),
            &authority,
            "the broker's certificate is not for \"localhost\" but for broker.example".to_owned(),
        ),
        (
            leaf(&authority, "localhost", -1, 20).acceptor(&[]),
            &other,
            "the broker's certificate is signed by an authority that isn't trusted".to_owned(),
        ),
    ];
    for (acceptor, trusted, wanted) in table {
        let problem = probe(listener(Some(acceptor)).await, trusted).await.unwrap_err();
        assert_eq!(problem.to_string(), wanted);
    }
    let problem = probe(listener(None).await, &authority).await.unwrap_err();
    assert!(matches!(problem, TlsProblem::NotTls), "{problem:?}");
}

#[tokio::test]
async fn nobody_listening_and_no_such_name_are_different_faults() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let client = BrokerClient::new(ClientConfig::new(format!("http://127.0.0.1:{port}"))).unwrap();
    let addresses = client.resolve().await.unwrap();
    let error = client.connect(&addresses).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let client = BrokerClient::new(ClientConfig {
        allow_plain_http: true,
        ..ClientConfig::new("http://broker.invalid")
    })
    .unwrap();
    assert!(client.resolve().await.is_err(), "RFC 6761: .invalid has no addresses");
}
