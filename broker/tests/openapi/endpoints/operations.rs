//! Keys, probes, metrics, the document itself.

use agentwrit_protocol::ErrorCode::{InternalError, NotFound};
use agentwrit_protocol::wire;
use serde_json::{Value, json};
use utoipa::openapi::Ref;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};

use super::super::endpoint::Endpoint;
use super::super::grammar::{any_number, any_text, choice, constant, matching, number};
use super::super::schemas::Schemas;

pub const TAG: &str = "Operations";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    schemas.shape::<wire::HealthResponse>(|shape| {
        shape
            .member("status", constant("ok"))
            .member("version", constant("2.0.0"))
            .member("uptime", number(0, None, 86))
            .member("audit_events_count", number(0, None, 17))
    });
    let key = ObjectBuilder::new()
        .description(Some("An Ed25519 public key (RFC 8037)."))
        .property("kty", constant("OKP"))
        .property("crv", constant("Ed25519"))
        .property(
            "x",
            matching("^[A-Za-z0-9_-]{43}$", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
        )
        .property(
            "kid",
            matching("^[A-Za-z0-9_-]{43}$", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        )
        .property("alg", constant("EdDSA"))
        .property("use", constant("sig"));
    let key = ["kty", "crv", "x", "kid", "alg", "use"]
        .into_iter()
        .fold(key, ObjectBuilder::required);
    schemas.add("JsonWebKey", key);
    let set = ObjectBuilder::new()
        .description(Some("A JSON Web Key Set (RFC 7517)."))
        .property(
            "keys",
            ArrayBuilder::new()
                .items(Ref::from_schema_name("JsonWebKey"))
                .min_items(Some(1)),
        )
        .required("keys");
    schemas.add("JsonWebKeySet", set);
    let liveness = ObjectBuilder::new()
        .property("status", choice(["alive", "dead"]))
        .required("status");
    schemas.add("Liveness", liveness);
    add_readiness(schemas);
    let discovery = ObjectBuilder::new()
        .description(Some(
            "OpenID Connect Discovery 1.0, as far as those need it who check tokens.",
        ))
        .property("issuer", matching("^https://", "https://broker.example.org"))
        .property(
            "jwks_uri",
            matching(
                "^https://.*/\\.well-known/jwks\\.json$",
                "https://broker.example.org/.well-known/jwks.json",
            ),
        )
        .property("response_types_supported", only("id_token"))
        .property("subject_types_supported", only("public"))
        .property("id_token_signing_alg_values_supported", only("EdDSA"));
    let discovery = [
        "issuer",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ]
    .into_iter()
    .fold(discovery, ObjectBuilder::required);
    schemas.add("Discovery", discovery);
    vec![
        health(),
        jwks(),
        discovery_document(),
        livez(),
        readyz(),
        metrics(),
        openapi(),
    ]
}

fn health() -> Endpoint {
    Endpoint::get("/v1/health", TAG, "health", "The broker's state, always with 200").answers(
        200,
        "`db_connected` is whether a store on disk answers.",
        "HealthResponse",
        json!({"status": "ok", "version": "2.0.0", "uptime": 86, "db_connected": true, "audit_events_count": 17}),
    )
}

fn jwks() -> Endpoint {
    Endpoint::get(
        "/.well-known/jwks.json",
        TAG,
        "jsonWebKeySet",
        "The keys that tokens are checked with",
    )
    .answers(
        200,
        "The key set.",
        "JsonWebKeySet",
        json!({"keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "alg": "EdDSA",
            "use": "sig",
        }]}),
    )
}

/// A list of this one text.
fn only(text: &str) -> ArrayBuilder {
    ArrayBuilder::new()
        .items(constant(text))
        .min_items(Some(1))
        .max_items(Some(1))
}

fn discovery_document() -> Endpoint {
    Endpoint::get(
        "/.well-known/openid-configuration",
        TAG,
        "openidConfiguration",
        "From the issuer to its keys",
    )
    .says("Only when `AA_ISSUER` is an https URL.")
    .answers(
        200,
        "The discovery document.",
        "Discovery",
        json!({
            "issuer": "https://broker.example.org",
            "jwks_uri": "https://broker.example.org/.well-known/jwks.json",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
        }),
    )
    .refuses(
        NotFound,
        "there is no discovery document: AA_ISSUER is not an https URL",
    )
}

/// A probe: 503 is its own answer, beside that of a broker with too many bodies in flight.
fn probe(endpoint: Endpoint, schema: &str, good: Value, bad: Value) -> Endpoint {
    let unavailable = agentwrit_protocol::ErrorCode::Unavailable;
    let content = |example: Value| {
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(schema)))
            .example(Some(example))
            .build()
    };
    endpoint
        .never(unavailable)
        .answers(200, "Yes.", schema, good)
        .answers_with(
            503,
            ResponseBuilder::new()
                .description("No.")
                .content("application/json", content(bad)),
        )
}

fn add_readiness(schemas: &mut Schemas) {
    let failing = ObjectBuilder::new()
        .description(Some("A dependency that fails, or will soon."))
        .property("dependency", any_text())
        .property("reason", any_text())
        .property("detail", any_text())
        .required("dependency")
        .required("reason");
    schemas.add("FailingDependency", failing);
    let disk = ObjectBuilder::new()
        .description(Some(
            "The disk of the store: bytes that are left, and those that are kept for what takes authority away.",
        ))
        .property("free_bytes", any_number(33_554_432))
        .property("reserve_bytes", any_number(33_554_432))
        .required("free_bytes")
        .required("reserve_bytes");
    schemas.add("DiskRoom", disk);
    let readiness = ObjectBuilder::new()
        .property("status", choice(["ready", "degraded", "unready"]))
        .property("version", any_text())
        .property(
            "failing",
            ArrayBuilder::new().items(Ref::from_schema_name("FailingDependency")),
        )
        .property(
            "warnings",
            ArrayBuilder::new().items(Ref::from_schema_name("FailingDependency")),
        )
        .property("disk", Ref::from_schema_name("DiskRoom"))
        .required("status")
        .required("version");
    schemas.add("Readiness", readiness);
}

fn livez() -> Endpoint {
    let endpoint = Endpoint::get(
        "/livez",
        TAG,
        "livez",
        "Whether the process can still do its work without a restart",
    );
    probe(
        endpoint,
        "Liveness",
        json!({"status": "alive"}),
        json!({"status": "dead"}),
    )
}

fn readyz() -> Endpoint {
    let endpoint = Endpoint::get(
        "/readyz",
        TAG,
        "readyz",
        "Whether the broker can do all of its work now",
    );
    probe(
        endpoint,
        "Readiness",
        json!({"status": "ready", "version": "0.1.0"}),
        json!({
            "status": "unready",
            "version": "0.1.0",
            "failing": [{"dependency": "store", "reason": "unreachable"}],
        }),
    )
}

fn metrics() -> Endpoint {
    let text = ContentBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .example(Some(json!(
            "# TYPE agentwrit_active_agents gauge\nagentwrit_active_agents 3\n"
        )))
        .build();
    Endpoint::get("/v1/metrics", TAG, "metrics", "Metrics in Prometheus' text format")
        .answers_with(
            200,
            ResponseBuilder::new()
                .description("The metrics.")
                .content("text/plain", text),
        )
        .refuses(InternalError, "metrics can't be encoded")
}

fn openapi() -> Endpoint {
    let document = ContentBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Object)))
        .build();
    Endpoint::get("/openapi.json", TAG, "openapi", "This document").answers_with(
        200,
        ResponseBuilder::new()
            .description("OpenAPI 3.1.")
            .content("application/json", document),
    )
}
