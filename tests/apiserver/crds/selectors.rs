//! Selectors of pods.

use super::*;

/// A LaunchToken with this requirement in its selector.
fn requiring(requirement: &Value) -> Value {
    changed(token(), "/spec/podSelector", json!({"matchExpressions": [requirement]}))
}

#[tokio::test]
async fn selectors_that_mean_nothing_are_refused() {
    let world = World::new("crds").await;
    let selecting = |labels: Value| changed(token(), "/spec/podSelector", json!({"matchLabels": labels}));
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (n.to_string(), json!(""))).collect();
    let values: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let exists = json!({"key": "a", "operator": "Exists"});
    let table = [
        (
            selecting(json!({"a b": ""})),
            vec!["spec.podSelector.matchLabels", "label keys have"],
        ),
        (
            selecting(json!({"a": "b c"})),
            vec!["spec.podSelector.matchLabels", "label values are"],
        ),
        (
            selecting(json!(many)),
            vec!["spec.podSelector.matchLabels", "at most 16 items"],
        ),
        (
            changed(
                token(),
                "/spec/podSelector",
                json!({"matchExpressions": vec![exists; 17]}),
            ),
            vec!["spec.podSelector.matchExpressions", "at most 16 items"],
        ),
        (
            requiring(&json!({"key": "a/b/c", "operator": "Exists"})),
            vec!["spec.podSelector.matchExpressions[0].key", "label keys have"],
        ),
        (
            requiring(&json!({"key": "a", "operator": "Gt", "values": ["1"]})),
            vec![
                "spec.podSelector.matchExpressions[0].operator",
                "In, NotIn, Exists or DoesNotExist",
            ],
        ),
        (
            requiring(&json!({"key": "a", "operator": "In"})),
            vec!["spec.podSelector.matchExpressions[0]", "need at least one of values"],
        ),
        (
            requiring(&json!({"key": "a", "operator": "NotIn", "values": []})),
            vec!["spec.podSelector.matchExpressions[0]", "need at least one of values"],
        ),
        (
            requiring(&json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            vec!["spec.podSelector.matchExpressions[0]", "take no values"],
        ),
        (
            requiring(&json!({"key": "a", "operator": "In", "values": ["-"]})),
            vec!["spec.podSelector.matchExpressions[0].values[0]", "label values are"],
        ),
        (
            requiring(&json!({"key": "a", "operator": "In", "values": values})),
            vec!["spec.podSelector.matchExpressions[0].values", "at most 32 items"],
        ),
        (
            requiring(&json!({"operator": "Exists"})),
            vec!["spec.podSelector.matchExpressions[0].key", "Required"],
        ),
    ];
    for (object, parts) in table {
        let sentence = sentence(create(&world, &object).await);
        for part in parts {
            assert!(sentence.contains(part), "{part:?} isn't in: {sentence}");
        }
    }
    world.done().await;
}

#[tokio::test]
async fn selectors_of_all_forms_are_accepted() {
    let world = World::new("crds").await;
    let widest = format!("{}.{}/{}", "x".repeat(63), "y".repeat(63), "Z".repeat(63));
    let values: Vec<String> = (0..32).map(|n| format!("{n:0>63}")).collect();
    let mut labels: serde_json::Map<String, Value> = (0..15).map(|n| (n.to_string(), json!(""))).collect();
    labels.insert(widest.clone(), json!("V.a_l-9"));
    let expressions: Vec<Value> = (0..16)
        .map(|_| json!({"key": widest, "operator": "NotIn", "values": values}))
        .collect();
    let selectors = [
        json!({}),
        json!({"matchLabels": labels, "matchExpressions": expressions}),
        json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}, {"key": "b", "operator": "Exists", "values": []}]}),
    ];
    for (number, selector) in selectors.into_iter().enumerate() {
        let object = changed(token(), "/spec/podSelector", selector.clone());
        let object = changed(object, "/metadata/name", json!(format!("reader-{number}")));
        let made = create(&world, &object).await.unwrap();
        assert_eq!(made.data["spec"]["podSelector"], selector);
    }
    world.done().await;
}
