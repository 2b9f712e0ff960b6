//! Schemas of the wire types: derived from them, then told what the types can't say.

use std::collections::BTreeMap;

use agentwrit_protocol::audit::{AuditEvent, EventType};
use agentwrit_protocol::claims::{Claims, DelegationRecord};
use agentwrit_protocol::{ErrorCode, Problem, k8s};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AllOfBuilder, AnyOfBuilder, Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::grammar::*;

/// Every schema by name.
#[derive(Default)]
pub struct Schemas(BTreeMap<String, RefOr<Schema>>);

/// One object schema on its way to completion.
pub struct Shape {
    name: String,
    object: Object,
}

impl Shape {
    /// These members are always there, and never null.
    pub fn requires(mut self, members: &[&str]) -> Self {
        for member in members {
            without_null(self.property(member));
            if !self.object.required.iter().any(|required| required == member) {
                self.object.required.push((*member).to_owned());
            }
        }
        self
    }

    /// Members that may be absent are never null: what the broker writes.
    pub fn written(mut self) -> Self {
        for property in self.object.properties.values_mut() {
            without_null(property);
        }
        self
    }

    /// A member's values; its description stays, and so does whether it may be null.
    pub fn member(mut self, member: &str, values: RefOr<Schema>) -> Self {
        let property = self.property(member);
        let (description, nullable) = (description(property), is_nullable(property));
        let mut values = values;
        describe(&mut values, description);
        if nullable {
            with_null(&mut values);
        }
        *property = values;
        self
    }

    fn property(&mut self, member: &str) -> &mut RefOr<Schema> {
        let name = &self.name;
        let found = self.object.properties.get_mut(member);
        found.unwrap_or_else(|| panic!("{name} has no member {member}"))
    }
}

fn description(piece: &RefOr<Schema>) -> Option<String> {
    match piece {
        RefOr::Ref(reference) => Some(reference.description.clone()).filter(|text| !text.is_empty()),
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::Array(array)) => array.description.clone(),
        RefOr::T(Schema::OneOf(choices)) => choices.items.iter().find_map(description),
        RefOr::T(_) => None,
    }
}

fn describe(piece: &mut RefOr<Schema>, text: Option<String>) {
    match piece {
        RefOr::Ref(reference) => reference.description = text.unwrap_or_default(),
        RefOr::T(Schema::Object(object)) => object.description = text,
        RefOr::T(Schema::Array(array)) => array.description = text,
        RefOr::T(_) => panic!("nothing to describe"),
    }
}

fn is_nullable(piece: &RefOr<Schema>) -> bool {
    let null = |kind: &SchemaType| matches!(kind, SchemaType::Array(kinds) if kinds.contains(&Type::Null));
    match piece {
        RefOr::T(Schema::Object(object)) => null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => null(&array.schema_type),
        RefOr::T(Schema::OneOf(_)) => true,
        RefOr::T(_) | RefOr::Ref(_) => false,
    }
}

fn with_null(piece: &mut RefOr<Schema>) {
    let kind = match piece {
        RefOr::T(Schema::Object(object)) => &mut object.schema_type,
        RefOr::T(Schema::Array(array)) => &mut array.schema_type,
        _ => panic!("can't be made nullable"),
    };
    if let SchemaType::Type(one) = kind {
        *kind = SchemaType::from_iter([one.clone(), Type::Null]);
    }
}

fn without_null(piece: &mut RefOr<Schema>) {
    let narrow = |kind: &mut SchemaType, default: &mut Option<serde_json::Value>| {
        if let SchemaType::Array(kinds) = kind {
            kinds.retain(|kind| *kind != Type::Null);
            *kind = SchemaType::Type(kinds.first().unwrap().clone());
        }
        *default = None;
    };
    match piece {
        RefOr::T(Schema::Object(object)) => narrow(&mut object.schema_type, &mut object.default),
        RefOr::T(Schema::Array(array)) => narrow(&mut array.schema_type, &mut array.default),
        RefOr::T(Schema::OneOf(choices)) => *piece = choices.items.first().unwrap().clone(),
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

impl Schemas {
    /// The schema of a type and of all that it holds.
    fn collect<T: ToSchema>(&mut self) {
        let mut needed = Vec::new();
        T::schemas(&mut needed);
        needed.push((T::name().into_owned(), T::schema()));
        for (name, schema) in needed {
            self.0.entry(name).or_insert(schema);
        }
    }

    /// A schema made by hand.
    pub fn add(&mut self, name: &str, schema: impl Into<RefOr<Schema>>) {
        let before = self.0.insert(name.to_owned(), schema.into());
        assert!(before.is_none(), "two schemas are called {name}");
    }

    /// What stands for a type that its derived schema describes badly.
    pub fn replace(&mut self, name: &str, schema: impl Into<RefOr<Schema>>) {
        let before = self.0.insert(name.to_owned(), schema.into());
        assert!(before.is_some(), "no type is called {name}");
    }

    /// Asks one of these of a schema, beside what it says.
    pub fn one_of(&mut self, name: &str, alternatives: impl IntoIterator<Item = ObjectBuilder>) {
        let schema = self
            .0
            .remove(name)
            .unwrap_or_else(|| panic!("no type is called {name}"));
        let choice = alternatives.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item);
        let both = AllOfBuilder::new().item(schema).item(choice);
        self.0.insert(name.to_owned(), both.into());
    }

    /// The schema of type `T`, refined.
    pub fn shape<T: ToSchema>(&mut self, refine: impl FnOnce(Shape) -> Shape) {
        self.shape_as::<T>(&T::name(), refine);
    }

    fn shape_as<T: ToSchema>(&mut self, name: &str, refine: impl FnOnce(Shape) -> Shape) {
        self.collect::<T>();
        let RefOr::T(schema) = T::schema() else {
            panic!("{name} is a reference")
        };
        let object = flat(schema, &self.0);
        let refined = refine(Shape {
            name: name.to_owned(),
            object,
        })
        .object;
        self.0.insert(name.to_owned(), Schema::Object(refined).into());
    }

    /// All, once nothing refers to a schema that isn't there.
    pub fn complete(mut self) -> BTreeMap<String, RefOr<Schema>> {
        // Inlined everywhere, or replaced by the two kinds of policy.
        self.0.remove("Sensitive");
        self.0.remove("PutPolicy");
        self.0.remove("ExtraFields");
        self.0
    }
}

/// A struct with flattened members, as one object.
fn flat(schema: Schema, known: &BTreeMap<String, RefOr<Schema>>) -> Object {
    match schema {
        Schema::Object(object) => object,
        Schema::AllOf(parts) => {
            let mut whole = Object::new();
            whole.description = parts.description;
            for part in parts.items {
                let part = match part {
                    RefOr::Ref(reference) => known[reference.ref_location.rsplit('/').next().unwrap()].clone(),
                    part @ RefOr::T(_) => part,
                };
                let RefOr::T(part) = part else {
                    panic!("a reference to a reference")
                };
                let part = flat(part, known);
                whole.properties.extend(part.properties);
                whole.required.extend(part.required);
            }
            whole
        }
        _ => panic!("not the schema of a struct"),
    }
}

/// The schemas that all families share: problems, claims, events.
pub fn shared() -> Schemas {
    let mut schemas = Schemas::default();
    schemas.shape::<Problem>(|shape| {
        let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
        shape
            .requires(&[
                "type",
                "title",
                "status",
                "detail",
                "instance",
                "error_code",
                "request_id",
            ])
            .written()
            .member(
                "type",
                matching("^urn:agentwrit:error:[a-z_]+$", "urn:agentwrit:error:not_found"),
            )
            .member("status", number(400, Some(599), 404))
            .member("error_code", choice(codes))
            .member("request_id", request_id())
    });
    schemas.shape::<DelegationRecord>(|shape| {
        shape
            .requires(&["signature"])
            .member("agent", spiffe_id())
            .member("scope", scopes(&["read:orders:*"]))
            .member("delegated_at", moment(9))
            .member("signature", hex(128))
    });
    schemas.shape::<Claims>(|shape| {
        shape
            .requires(&["iss", "nbf", "iat", "scope"])
            .member("jti", hex(32))
            .member("scope", scopes(&["read:orders:*"]))
            .member("chain_hash", hex(64))
    });
    schemas.shape::<AuditEvent>(|shape| {
        shape
            .requires(&["id", "timestamp", "event_type", "detail", "hash", "prev_hash"])
            .member("id", matching("^evt-[0-9]{6,}$", "evt-000001"))
            .member("timestamp", moment(9))
            .member("event_type", choice(EventType::ALL.iter().map(|kind| kind.as_str())))
            .member("outcome", choice(["success", "denied"]))
            .member("hash", hex(64))
            .member("prev_hash", hex(64))
            .member("deleg_chain_hash", hex(64))
            .written()
    });
    policies(&mut schemas);
    schemas
}

/// `X-Request-ID`.
pub fn request_id() -> RefOr<Schema> {
    matching("^[A-Za-z0-9._-]{1,128}$", "4f2a9c071be6d853")
}

/// The two kinds of policy share a generic type; the document names them apart.
fn policies(schemas: &mut Schemas) {
    schemas.shape::<k8s::WriteOrder>(|shape| {
        shape
            .member("lease_epoch", number(0, None, 3))
            .member("sequence", number(0, None, 17))
    });
    schemas.shape::<k8s::AppSpec>(|shape| {
        shape
            .member("scopes", policy_scopes(&["read:orders:*"]))
            .member("max_agent_ttl_seconds", number(60, Some(86_400), 3600))
    });
    schemas.shape::<k8s::LaunchTokenSpec>(|shape| {
        shape
            .member("app", dns_label(52, "orders"))
            .member("agent_name", text(256, "order-reader"))
            .member("allowed_scopes", policy_scopes(&["read:orders:*"]))
            .member("max_ttl_seconds", number(60, Some(86_400), 900))
            .member(
                "service_account_names",
                array(text(253, "reader"), 1, Some(16), &json!(["reader"])),
            )
    });
    schemas.shape_as::<k8s::PutApp>("PutApp", |shape| put(shape, "AppSpec"));
    schemas.shape_as::<k8s::PutLaunchToken>("PutLaunchToken", |shape| put(shape, "LaunchTokenSpec"));
}

fn put(shape: Shape, spec: &str) -> Shape {
    shape
        .member("uid", uid())
        .member("generation", number(0, None, 4))
        .member("reason", text(256, "ScopesOverCeiling"))
        .member("spec", Ref::from_schema_name(spec).into())
}
