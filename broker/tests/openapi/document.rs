//! The document as a whole.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{PathItem, PathsBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, Header, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, OpenApiVersion, RefOr,
    ServerBuilder,
};

use crate::endpoint::{BEARER, SERVICE_ACCOUNT, shared_responses};
use crate::endpoints::{self, TAGS};
use crate::grammar::{Piece, constant, hex, number};
use crate::schemas;

/// The version of the wire contract, which is not that of the product.
const CONTRACT: &str = "2.0.0";

const INTRODUCTION: &str = "The API listener of the AgentWrit broker.

What holds for every request:

- Bodies are JSON, whatever their Content-Type says, and at most 1 MiB. Unknown members are ignored; `null` is the \
same as absent, and a body of `null` the same as `{}`; of duplicate members the last counts; bytes after the first \
value are ignored (but not by `POST /v1/admin/auth`).
- HEAD is answered wherever GET is. Another method of a path that is there is answered by 405 \
`method_not_allowed` with `Allow`, an unknown path by 404 `not_found`.
- A path with empty, `.` or `..` segments is redirected by 307 to the clean one.
- Errors are `application/problem+json` (RFC 9457); `error_code` comes from a closed list. Details are for people: \
beyond those that clients are promised, their wording may change.
- An inbound `X-Request-ID` of 1 to 128 characters `A-Za-z0-9._-` is kept, any other replaced, and it is on every \
answer. Every answer under `/v1/k8s/` carries `Agentwrit-Epoch`.

Which paths are there depends on settings: `/v1/k8s/*` only with `AA_ATTEST_AUDIENCE` and `AA_CONTROLLER_SUBJECT`; \
`/v1/metrics` unless `AA_API_METRICS=false`; `/livez` and `/readyz` only while `AA_OPS_ADDRESS` is empty, otherwise \
they are on that listener.";

/// The document.
pub fn document() -> OpenApi {
    let mut schemas = schemas::shared();
    let mut paths = PathsBuilder::new();
    let mut items: std::collections::BTreeMap<&str, PathItem> = std::collections::BTreeMap::new();
    for endpoint in endpoints::all(&mut schemas) {
        let (path, method, operation) = endpoint.build();
        items
            .entry(path)
            .or_default()
            .merge_operations(PathItem::new(method, operation));
    }
    for (path, item) in items {
        paths = paths.path(path, item);
    }
    let mut components = ComponentsBuilder::new().schemas_from_iter(schemas.complete());
    for (name, response) in shared_responses() {
        components = components.response(name, response);
    }
    for (name, header) in headers() {
        components = components.header(name, header);
    }
    let components = components
        .security_scheme(BEARER, bearer(BEARER_TEXT))
        .security_scheme(SERVICE_ACCOUNT, bearer(SERVICE_ACCOUNT_TEXT));
    let info = InfoBuilder::new()
        .title("AgentWrit broker")
        .version(CONTRACT)
        .description(Some(INTRODUCTION))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ));
    let tags = TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(info)
        .servers(Some([ServerBuilder::new()
            .url("/")
            .description(Some("The broker that serves this document"))
            .build()]))
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags))
        .build()
}

/// The document as it is committed and served.
pub fn text() -> String {
    let mut text = document().to_pretty_json().unwrap();
    text.push('\n');
    text
}

const BEARER_TEXT: &str = "A token of this broker: `Authorization: Bearer <token>`, with exactly one space. Tokens of \
admins come from `POST /v1/admin/auth`, of apps from `POST /v1/app/auth`, of agents from `POST /v1/register` and \
`POST /v1/delegate`.";
const SERVICE_ACCOUNT_TEXT: &str = "A projected Kubernetes ServiceAccount token made for the audience \
`AA_ATTEST_AUDIENCE`: of the controller (`AA_CONTROLLER_SUBJECT`), or bound to the pod that calls.";

fn bearer(text: &str) -> SecurityScheme {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(text));
    SecurityScheme::Http(scheme.build())
}

fn headers() -> [(&'static str, RefOr<Header>); 7] {
    [
        always(
            "X-Request-ID",
            "The request's id: the caller's own, or a new one.",
            crate::schemas::request_id(),
        ),
        always("X-Content-Type-Options", "No sniffing.", constant("nosniff")),
        always("Cache-Control", "Nothing may be kept.", constant("no-store")),
        always("X-Frame-Options", "Not in a frame.", constant("DENY")),
        sometimes(
            "Strict-Transport-Security",
            "With `AA_TLS_MODE` tls or mtls only.",
            constant("max-age=63072000; includeSubDomains"),
        ),
        sometimes("Retry-After", "Seconds to wait.", number(1, Some(60), 1)),
        always(
            "Agentwrit-Epoch",
            "Which store answers: new at its creation and at every restore.",
            hex(32),
        ),
    ]
}

fn sometimes(name: &'static str, text: &str, schema: Piece) -> (&'static str, RefOr<Header>) {
    let header = HeaderBuilder::new().description(Some(text)).schema(Some(schema));
    (name, RefOr::T(header.build()))
}

fn always(name: &'static str, text: &str, schema: Piece) -> (&'static str, RefOr<Header>) {
    let (name, mut header) = sometimes(name, text, schema);
    if let RefOr::T(header) = &mut header {
        // `required` of the Header Object, for which utoipa has no field.
        header.extensions = Some([("required", true)].into_iter().collect());
    }
    (name, header)
}
