use super::*;

fn put(generation: i64, sequence: i64) -> PutApp {
    PutPolicy {
        uid: "u".into(),
        generation,
        order: WriteOrder {
            lease_epoch: 1,
            sequence,
        },
        state: PolicyState::Ready,
        reason: None,
        spec: AppSpec {
            scopes: vec!["read:orders:*".into()],
            max_agent_ttl_seconds: 3600,
            audiences: Vec::new(),
            delegation_namespaces: Vec::new(),
            client: None,
        },
    }
}

#[test]
fn digest_ignores_the_order_and_nothing_else() {
    assert_eq!(put(1, 1).digest(), put(1, 2).digest());
    assert_ne!(put(1, 1).digest(), put(2, 1).digest());
}

#[test]
fn an_orch_id_leads_back_to_its_app() {
    assert_eq!(app_of_orch_id(&orch_id("shop", "orders")), Some(("shop", "orders")));
    for other in ["", "orders", "shop.orders", "k8s.shop"] {
        assert_eq!(app_of_orch_id(other), None, "{other}");
    }
}

#[test]
fn bulk_items_are_written_as_address_and_write() {
    let item = BulkItem::App {
        namespace: "shop".into(),
        name: "orders".into(),
        put: put(1, 1),
    };
    let text = serde_json::to_string(&item).unwrap();
    assert!(
        text.starts_with(r#"{"kind":"app","namespace":"shop","name":"orders","uid":"u""#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<PutApp>(&text).unwrap(), put(1, 1));
}
