//! The `OpenAPI` document: made from the attributes of handlers and wire types, committed as `docs/openapi.json`, served
//! as it is there.
//!
//! Only this test asks for the feature `openapi`, so nothing that ships holds the machinery.
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod complete;
mod components;
mod examples;
mod routes;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

fn parsed() -> Value {
    serde_json::from_str(&complete::text()).unwrap()
}

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let wanted = complete::text();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "docs/openapi.json differs; run UPDATE_DOCS=1 cargo test -p agentwrit-broker --test openapi"
    );
}

/// Calls `visit` for every object within.
fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            visit(members);
            for member in members.values() {
                walk(member, visit);
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(item, visit);
            }
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = parsed();
    let mut used = BTreeSet::new();
    walk(&document, &mut |members| {
        if let Some(Value::String(reference)) = members.get("$ref") {
            used.insert(reference.clone());
        }
    });
    let mut made = BTreeSet::new();
    for kind in ["schemas", "headers", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            made.insert(format!("#/components/{kind}/{name}"));
        }
    }
    assert_eq!(used, made);
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document = parsed();
    let (mut ids, mut operations) = (BTreeSet::new(), 0);
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            ids.insert(operation["operationId"].as_str().unwrap().to_owned());
            operations += 1;
        }
    }
    assert_eq!(ids.len(), operations);
}
