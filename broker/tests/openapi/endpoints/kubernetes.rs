//! Policies and attestation of pods.

use agentwrit_protocol::ErrorCode::{
    Conflict, Forbidden, InvalidRequest, InvalidScopeFormat, InvalidTtl, LaunchTokenNotFound, MaxActiveAgents,
    PodNotSelected, PolicyNotReady, RateLimited, Revoked, ServiceAccountNotAllowed, StaleWriter, Suspended,
};
use agentwrit_protocol::{StoreMark, k8s};
use serde_json::{Value, json};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{Ref, Schema};

use super::super::endpoint::Endpoint;
use super::super::grammar::{
    array, base64, choice, constant, dns_label, hex, matching, moment, number, pod_scopes, secret_hex, text, uid,
};
use super::super::schemas::{Schemas, Shape};

pub const TAG: &str = "Kubernetes";

const UID: &str = "7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90";
const PUBLIC_KEY: &str = "GX9rI+FshTLGq8g4+tRO5e+pvXe7Uo8mGPxYMwzSg0k=";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    shapes(schemas);
    let mut endpoints = vec![
        list_policies(),
        put_all(),
        mark(),
        launch(),
        ended(),
        release(),
        denials(),
    ];
    for (path, kind, schema, example) in [
        ("/v1/k8s/policies/apps/{namespace}/{name}", "App", "PutApp", app()),
        (
            "/v1/k8s/policies/launch-tokens/{namespace}/{name}",
            "LaunchToken",
            "PutLaunchToken",
            launch_token(),
        ),
    ] {
        endpoints.push(put(path, kind, schema, example));
        endpoints.push(delete(path, kind));
    }
    endpoints
}

fn app() -> Value {
    json!({
        "uid": UID,
        "generation": 4,
        "order": {"lease_epoch": 3, "sequence": 17},
        "state": "ready",
        "spec": {"scopes": ["read:orders:*"], "max_agent_ttl_seconds": 3600},
    })
}

fn launch_token() -> Value {
    json!({
        "uid": UID,
        "generation": 1,
        "order": {"lease_epoch": 3, "sequence": 18},
        "state": "ready",
        "spec": {
            "app": "orders",
            "agent_name": "order-reader",
            "allowed_scopes": ["read:orders:*"],
            "max_ttl_seconds": 900,
            "service_account_names": ["reader"],
        },
    })
}

fn shapes(schemas: &mut Schemas) {
    schemas.shape::<k8s::BulkRequest>(|shape| {
        let items = array(
            Ref::from_schema_name("BulkItem").into(),
            1,
            Some(k8s::MAX_BULK_ITEMS),
            &json!([]),
        );
        shape.member("items", items)
    });
    schemas.replace("BulkItem", bulk_item());
    schemas.shape::<k8s::PutPolicyResponse>(|shape| {
        shape
            .written()
            .member("digest", hex(64))
            .member("revoked", number(0, None, 0))
            .requires(&["revoked"])
    });
    schemas.shape::<k8s::BulkResult>(Shape::written);
    schemas.shape::<k8s::BulkResponse>(|shape| shape);
    schemas.shape::<k8s::PolicySummary>(|shape| {
        shape
            .written()
            .member("digest", hex(64))
            .member("active_agents", number(0, None, 2))
            .member("issued", number(0, None, 9))
    });
    schemas.shape::<k8s::PolicyListResponse>(|shape| shape.member("epoch", hex(32)));
    schemas.shape::<k8s::RevokedResponse>(|shape| shape.member("revoked", number(0, None, 1)));
    schemas.shape::<k8s::PodLaunchRequest>(|shape| {
        shape
            .member("policy", dns_label(52, "reader"))
            .member("public_key", base64(32, PUBLIC_KEY))
            .member("scopes", pod_scopes(&["read:orders:*"]))
            .member("ttl_seconds", number(1, None, 600))
            .requires(&["policy", "public_key"])
    });
    schemas.shape::<k8s::PodLaunchResponse>(|shape| {
        shape
            .member("launch_token", secret_hex(64))
            .member("expires_at", moment(0))
            .member("orch_id", matching(r"^k8s\.", "k8s.shop.orders"))
            .member("task_id", uid())
    });
    schemas.shape::<k8s::PodEndedRequest>(|shape| {
        shape
            .member("namespace", text(63, "shop"))
            .member("name", text(253, "reader-x7k2p"))
            .member("reason", text(256, "deleted"))
    });
    schemas.shape::<StoreMark>(|shape| {
        shape
            .member("epoch", hex(32))
            .member("sequence", number(0, None, 1042))
            .member("head", hex(64))
    });
    schemas.shape::<k8s::MarkRequest>(|shape| shape);
    schemas.shape::<k8s::MarkResponse>(|shape| shape);
    schemas.shape::<k8s::PodReleaseResponse>(|shape| shape);
    schemas.shape::<k8s::Denial>(|shape| shape.member("cursor", number(1, None, 8)));
    schemas.shape::<k8s::DenialsResponse>(|shape| shape.member("next", number(0, None, 8)));
}

/// One item: the body of a single write, and what its path would say.
fn bulk_item() -> Schema {
    let address = |kind: &str| {
        ObjectBuilder::new()
            .property("kind", constant(kind))
            .property("namespace", dns_label(63, "shop"))
            .property("name", dns_label(52, "orders"))
            .required("kind")
            .required("namespace")
            .required("name")
    };
    let item = |put: &str, kind: &str| AllOfBuilder::new().item(address(kind)).item(Ref::from_schema_name(put));
    OneOfBuilder::new()
        .description(Some("One item of a bulk write."))
        .item(item("PutApp", "app"))
        .item(item("PutLaunchToken", "launch_token"))
        .into()
}

fn is_put(endpoint: Endpoint) -> Endpoint {
    endpoint
        .refuses(InvalidScopeFormat, "spec.scopes has 65 items: at most 64 are allowed")
        .refuses(
            InvalidScopeFormat,
            "spec.scopes[0] is 257 bytes long: at most 256 are allowed",
        )
        .refuses(
            InvalidScopeFormat,
            "spec.scopes \"read:orders\" must be action:resource:identifier",
        )
        .refuses(
            InvalidTtl,
            "spec.max_agent_ttl_seconds must be 60 to 86400 seconds, not 5",
        )
        .refuses(
            Forbidden,
            "spec.scopes \"admin:x:y\": the families admin: and app: can't be granted to agents",
        )
        .refuses(Conflict, "the object was removed; its UID can't come back")
        .refuses(StaleWriter, "a write with a higher order was accepted before")
}

fn addressed(endpoint: Endpoint) -> Endpoint {
    endpoint
        .in_path("namespace", "metadata.namespace.", dns_label(63, "shop"))
        .in_path("name", "metadata.name.", dns_label(52, "orders"))
}

fn put(path: &'static str, kind: &str, schema: &str, example: Value) -> Endpoint {
    let endpoint = Endpoint::put(
        path,
        TAG,
        &format!("putPolicy{kind}"),
        &format!("Writes one {kind} policy"),
    );
    let endpoint = addressed(endpoint)
        .says("For the controller. All or nothing; equal content is answered without a write.")
        .service_account()
        .takes(schema, example)
        .answers(
            200,
            "Accepted.",
            "PutPolicyResponse",
            json!({"digest": "4f2a9c071be6d853".repeat(4), "revoked": 0}),
        )
        .refuses(InvalidRequest, "generation must be 0 or more, not -1");
    is_put(endpoint)
}

fn delete(path: &'static str, kind: &str) -> Endpoint {
    let endpoint = Endpoint::delete(
        path,
        TAG,
        &format!("deletePolicy{kind}"),
        &format!("Removes one {kind} policy"),
    );
    addressed(endpoint)
        .says("For the controller. Leaves a tombstone for the UID; may be repeated.")
        .service_account()
        .in_query("uid", true, "metadata.uid of what is removed.", uid())
        .in_query("lease_epoch", true, "As in `order`.", number(0, None, 3))
        .in_query("sequence", true, "As in `order`.", number(0, None, 19))
        .in_query("revoke", true, "Whether its sessions end.", choice(["true", "false"]))
        .answers(200, "Gone.", "RevokedResponse", json!({"revoked": 1}))
        .refuses(InvalidRequest, "query parameter uid is required")
        .refuses(StaleWriter, "a write with a higher order was accepted before")
}

fn list_policies() -> Endpoint {
    Endpoint::get(
        "/v1/k8s/policies",
        TAG,
        "listPolicies",
        "Digests of all policies, and the pods with sessions",
    )
    .says("For the controller: one request compares everything.")
    .service_account()
    .answers(
        200,
        "Everything.",
        "PolicyListResponse",
        json!({
            "epoch": "4f2a9c071be6d853".repeat(2),
            "lease_epoch": 3,
            "policies": [],
            "pods": [{"uid": UID, "namespace": "shop", "name": "reader-x7k2p"}],
        }),
    )
}

fn put_all() -> Endpoint {
    let mut item = app();
    item["kind"] = json!("app");
    item["namespace"] = json!("shop");
    item["name"] = json!("orders");
    let endpoint = Endpoint::put(
        "/v1/k8s/policies",
        TAG,
        "putPolicies",
        "Writes many policies, each with a result of its own",
    );
    endpoint
        .says("For the controller. Apps come before their launch tokens; one refused item spoils no other.")
        .service_account()
        .takes("BulkRequest", json!({"items": [item]}))
        .answers(
            200,
            "One result an item, in the order sent.",
            "BulkResponse",
            json!({"results": [{
                "kind": "app",
                "namespace": "shop",
                "name": "orders",
                "accepted": {"digest": "4f2a9c071be6d853".repeat(4), "revoked": 0},
            }]}),
        )
        .refuses(InvalidRequest, "items must have 1 to 500 items, not 0")
}

fn launch() -> Endpoint {
    Endpoint::post(
        "/v1/k8s/launch-tokens",
        TAG,
        "launchPod",
        "A launch token for the pod that calls",
    )
    .says("For sidecars. The launch token is good once, for 30 s, and bound to key, `orch_id` and `task_id`.")
    .service_account()
    .takes(
        "PodLaunchRequest",
        json!({"policy": "reader", "public_key": PUBLIC_KEY, "renewal_proof": true}),
    )
    .answers(
        201,
        "What to register with.",
        "PodLaunchResponse",
        json!({
            "launch_token": "4f2a9c071be6d853".repeat(4),
            "expires_at": "2026-11-21T09:30:00Z",
            "orch_id": "k8s.shop.orders",
            "task_id": UID,
            "policy": {"allowed_scope": ["read:orders:*"], "max_ttl": 900},
        }),
    )
    .refuses(InvalidRequest, "policy is required")
    .refuses(InvalidScopeFormat, "scopes has 65 items: at most 64 are allowed")
    .refuses(
        InvalidScopeFormat,
        "scopes[0] is 257 bytes long: at most 256 are allowed",
    )
    .refuses(
        InvalidScopeFormat,
        "scopes \"read:orders\" must be action:resource:identifier",
    )
    .refuses(InvalidTtl, "ttl_seconds must be 1 or more")
    .refuses(
        ServiceAccountNotAllowed,
        "the pod's ServiceAccount isn't listed in the LaunchToken",
    )
    .refuses(PodNotSelected, "the pod doesn't match the LaunchToken's selector")
    .refuses(Suspended, "the AgentApp or LaunchToken is suspended")
    .refuses(PolicyNotReady, "the policy is withdrawn until it is repaired")
    .refuses(MaxActiveAgents, "the LaunchToken's limit of live agents is reached")
    .refuses(Revoked, "a person revoked the pod's agent")
    .refuses(LaunchTokenNotFound, "the pod's namespace has no such LaunchToken")
    .refuses(RateLimited, "one registration per 10 s and pod, three at once")
}

fn mark() -> Endpoint {
    let mark = StoreMark {
        epoch: "4f2a9c071be6d853".repeat(2),
        sequence: 1042,
        head: "4f2a9c071be6d853".repeat(4),
    };
    Endpoint::post(
        "/v1/k8s/mark",
        TAG,
        "compareMark",
        "Compares the store with what is remembered of it",
    )
    .says(
        "For the controller, which keeps the mark in its Lease. A store that stands before the mark, has another history \
         or never had its epoch was put back from a copy: it begins a new epoch and refuses all tokens of before. A text \
         that is no mark counts as one of an unknown epoch.",
    )
    .service_account()
    .takes("MarkRequest", json!({"mark": mark.text()}))
    .answers(
        200,
        "The mark to keep from now on.",
        "MarkResponse",
        json!({"mark": mark, "restored": false}),
    )
    .refuses(InvalidRequest, "malformed JSON body")
}

fn ended() -> Endpoint {
    Endpoint::post(
        "/v1/k8s/pods/{uid}/ended",
        TAG,
        "podEnded",
        "Ends all authority of a pod",
    )
    .says("For the controller. The pod's UID can't come back for 25 h.")
    .service_account()
    .in_path("uid", "metadata.uid of the pod.", uid())
    .takes(
        "PodEndedRequest",
        json!({"namespace": "shop", "name": "reader-x7k2p", "reason": "deleted"}),
    )
    .answers(
        200,
        "Its sessions have ended.",
        "RevokedResponse",
        json!({"revoked": 1}),
    )
    .refuses(
        InvalidRequest,
        "reason must be 1 to 256 bytes without control characters",
    )
}

fn release() -> Endpoint {
    Endpoint::post(
        "/v1/k8s/pods/{uid}/release",
        TAG,
        "releasePod",
        "Lifts the quarantine of a pod",
    )
    .says("For people: a revocation that hits a pod's agent quarantines the pod.")
    .kubernetes()
    .bearer_with("admin:revoke:*")
    .in_path("uid", "metadata.uid of the pod.", uid())
    .answers(
        200,
        "Whether it was in quarantine.",
        "PodReleaseResponse",
        json!({"released": true}),
    )
    .refuses(
        InvalidRequest,
        "uid must be 1 to 128 characters of A-Z, a-z, 0-9, '-', '.' and '_'",
    )
}

fn denials() -> Endpoint {
    Endpoint::get("/v1/k8s/denials", TAG, "listDenials", "Recent refusals by pod")
        .says("For the controller, which writes them as Events.")
        .service_account()
        .in_query("after", false, "`next` of the answer before.", number(0, None, 8))
        .answers(
            200,
            "Oldest first.",
            "DenialsResponse",
            json!({
                "denials": [{
                    "cursor": 8,
                    "at": "2026-11-21T09:30:00Z",
                    "namespace": "shop",
                    "pod": "reader-x7k2p",
                    "pod_uid": UID,
                    "policy": "reader",
                    "error_kind": "pod_rate_limited",
                    "message": "The pod registers too often.",
                }],
                "next": 8,
            }),
        )
        .refuses(
            InvalidRequest,
            "query parameter after must be a cursor: a whole number, 0 or more",
        )
}
