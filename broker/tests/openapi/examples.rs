//! Examples of whole bodies, made from the examples of their members.

use serde_json::{Map, Value};

/// An example of a schema: its own, or one with every member that is required or has an example of its own. `None` for
/// an object that may hold anything.
pub fn example(schema: &Value, schemas: &Value) -> Option<Value> {
    let own = ["/examples/0", "/example", "/enum/0"];
    if let Some(own) = own.iter().find_map(|place| schema.pointer(place)) {
        return Some(own.clone());
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return example(&schemas[reference.rsplit('/').next().unwrap()], schemas);
    }
    if let Some(first) = schema.pointer("/oneOf/0").or_else(|| schema.pointer("/anyOf/0")) {
        return example(first, schemas);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().filter_map(|part| example(part, schemas));
        let members = parts.flat_map(|part| part.as_object().unwrap().clone());
        return Some(members.collect::<Map<_, _>>().into());
    }
    if schema["type"] == "array" {
        return Some(vec![example(&schema["items"], schemas)?].into());
    }
    let members = schema["properties"].as_object()?.iter();
    let shown = members.filter(|(name, member)| is_required(schema, name) || !member["examples"].is_null());
    let shown = shown.map(|(name, member)| {
        let value = example(member, schemas);
        (
            name.clone(),
            value.unwrap_or_else(|| panic!("{name} has no example: {schema}")),
        )
    });
    Some(shown.collect::<Map<_, _>>().into())
}

fn is_required(schema: &Value, name: &str) -> bool {
    let mut required = schema["required"].as_array().into_iter().flatten();
    required.any(|required| required == name)
}
