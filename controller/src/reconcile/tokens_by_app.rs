//! Which `LaunchToken`s name which app: a change of an app looks at its own, not at all.

use std::collections::{BTreeSet, HashMap};

use agentwrit_crds::LaunchToken;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;

/// Names of `LaunchToken`s by namespace and app. Ahead of the cache, never behind it: what is found here is looked up
/// there.
#[derive(Debug, Default)]
pub(crate) struct TokensByApp(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    present: Namespaces,
    /// The same, of a list that is under way.
    listing: Namespaces,
}

/// The app of those that can't be read is the empty name.
type Namespaces = HashMap<String, HashMap<String, BTreeSet<String>>>;

fn app_of(token: &DeserializeGuard<LaunchToken>) -> &str {
    token.0.as_ref().map_or("", |token| &token.spec.app_ref.name)
}

fn insert(namespaces: &mut Namespaces, token: &DeserializeGuard<LaunchToken>) {
    let apps = namespaces.entry(token.namespace().unwrap_or_default()).or_default();
    let names = apps.entry(app_of(token).to_owned()).or_default();
    names.insert(token.name_any());
}

fn remove(namespaces: &mut Namespaces, token: &DeserializeGuard<LaunchToken>) {
    let (namespace, name) = (token.namespace().unwrap_or_default(), token.name_any());
    let Some(apps) = namespaces.get_mut(&namespace) else {
        return;
    };
    // Mostly in one place; one that can't be read may have been readable.
    apps.retain(|_, names| {
        names.remove(&name);
        !names.is_empty()
    });
    if apps.is_empty() {
        namespaces.remove(&namespace);
    }
}

impl TokensByApp {
    /// Takes in an event of the watch.
    pub(crate) fn observe(&self, event: &Event<DeserializeGuard<LaunchToken>>) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        match event {
            Event::Apply(token) => insert(&mut state.present, token),
            Event::Delete(token) => remove(&mut state.present, token),
            Event::Init => state.listing.clear(),
            Event::InitApply(token) => insert(&mut state.listing, token),
            Event::InitDone => state.present = std::mem::take(&mut state.listing),
        }
    }

    /// Names of those that may name this app.
    pub(crate) fn of(&self, namespace: &str, app: &str) -> Vec<String> {
        let state = self.0.lock();
        let names = state.present.get(namespace).and_then(|apps| apps.get(app));
        names.into_iter().flatten().cloned().collect()
    }

    /// Names of all of a namespace.
    pub(crate) fn within(&self, namespace: &str) -> Vec<String> {
        let state = self.0.lock();
        let apps = state.present.get(namespace);
        apps.into_iter().flat_map(HashMap::values).flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(name: &str, app: Option<&str>) -> DeserializeGuard<LaunchToken> {
        let spec = app.map(|app| {
            json!({"appRef": {"name": app}, "agentName": "a", "allowedScopes": ["a:b:c"], "serviceAccountNames": ["x"]})
        });
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})).unwrap()
    }

    #[test]
    fn an_app_has_the_tokens_that_name_it() {
        let index = TokensByApp::default();
        for (name, app) in [
            ("a", Some("orders")),
            ("b", Some("orders")),
            ("c", Some("stock")),
            ("d", None),
        ] {
            index.observe(&Event::Apply(token(name, app)));
        }
        assert_eq!(index.of("shop", "orders"), ["a", "b"]);
        assert!(index.of("other", "orders").is_empty());
        let mut all = index.within("shop");
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c", "d"]);
        for (name, app) in [("a", Some("orders")), ("b", None), ("c", Some("stock")), ("d", None)] {
            index.observe(&Event::Delete(token(name, app)));
        }
        assert!(index.0.lock().present.is_empty(), "nothing is kept of what is gone");
    }

    #[test]
    fn a_new_list_takes_the_place_of_what_was_known() {
        let index = TokensByApp::default();
        index.observe(&Event::Apply(token("old", Some("orders"))));
        index.observe(&Event::Init);
        index.observe(&Event::InitApply(token("new", Some("orders"))));
        assert_eq!(index.of("shop", "orders"), ["old"], "until the list is complete");
        index.observe(&Event::InitDone);
        assert_eq!(index.of("shop", "orders"), ["new"]);
    }
}
