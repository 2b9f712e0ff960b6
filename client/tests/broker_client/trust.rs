//! Whom the client trusts, and what it shows of itself.

use super::*;

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
