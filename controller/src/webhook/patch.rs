//! JSON patch operations (RFC 6902), made by hand: a computed difference would rewrite whole containers, and lose
//! fields of newer API versions that we don't know.

use serde_json::{Map, Value, json};

/// Gathers operations.
#[derive(Debug, Default)]
pub struct PatchBuilder {
    operations: Vec<Value>,
}

impl PatchBuilder {
    /// Adds `value` at `path`.
    pub fn add(&mut self, path: &str, value: Value) {
        self.operations.push(Value::Object(Map::from_iter([
            ("op".to_owned(), json!("add")),
            ("path".to_owned(), json!(path)),
            ("value".to_owned(), value),
        ])));
    }

    /// Adds `key` to the map at `path`.
    pub fn add_key(&mut self, path: &str, key: &str, value: Value) {
        // RFC 6901 §3
        let key = key.replace('~', "~0").replace('/', "~1");
        self.add(&format!("{path}/{key}"), value);
    }

    /// Makes the list at `path`, unless it is there.
    pub fn list(&mut self, path: &str, present: bool) {
        if !present {
            self.add(path, json!([]));
        }
    }

    /// Makes the map at `path`, unless it is there.
    pub fn map(&mut self, path: &str, present: bool) {
        if !present {
            self.add(path, json!({}));
        }
    }

    /// The operations, in order.
    pub fn into_operations(self) -> Vec<Value> {
        self.operations
    }
}
