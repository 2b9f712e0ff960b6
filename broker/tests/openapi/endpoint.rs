//! One method of one path: who may call it, what it takes, everything that it answers.

use std::collections::BTreeMap;

use agentwrit_protocol::{ErrorCode, Problem};
use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Ref, RefOr, Required, Schema};

use crate::grammar::{Piece, choice};

/// Name of the security scheme of AgentWrit's own tokens.
pub const BEARER: &str = "bearer";
/// Name of the security scheme of Kubernetes' tokens.
pub const SERVICE_ACCOUNT: &str = "serviceAccount";
/// The request id in examples.
pub const REQUEST_ID: &str = "4f2a9c071be6d853";
/// Headers on every answer.
pub const COMMON_HEADERS: [&str; 5] = [
    "X-Request-ID",
    "X-Content-Type-Options",
    "Cache-Control",
    "X-Frame-Options",
    "Strict-Transport-Security",
];

const UNREADABLE: &str = "failed to read request body";
const TOO_LARGE: &str = "request body must not exceed 1 MB";
const FAILURE: &str = "unexpected failure";
const BUSY: &str = "too many request bodies in flight";
const STORE_AWAY: &str = "the store is unavailable; nothing was changed";
const TOO_MANY: &str = "rate limit exceeded, try again later";
const BEARER_REFUSALS: [(ErrorCode, &str); 4] = [
    (ErrorCode::Unauthorized, "missing authorization header"),
    (ErrorCode::Unauthorized, "invalid authorization scheme"),
    (ErrorCode::Unauthorized, "token audience mismatch"),
    (ErrorCode::Unauthorized, "token verification failed"),
];

/// Refusals that many endpoints give in just this way, by name.
const SHARED: [(&str, &[(ErrorCode, &str)]); 7] = [
    ("BodyUnreadable", &[(ErrorCode::InvalidRequest, UNREADABLE)]),
    ("BodyTooLarge", &[(ErrorCode::PayloadTooLarge, TOO_LARGE)]),
    ("BearerRefused", &BEARER_REFUSALS),
    ("RateLimited", &[(ErrorCode::RateLimited, TOO_MANY)]),
    ("Failure", &[(ErrorCode::InternalError, FAILURE)]),
    ("Busy", &[(ErrorCode::Unavailable, BUSY)]),
    (
        "StoreAway",
        &[(ErrorCode::Unavailable, BUSY), (ErrorCode::Unavailable, STORE_AWAY)],
    ),
];

/// The shared refusals as components.
pub fn shared_responses() -> impl Iterator<Item = (&'static str, Response)> {
    SHARED.into_iter().map(|(name, refusals)| {
        let refusals: Vec<(ErrorCode, String)> = refusals
            .iter()
            .map(|(code, text)| (*code, (*text).to_owned()))
            .collect();
        let status = refusals.first().unwrap().0.status();
        (name, with_headers(problem("/v1/revoke", status, &refusals), status))
    })
}

/// One method of one path.
pub struct Endpoint {
    pub path: &'static str,
    pub method: HttpMethod,
    operation: OperationBuilder,
    successes: Vec<(u16, Response)>,
    refusals: Vec<(ErrorCode, String)>,
    kubernetes: bool,
}

impl Endpoint {
    fn new(method: HttpMethod, path: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new()
            .tag(tag)
            .operation_id(Some(id))
            .summary(Some(summary))
            // Nobody, until somebody is named.
            .securities(Some([]));
        Self {
            path,
            method,
            operation,
            successes: Vec::new(),
            refusals: Vec::new(),
            kubernetes: false,
        }
        .refuses(ErrorCode::InvalidRequest, UNREADABLE)
        .refuses(ErrorCode::PayloadTooLarge, TOO_LARGE)
        .refuses(ErrorCode::InternalError, FAILURE)
        .refuses(ErrorCode::Unavailable, BUSY)
    }

    pub fn get(path: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new(HttpMethod::Get, path, tag, id, summary)
    }

    pub fn post(path: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new(HttpMethod::Post, path, tag, id, summary)
    }

    pub fn put(path: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new(HttpMethod::Put, path, tag, id, summary)
    }

    pub fn delete(path: &'static str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new(HttpMethod::Delete, path, tag, id, summary)
    }

    /// More than the summary says.
    pub fn says(mut self, text: &str) -> Self {
        self.operation = self.operation.description(Some(text));
        self
    }

    /// Any bearer of ours that stands.
    pub fn bearer(mut self) -> Self {
        self.operation = self.operation.security(SecurityRequirement::new(BEARER, [""; 0]));
        for (code, detail) in BEARER_REFUSALS {
            self = self.refuses(code, detail);
        }
        self.refuses(ErrorCode::InsufficientScope, "token has been revoked")
            .stores()
    }

    /// A bearer of ours whose subject and scope fit.
    pub fn bearer_with(self, scope: &str) -> Self {
        self.bearer().refuses(
            ErrorCode::InsufficientScope,
            &format!("token lacks required scope: {scope}"),
        )
    }

    /// A projected ServiceAccount token; only where attestation is configured.
    pub fn service_account(mut self) -> Self {
        self.operation = self
            .operation
            .security(SecurityRequirement::new(SERVICE_ACCOUNT, [""; 0]));
        self.kubernetes()
            .refuses(
                ErrorCode::Forbidden,
                "the request is not that of a caller who may do this",
            )
            .refuses(ErrorCode::RateLimited, "too many attestations from this address")
            .refuses(
                ErrorCode::Unavailable,
                "the Kubernetes API server could not be asked; nothing was changed",
            )
            .stores()
    }

    /// It is under `/v1/k8s`: its answers name the store's epoch.
    pub fn kubernetes(mut self) -> Self {
        self.kubernetes = true;
        self
    }

    /// It reads or writes the store.
    pub fn stores(self) -> Self {
        self.refuses(ErrorCode::Unavailable, STORE_AWAY)
    }

    /// It has a limit.
    pub fn limited(self) -> Self {
        self.refuses(ErrorCode::RateLimited, TOO_MANY)
    }

    fn parameter(mut self, place: ParameterIn, name: &str, required: bool, text: &str, schema: Piece) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(if required { Required::True } else { Required::False })
            .description(Some(text))
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    pub fn in_path(self, name: &str, text: &str, schema: Piece) -> Self {
        self.parameter(ParameterIn::Path, name, true, text, schema).refuses(
            ErrorCode::InvalidRequest,
            "the path can't be read: its escapes must be UTF-8",
        )
    }

    pub fn in_query(self, name: &str, required: bool, text: &str, schema: Piece) -> Self {
        self.parameter(ParameterIn::Query, name, required, text, schema)
    }

    pub fn in_header(self, name: &str, text: &str, schema: Piece) -> Self {
        self.parameter(ParameterIn::Header, name, false, text, schema)
    }

    /// The JSON body that it needs.
    pub fn takes(self, schema: &str, example: Value) -> Self {
        self.body(schema, Required::True, example)
            .refuses(ErrorCode::InvalidRequest, "malformed JSON body")
    }

    /// A JSON body that may be left out.
    pub fn may_take(self, schema: &str, example: Value) -> Self {
        self.body(schema, Required::False, example)
            .refuses(ErrorCode::InvalidRequest, "malformed JSON body")
    }

    fn body(mut self, schema: &str, required: Required, example: Value) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(schema)))
            .example(Some(example))
            .build();
        let body = RequestBodyBuilder::new()
            .content("application/json", content)
            .required(Some(required));
        self.operation = self.operation.request_body(Some(body.build()));
        self
    }

    /// An answer with a JSON body.
    pub fn answers(self, status: u16, text: &str, schema: &str, example: Value) -> Self {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(schema)))
            .example(Some(example))
            .build();
        self.answers_with(
            status,
            ResponseBuilder::new()
                .description(text)
                .content("application/json", content),
        )
    }

    /// An answer of another kind.
    pub fn answers_with(mut self, status: u16, response: ResponseBuilder) -> Self {
        self.successes.push((status, response.build()));
        self
    }

    /// A refusal: its code, and the detail or what it says.
    pub fn refuses(mut self, code: ErrorCode, detail: &str) -> Self {
        self.refusals.push((code, detail.to_owned()));
        self
    }

    /// Without refusals of this status: the general ones that this endpoint never gives.
    pub fn never(mut self, code: ErrorCode) -> Self {
        self.refusals.retain(|(refused, _)| *refused != code);
        self
    }

    pub fn build(self) -> (&'static str, HttpMethod, Operation) {
        let Self {
            path,
            method,
            mut operation,
            successes,
            refusals,
            kubernetes,
        } = self;
        for (status, response) in successes {
            let mut response = with_headers(response, status);
            if kubernetes {
                add_header(&mut response, "Agentwrit-Epoch");
            }
            operation = operation.response(status.to_string(), response);
        }
        let mut by_status: BTreeMap<u16, Vec<(ErrorCode, String)>> = BTreeMap::new();
        for (code, detail) in refusals {
            by_status.entry(code.status()).or_default().push((code, detail));
        }
        for (status, refusals) in by_status {
            let same = |shared: &[(ErrorCode, &str)]| {
                let given = refusals.iter().map(|(code, detail)| (*code, detail.as_str()));
                given.eq(shared.iter().copied())
            };
            let response = match SHARED.iter().find(|(_, shared)| same(shared)) {
                Some((name, _)) => RefOr::Ref(Ref::from_response_name(*name)),
                None => RefOr::T(with_headers(problem(path, status, &refusals), status)),
            };
            operation = operation.response(status.to_string(), response);
        }
        (path, method, operation.build())
    }
}

fn with_headers(mut response: Response, status: u16) -> Response {
    for name in COMMON_HEADERS {
        add_header(&mut response, name);
    }
    if matches!(status, 429 | 503) {
        add_header(&mut response, "Retry-After");
    }
    response
}

fn add_header(response: &mut Response, name: &str) {
    let reference = Ref::new(format!("#/components/headers/{name}"));
    response.headers.insert(name.to_owned(), RefOr::Ref(reference));
}

/// All refusals of one status: what they say, the codes among them, an example.
fn problem(path: &str, status: u16, refusals: &[(ErrorCode, String)]) -> Response {
    let mut codes: Vec<&str> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for (code, detail) in refusals {
        if !codes.contains(&code.as_str()) {
            codes.push(code.as_str());
        }
        lines.push(format!("- `{code}`: {detail}"));
    }
    let narrowed = ObjectBuilder::new()
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some([status])),
        )
        .property("error_code", choice(codes));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(narrowed);
    // The last one is the most particular.
    let (code, detail) = refusals.last().unwrap();
    let mut example = Problem::new(*code, detail.as_str());
    path.clone_into(&mut example.instance);
    REQUEST_ID.clone_into(&mut example.request_id);
    let content = ContentBuilder::new()
        .schema(Some(RefOr::T(Schema::AllOf(schema.build()))))
        .example(Some(json!(example)))
        .build();
    ResponseBuilder::new()
        .description(lines.join("\n"))
        .content("application/problem+json", content)
        .build()
}
