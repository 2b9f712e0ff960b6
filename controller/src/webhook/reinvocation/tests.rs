//! What other admission plugins, backups and people do to an injected pod, as JSON patches (RFC 6902). In the pod the
//! sidecar is the first of two init containers; there are two containers, and volumes 0 to 2 are ours.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::webhook::inject::inject;
use crate::webhook::inject::tests::with_default;
use crate::webhook::json::read;
use crate::webhook::tests::settings;

#[derive(Deserialize)]
struct Case {
    #[serde(alias = "says")]
    what: String,
    patch: json_patch::Patch,
}

fn cases(text: &str) -> Vec<(String, Value)> {
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    let injected = injected();
    let changed = cases.into_iter().map(|case| {
        let mut pod = injected.clone();
        json_patch::patch(&mut pod, &case.patch).unwrap_or_else(|error| panic!("{}: {error}", case.what));
        (case.what, pod)
    });
    changed.collect()
}

fn run(pod: &Value) -> Result<Option<String>, String> {
    let text = pod.to_string();
    let injected = inject(&read(text.as_bytes()).unwrap(), with_default(None), &settings());
    injected
        .map(|injection| injection.patch)
        .map_err(|refusal| refusal.to_string())
}

fn patched(pod: &Value) -> Value {
    let mut patched = pod.clone();
    if let Some(patch) = run(pod).unwrap() {
        let patch: json_patch::Patch = serde_json::from_str(&patch).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    patched
}

fn injected() -> Value {
    patched(&json!({
        "metadata": {"name": "shop", "annotations": {"agentwrit.io/launch-token": "reader"}},
        "spec": {
            "initContainers": [{"name": "prepare", "image": "p"}],
            "containers": [{"name": "app", "image": "a"}, {"name": "log", "image": "l"}],
        },
    }))
}

/// Lists without an order sorted.
fn sorted(mut pod: Value) -> Value {
    let lists = [
        "/spec/volumes",
        "/spec/initContainers/0/env",
        "/spec/initContainers/0/volumeMounts",
    ];
    for list in lists {
        let items = pod.pointer_mut(list).unwrap().as_array_mut().unwrap();
        items.sort_by_key(Value::to_string);
    }
    pod
}

#[test]
fn changes_by_platforms_are_kept() {
    for (what, pod) in cases(include_str!("cases/kept.json")) {
        assert_eq!(run(&pod), Ok(None), "{what}");
    }
}

#[test]
fn missing_parts_are_put_back() {
    for (what, pod) in cases(include_str!("cases/put_back.json")) {
        assert!(run(&pod).unwrap().is_some(), "{what}");
        let whole = patched(&pod);
        assert_eq!(run(&whole), Ok(None), "{what}: a further look changes nothing");
        assert_eq!(sorted(whole), sorted(injected()), "{what}");
    }
}

#[test]
fn a_contradiction_is_refused_with_field_and_right_value() {
    for (says, pod) in cases(include_str!("cases/refused.json")) {
        let sentence = run(&pod).expect_err(&says);
        assert!(sentence.contains(&says), "{says}: {sentence}");
    }
}

#[test]
fn a_container_that_is_added_later_gets_the_token() {
    let mut pod = injected();
    let late = json!({"name": "late", "image": "l"});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    let pod = patched(&pod);
    let containers = &pod["spec"]["containers"];
    assert_eq!(containers[2]["volumeMounts"], containers[0]["volumeMounts"]);
    assert_eq!(containers[2]["env"], containers[0]["env"]);
    assert_eq!(run(&pod), Ok(None));
}

#[test]
fn a_wish_that_comes_later_is_put_in() {
    let mut pod = injected();
    pod["metadata"]["annotations"]["agentwrit.io/ttl-seconds"] = json!("60");
    let pod = patched(&pod);
    let last = pod["spec"]["initContainers"][0]["env"].as_array().unwrap().last();
    assert_eq!(last, Some(&json!({"name": "AGENTWRIT_TTL_SECONDS", "value": "60"})));
    assert_eq!(run(&pod), Ok(None));
}

#[test]
fn a_dollar_is_kept_from_the_kubelet() {
    let with = |scopes: &str| {
        patched(&json!({
            "metadata": {"annotations": {"agentwrit.io/launch-token": "reader", "agentwrit.io/scopes": scopes}},
            "spec": {"containers": [{"name": "app", "image": "a"}]},
        }))
    };
    let value = "/spec/initContainers/0/env/3/value";
    for (scopes, stored) in [
        ("read:$(HOME):1", "read:$$(HOME):1"),
        ("read:$:1", "read:$$:1"),
        ("read:a$$b:1", "read:a$$$$b:1"),
    ] {
        let pod = with(scopes);
        assert_eq!(pod.pointer(value), Some(&json!(stored)));
        assert_eq!(run(&pod), Ok(None), "{scopes}");
    }
    // As the version before wrote it: right where the kubelet changes nothing.
    for (scopes, is_right) in [("read:$a:1", true), ("read:$(HOME):1", false), ("read:a$$b:1", false)] {
        let mut pod = with(scopes);
        *pod.pointer_mut(value).unwrap() = json!(scopes);
        assert_eq!(run(&pod).is_ok(), is_right, "{scopes}");
    }
}

#[test]
fn a_sentence_never_repeats_a_long_text() {
    let long = "x".repeat(100_000);
    for (pointer, value) in [
        ("/spec/initContainers/0/env/0/value", json!(long)),
        ("/spec/initContainers/0/restartPolicy", json!(long)),
        ("/spec/initContainers/0/volumeMounts/0/mountPath", json!(long)),
        ("/spec/volumes/0/name", json!(format!("agentwrit-{long}"))),
        ("/spec/containers/0/name", json!(format!("agentwrit-{long}"))),
        ("/spec/volumes/0", json!({"name": "agentwrit-token", &long: {}})),
    ] {
        let mut pod = injected();
        *pod.pointer_mut(pointer).unwrap() = value;
        let sentence = run(&pod).unwrap_err();
        assert!(sentence.len() < 600, "{pointer}: {}", sentence.len());
    }
}
