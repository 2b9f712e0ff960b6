use super::*;

fn put() -> PutPolicy<LaunchTokenSpec> {
    PutPolicy {
        uid: "0b6c".into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 1,
            sequence: 1,
        },
        state: PolicyState::Ready,
        reason: None,
        spec: LaunchTokenSpec {
            app: "orders".into(),
            agent_name: "reader".into(),
            allowed_scopes: vec!["read:orders:*".into()],
            max_ttl_seconds: 300,
            service_account_names: vec!["reader".into()],
            pod_selector: None,
            max_active_agents: None,
        },
    }
}

fn key() -> PolicyKey {
    PolicyKey::launch_token("shop", "reader")
}

#[test]
fn each_wrong_value_is_named() {
    type Change = fn(&mut PutPolicy<LaunchTokenSpec>);
    let table: [(Change, ErrorCode, &str); 16] = [
        (|p| p.uid = PolicyUid::default(), ErrorCode::InvalidRequest, "uid"),
        (|p| p.generation = -1, ErrorCode::InvalidRequest, "generation"),
        (
            |p| p.order.lease_epoch = -1,
            ErrorCode::InvalidRequest,
            "order.lease_epoch",
        ),
        (|p| p.order.sequence = -1, ErrorCode::InvalidRequest, "order.sequence"),
        (|p| p.reason = Some("a\nb".into()), ErrorCode::InvalidRequest, "reason"),
        (|p| p.spec.app = "Orders".into(), ErrorCode::InvalidRequest, "spec.app"),
        (
            |p| p.spec.agent_name.clear(),
            ErrorCode::InvalidRequest,
            "spec.agent_name",
        ),
        (
            |p| p.spec.allowed_scopes.clear(),
            ErrorCode::InvalidRequest,
            "spec.allowed_scopes",
        ),
        (
            |p| p.spec.allowed_scopes = vec!["read:orders:x".into(); 65],
            ErrorCode::InvalidScopeFormat,
            "spec.allowed_scopes has 65 items",
        ),
        (
            |p| p.spec.allowed_scopes = vec![format!("read:orders:{}", "x".repeat(245))],
            ErrorCode::InvalidScopeFormat,
            "spec.allowed_scopes[0] is 257 bytes",
        ),
        (
            |p| p.spec.allowed_scopes = vec!["read:orders".into()],
            ErrorCode::InvalidScopeFormat,
            "spec.allowed_scopes",
        ),
        (
            |p| p.spec.allowed_scopes = vec!["read:a:b,c".into()],
            ErrorCode::InvalidScopeFormat,
            "spec.allowed_scopes",
        ),
        (
            |p| p.spec.allowed_scopes = vec!["admin:revoke:*".into()],
            ErrorCode::Forbidden,
            "spec.allowed_scopes",
        ),
        (
            |p| p.spec.max_ttl_seconds = 59,
            ErrorCode::InvalidTtl,
            "spec.max_ttl_seconds",
        ),
        (
            |p| p.spec.max_ttl_seconds = 86_401,
            ErrorCode::InvalidTtl,
            "spec.max_ttl_seconds",
        ),
        (
            |p| p.spec.service_account_names.clear(),
            ErrorCode::InvalidRequest,
            "spec.service_account_names",
        ),
    ];
    for (change, code, field) in table {
        let mut put = put();
        change(&mut put);
        let error = Write::launch_token(key(), put).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.detail.starts_with(field), "{error}");
    }
    Write::launch_token(key(), put()).unwrap();
}

#[test]
fn names_are_labels() {
    for (namespace, name) in [
        ("", "a"),
        ("a", ""),
        ("A", "a"),
        ("a", "-a"),
        ("a", "a.b"),
        ("a", &"x".repeat(53)),
    ] {
        let error = Write::launch_token(PolicyKey::launch_token(namespace, name), put()).unwrap_err();
        assert!(error.detail.starts_with("name"), "{namespace}/{name}: {error}");
    }
}
