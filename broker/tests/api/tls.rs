//! TLS over real sockets.

use std::sync::Arc;

use agentwrit_testkit::{Authority, Harness, Issued, send_over};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

async fn connect(
    harness: &Harness,
    trusted: &Authority,
    client: Option<Issued>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(vec![own.der()], own.key_der()).unwrap(),
    };
    let stream = TcpStream::connect(harness.address()).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("broker.test").unwrap(), stream)
        .await
}

fn folder_with(authority: &Authority) -> Arc<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    authority.issue("broker.test").write(folder.path(), "tls");
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    Arc::new(folder)
}

const FILES: [(&str, &str); 3] = [
    ("AA_TLS_MODE", "tls"),
    ("AA_TLS_CERT", "{folder}/tls.crt"),
    ("AA_TLS_KEY", "{folder}/tls.key"),
];

#[tokio::test]
async fn over_tls_answers_carry_hsts() {
    let authority = Authority::new();
    let harness = Harness::in_folder(folder_with(&authority), &FILES).await.unwrap();
    let stream = connect(&harness, &authority, None).await.unwrap();
    let answer = send_over(stream, "GET", "/v1/health", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("strict-transport-security"),
        "max-age=63072000; includeSubDomains"
    );
    assert!(
        connect(&harness, &Authority::new(), None).await.is_err(),
        "by another authority"
    );
}

#[tokio::test]
async fn a_changed_certificate_is_served_and_a_broken_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = folder_with(&old);
    let files = agentwrit_server::tls::TlsFiles {
        cert: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
        client_ca: None,
    };
    let tls = agentwrit_server::tls::Tls::load(files).unwrap();
    assert!(!tls.refresh().unwrap());
    new.issue("broker.test").write(folder.path(), "tls");
    assert!(tls.refresh().unwrap());
    assert!(!tls.refresh().unwrap());
    std::fs::write(folder.path().join("tls.crt"), "half a file").unwrap();
    let error = tls.refresh().unwrap_err();
    assert!(error.to_string().contains("tls.crt"), "{error}");
    new.issue("broker.test").write(folder.path(), "tls");
    let other = new.issue("broker.test");
    std::fs::write(folder.path().join("tls.crt"), other.pem()).unwrap();
    assert!(tls.refresh().is_err(), "a certificate whose key is another");
}

#[tokio::test]
async fn mtls_refuses_clients_without_a_certificate() {
    let authority = Authority::new();
    let mut settings = FILES.to_vec();
    settings[0].1 = "mtls";
    settings.push(("AA_TLS_CLIENT_CA", "{folder}/ca.crt"));
    let harness = Harness::in_folder(folder_with(&authority), &settings).await.unwrap();
    let stream = connect(&harness, &authority, Some(authority.issue("client")))
        .await
        .unwrap();
    assert_eq!(send_over(stream, "GET", "/v1/health", &[], "").await.status, 200);
    for client in [None, Some(Authority::new().issue("client"))] {
        // With TLS 1.3 the refusal comes after the client's side of the handshake.
        if let Ok(stream) = connect(&harness, &authority, client).await {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
                .await
                .unwrap();
            tokio::spawn(connection);
            let request = http::Request::get("/v1/health")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            assert!(sender.send_request(request).await.is_err());
        }
    }
}
