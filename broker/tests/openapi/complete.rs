//! What the attributes of the handlers leave out, because it holds for many endpoints or utoipa can't say it.

use std::collections::BTreeMap;

use agentwrit_protocol::{ErrorCode, Problem};
use serde_json::{Value, json};
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, AnyOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

use crate::components::{self, BEARER, SERVICE_ACCOUNT};
use crate::examples::example;

/// The extension in which a handler lists what it refuses: a code and an example of its detail, or a code with the
/// general detail.
const REFUSALS: &str = "x-refusals";
/// The request id in examples.
const REQUEST_ID: &str = "4f2a9c071be6d853";
/// Headers on every answer.
const COMMON_HEADERS: [&str; 5] = [
    "X-Request-ID",
    "X-Content-Type-Options",
    "Cache-Control",
    "X-Frame-Options",
    "Strict-Transport-Security",
];

const UNREADABLE: &str = "invalid_request: failed to read request body";
const TOO_LARGE: &str = "payload_too_large: request body must not exceed 1 MB";
const FAILURE: &str = "internal_error: unexpected failure";
const BUSY: &str = "unavailable: too many request bodies in flight";
const STORE_AWAY: &str = "unavailable: the store is unavailable; nothing was changed";
const TOO_MANY: &str = "rate_limited: rate limit exceeded, try again later";
const BEARER_REFUSALS: [&str; 4] = [
    "unauthorized: missing authorization header",
    "unauthorized: invalid authorization scheme",
    "unauthorized: token audience mismatch",
    "unauthorized: token verification failed",
];
const SERVICE_ACCOUNT_REFUSALS: [&str; 4] = [
    "forbidden: the request is not that of a caller who may do this",
    "rate_limited: too many attestations from this address",
    "unavailable: the Kubernetes API server could not be asked; nothing was changed",
    STORE_AWAY,
];

/// Refusals that many endpoints give in just this way, by name.
const SHARED: [(&str, &[&str]); 7] = [
    ("BodyUnreadable", &[UNREADABLE]),
    ("BodyTooLarge", &[TOO_LARGE]),
    ("BearerRefused", &BEARER_REFUSALS),
    ("RateLimited", &[TOO_MANY]),
    ("Failure", &[FAILURE]),
    ("Busy", &[BUSY]),
    ("StoreAway", &[BUSY, STORE_AWAY]),
];

/// The document.
pub fn document() -> OpenApi {
    let mut document = agentwrit_broker::http::openapi::endpoints();
    document.info = components::info();
    document.servers = Some(vec![components::server()]);
    let components = document.components.as_mut().unwrap();
    components::add_to(components);
    for (name, refusals) in SHARED {
        let refusals: Vec<Refusal> = refusals.iter().map(|text| Refusal::read(text)).collect();
        let response = with_headers(problem("/v1/revoke", &refusals), refusals[0].code.status());
        components.responses.insert(name.to_owned(), RefOr::T(response));
    }
    components.schemas.values_mut().for_each(drop_defaults);
    ask_for_a_change(components.schemas.get_mut("UpdateAppRequest").unwrap());
    for spec in ["AppSpec", "LaunchTokenSpec"] {
        let put = components.schemas.get_mut(&format!("PutPolicy_{spec}")).unwrap();
        refer_to(spec, put);
    }
    let schemas = json!(components.schemas);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete(path, operation, &schemas);
        }
    }
    document
}

/// The document as it is committed and served.
pub fn text() -> String {
    let text = document().to_pretty_json().unwrap() + "\n";
    // The names of two types that have a parameter.
    text.replace("PutPolicy_AppSpec", "PutApp")
        .replace("PutPolicy_LaunchTokenSpec", "PutLaunchToken")
}

/// `serde(default)` says what an absent member is read as in Rust, which is not what it means to the broker.
fn drop_defaults(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::Ref(reference) => reference.default = None,
        RefOr::T(Schema::Object(object)) => {
            object.default = None;
            object.properties.values_mut().for_each(drop_defaults);
        }
        RefOr::T(Schema::Array(array)) => array.default = None,
        RefOr::T(Schema::OneOf(choice)) => choice.default = None,
        RefOr::T(Schema::AllOf(whole)) => whole.items.iter_mut().for_each(drop_defaults),
        RefOr::T(_) => {}
    }
}

/// At least one member must be there, and not be empty.
fn ask_for_a_change(schema: &mut RefOr<Schema>) {
    let given = |member: &str, values: RefOr<Schema>| ObjectBuilder::new().property(member, values).required(member);
    let ttl = ObjectBuilder::new().schema_type(Type::Integer);
    let choice = AnyOfBuilder::new()
        .item(given("scopes", Ref::from_schema_name("Scopes").into()))
        .item(given("token_ttl", ttl.examples([1800]).into()));
    *schema = AllOfBuilder::new().item(schema.clone()).item(choice).into();
}

/// utoipa writes out what a type's parameter is; the document refers to it.
fn refer_to(spec: &str, put: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(put)) = put else {
        panic!("the schema of a struct is an object")
    };
    let mut reference = Ref::from_schema_name(spec);
    "What to enforce.".clone_into(&mut reference.description);
    put.properties.insert("spec".to_owned(), reference.into());
}

/// A code, and a detail that goes with it.
#[derive(Clone, PartialEq)]
struct Refusal {
    code: ErrorCode,
    detail: String,
}

impl Refusal {
    fn read(text: &str) -> Self {
        let text = match text {
            "rate_limited" => TOO_MANY,
            "unavailable" => STORE_AWAY,
            text => text,
        };
        let (code, detail) = text
            .split_once(": ")
            .unwrap_or_else(|| panic!("not a code and a detail: {text}"));
        let code = ErrorCode::from_text(code).unwrap_or_else(|| panic!("not an error code: {text}"));
        Self {
            code,
            detail: detail.to_owned(),
        }
    }
}

/// The texts within, which stand in lists and in lists of lists.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        _ => panic!("not a list of refusals: {value}"),
    }
}

fn complete(path: &str, operation: &mut Operation, schemas: &Value) {
    let mut statuses: BTreeMap<u16, Vec<Refusal>> = BTreeMap::new();
    for refusal in refusals(operation) {
        let known = statuses.entry(refusal.code.status()).or_default();
        if !known.contains(&refusal) {
            known.push(refusal);
        }
    }
    // Nobody needs a credential unless the attribute asks for one.
    operation.security.get_or_insert_default();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for content in body.content.values_mut() {
            add_example(content, schemas);
        }
    }
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else {
            panic!("{path}: a handler refers to a response")
        };
        for content in response.content.values_mut() {
            add_example(content, schemas);
        }
        *response = with_headers(response.clone(), status.parse().unwrap());
        if path.starts_with("/v1/k8s/") {
            add_header(response, "Agentwrit-Epoch");
        }
    }
    for (status, refusals) in statuses {
        let is_same = |shared: &[&str]| {
            refusals
                .iter()
                .cloned()
                .eq(shared.iter().map(|text| Refusal::read(text)))
        };
        let response = match SHARED.iter().find(|(_, shared)| is_same(shared)) {
            Some((name, _)) => RefOr::Ref(Ref::from_response_name(*name)),
            None => RefOr::T(with_headers(problem(path, &refusals), status)),
        };
        // What a handler says itself of a status is all that there is to say.
        responses.entry(status.to_string()).or_insert(response);
    }
}

/// What every endpoint refuses, what follows from the credential and the input that it asks for, and its own.
fn refusals(operation: &mut Operation) -> Vec<Refusal> {
    let mut texts_of_all: Vec<String> = [UNREADABLE, TOO_LARGE, FAILURE, BUSY].map(str::to_owned).into();
    let mut add = |more: &[&str]| texts_of_all.extend(more.iter().map(|text| (*text).to_owned()));
    let security = json!(operation.security);
    if let Some(scopes) = security.pointer(&format!("/0/{BEARER}")) {
        add(&BEARER_REFUSALS);
        add(&["insufficient_scope: token has been revoked", STORE_AWAY]);
        for scope in texts(scopes) {
            add(&[&format!("insufficient_scope: token lacks required scope: {scope}")]);
        }
    }
    if security.pointer(&format!("/0/{SERVICE_ACCOUNT}")).is_some() {
        add(&SERVICE_ACCOUNT_REFUSALS);
    }
    let is_in_path = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => matches!(parameter.parameter_in, ParameterIn::Path),
        RefOr::Ref(_) => false,
    };
    if operation.parameters.iter().flatten().any(is_in_path) {
        add(&["invalid_request: the path can't be read: its escapes must be UTF-8"]);
    }
    if operation.request_body.is_some() {
        add(&["invalid_request: malformed JSON body"]);
    }
    let own = operation.extensions.as_mut().and_then(|found| found.remove(REFUSALS));
    add(&texts(&own.unwrap_or_else(|| json!([]))));
    operation.extensions = None;
    texts_of_all.iter().map(|text| Refusal::read(text)).collect()
}

fn add_example(content: &mut RefOr<Content>, schemas: &Value) {
    if let RefOr::T(content) = content
        && content.example.is_none()
    {
        content.example = example(&json!(content.schema), schemas);
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
fn problem(path: &str, refusals: &[Refusal]) -> Response {
    let mut codes: Vec<&str> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for Refusal { code, detail } in refusals {
        if !codes.contains(&code.as_str()) {
            codes.push(code.as_str());
        }
        lines.push(format!("- `{code}`: {detail}"));
    }
    // The last one is the most particular.
    let Refusal { code, detail } = refusals.last().unwrap();
    let status = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([code.status()]));
    let codes = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let narrowed = ObjectBuilder::new()
        .property("status", status)
        .property("error_code", codes);
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(narrowed);
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
