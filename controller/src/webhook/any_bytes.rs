//! Whatever the bytes: an answer, and no panic.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::inject::{inject, tests::with_default};
use super::json::read;
use super::pod::Pod;
use super::review::{Decision, Request};
use crate::webhook::SidecarSettings;

fn settings() -> SidecarSettings {
    SidecarSettings {
        image: "i".into(),
        pull_policy: "Always".into(),
        uid: Some(64512),
        broker_url: "https://broker:8443".into(),
        audience: "a".into(),
        resources: crate::webhook::resources::DEFAULT.parse().unwrap(),
        guaranteed_cpu: "100m".parse().unwrap(),
        start_gate: crate::webhook::StartGate::Probe,
    }
}

fn answer(body: &[u8]) -> Option<Vec<u8>> {
    let request = Request::read(body).ok()?;
    let pod: Pod<'_> = read(request.object.0).ok()?;
    let decision = match inject(&pod, with_default(Some("common")), &settings()) {
        Ok(injection) => Decision::Injected(injection),
        Err(refusal) => Decision::Refused(refusal),
    };
    Some(decision.answer(&request.uid).unwrap())
}

/// A review of a pod that is injected already, so that everything is looked at.
fn injected() -> String {
    let review = |pod: &Value| {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod},
        })
    };
    let mut pod = json!({
        "metadata": {"annotations": {"agentwrit.io/scopes": "a:b:c", "agentwrit.io/containers": "app"}},
        "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 15080}]}], "initContainers": []},
    });
    let text = pod.to_string();
    let patch = inject(
        &read(text.as_bytes()).unwrap(),
        with_default(Some("common")),
        &settings(),
    )
    .unwrap()
    .patch;
    let patch: json_patch::Patch = serde_json::from_str(&patch.unwrap()).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    review(&pod).to_string()
}

#[test]
fn the_review_that_is_changed_is_answered() {
    let answer: Value = serde_json::from_slice(&answer(injected().as_bytes()).unwrap()).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(answer(&body).is_none());
    }

    #[test]
    fn any_change_of_a_review_has_an_answer(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "[\\[\\]{}\",:0-9a-z/.\\\\]{0,6}"), 1..4),
    ) {
        let mut body = injected().into_bytes();
        for (place, removed, put) in cuts {
            let start = place.index(body.len());
            let end = (start + removed).min(body.len());
            body.splice(start..end, put.into_bytes());
        }
        if let Some(answer) = answer(&body) {
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            prop_assert!(answer["response"]["allowed"].is_boolean());
        }
    }
}
