//! What endpoints share: headers, security schemes, the introduction.

use agentwrit_protocol::schema::{Hex32, RequestId};
use agentwrit_protocol::wire::WIRE_VERSION;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, Header, Info, InfoBuilder, LicenseBuilder, Ref, RefOr, Schema, Server, ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};

/// Name of the security scheme of AgentWrit's own tokens.
pub const BEARER: &str = "bearer";
/// Name of the security scheme of Kubernetes' tokens.
pub const SERVICE_ACCOUNT: &str = "serviceAccount";

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
const BEARER_TEXT: &str = "A token of this broker: `Authorization: Bearer <token>`, with exactly one space. Tokens of \
admins come from `POST /v1/admin/auth`, of apps from `POST /v1/app/auth`, of agents from `POST /v1/register` and \
`POST /v1/delegate`. An endpoint names the scope that the token needs.";
const SERVICE_ACCOUNT_TEXT: &str = "A projected Kubernetes ServiceAccount token made for the audience \
`AA_ATTEST_AUDIENCE`: of the controller (`AA_CONTROLLER_SUBJECT`), or bound to the pod that calls.";

pub fn info() -> Info {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0"));
    let info = InfoBuilder::new().title("AgentWrit broker").version(WIRE_VERSION);
    info.description(Some(INTRODUCTION))
        .license(Some(license.build()))
        .build()
}

pub fn server() -> Server {
    let server = ServerBuilder::new().url("/");
    server.description(Some("The broker that serves this document")).build()
}

pub fn add_to(components: &mut Components) {
    for (name, text) in [(BEARER, BEARER_TEXT), (SERVICE_ACCOUNT, SERVICE_ACCOUNT_TEXT)] {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let scheme = scheme.description(Some(text)).build();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
    let constant = |value| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([value]))
    };
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1.0))
        .maximum(Some(60.0))
        .examples([1]);
    let headers = [
        always(
            "X-Request-ID",
            "The request's id: the caller's own, or a new one.",
            reference::<RequestId>(),
        ),
        always("X-Content-Type-Options", "No sniffing.", constant("nosniff")),
        always(
            "Cache-Control",
            "`no-store`, but for public documents that may be kept for a while.",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some("^(no-store|public, max-age=[0-9]+)$"))
                .examples(["no-store"]),
        ),
        always("X-Frame-Options", "Not in a frame.", constant("DENY")),
        sometimes(
            "Strict-Transport-Security",
            "With `AA_TLS_MODE` tls or mtls only.",
            constant("max-age=63072000; includeSubDomains"),
        ),
        sometimes("Retry-After", "Seconds to wait.", seconds),
        always(
            "Agentwrit-Epoch",
            "Which store answers: new at its creation and at every restore.",
            reference::<Hex32>(),
        ),
    ];
    for (name, header) in headers {
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
    // Only parameters and headers refer to some schemas, and utoipa does not collect from those.
    for (name, schema) in [
        (RequestId::name(), RequestId::schema()),
        (Hex32::name(), Hex32::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn sometimes(name: &'static str, text: &str, schema: impl Into<RefOr<Schema>>) -> (&'static str, Header) {
    let header = HeaderBuilder::new().description(Some(text)).schema(Some(schema));
    (name, header.build())
}

fn always(name: &'static str, text: &str, schema: impl Into<RefOr<Schema>>) -> (&'static str, Header) {
    let (name, mut header) = sometimes(name, text, schema);
    // `required` of the Header Object, for which utoipa has no field.
    header.extensions = Some([("required", true)].into_iter().collect());
    (name, header)
}
