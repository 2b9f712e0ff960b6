//! JSON patch operations (RFC 6902), built one by one: a computed difference would rewrite whole containers, and lose
//! fields of newer API versions that we don't know.
//!
//! Not `json_patch::PatchOperation`: each path would be parsed and each value copied into it, only to be written as text.

use serde_json::{Value, json};

/// Gathers operations as text.
#[derive(Debug, Default)]
pub(crate) struct PatchBuilder {
    operations: String,
}

impl PatchBuilder {
    /// Adds `value` at `path`.
    pub(crate) fn add(&mut self, path: &str, value: &Value) {
        self.operation("add", path, value);
    }

    /// Puts `value` in the place of what is at `path`.
    pub(crate) fn replace(&mut self, path: &str, value: &Value) {
        self.operation("replace", path, value);
    }

    fn operation(&mut self, op: &str, path: &str, value: &Value) {
        let operation = json!({"op": op, "path": path, "value": value});
        self.operations.push(if self.operations.is_empty() { '[' } else { ',' });
        self.operations.push_str(&operation.to_string());
    }

    /// Adds `key` to the map at `path`.
    pub(crate) fn add_key(&mut self, path: &str, key: &str, value: &Value) {
        // RFC 6901 §3
        let key = key.replace('~', "~0").replace('/', "~1");
        self.add(&format!("{path}/{key}"), value);
    }

    /// Makes the list at `path`, unless it is there.
    pub(crate) fn list(&mut self, path: &str, present: bool) {
        if !present {
            self.add(path, &json!([]));
        }
    }

    /// Makes the map at `path`, unless it is there.
    pub(crate) fn map(&mut self, path: &str, present: bool) {
        if !present {
            self.add(path, &json!({}));
        }
    }

    /// The patch as JSON; `None` when it changes nothing.
    pub(crate) fn into_json(self) -> Option<String> {
        (!self.operations.is_empty()).then(|| self.operations + "]")
    }
}
