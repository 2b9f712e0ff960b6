//! The document and the router name the same paths and methods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentwrit_broker::http::query::QueryEndpoint;
use agentwrit_broker::http::router;
use agentwrit_testkit::{Broker, Setup};

/// A broker with every optional route.
struct Whole(Broker);

impl Whole {
    async fn new() -> Self {
        let setup = Setup::new(&[("AA_DB_PATH", "")]).with_cluster(Arc::default());
        Self(setup.start().await.unwrap())
    }

    /// The paths that the router knows.
    fn paths(&self) -> BTreeSet<String> {
        paths(&format!("{:?}", router::api(&self.0.state)))
    }

    /// The methods of a path, as `Allow` names them.
    async fn methods(&self, path: &str) -> BTreeSet<String> {
        let answer = self.0.send("BREW", &path.replace(['{', '}'], ""), &[], "").await;
        assert_eq!(answer.status, 405, "{path}");
        answer.header("allow").split(", ").map(str::to_owned).collect()
    }
}

/// axum tells its paths nowhere but in its `Debug`, where nothing else begins with a quoted slash.
fn paths(debug: &str) -> BTreeSet<String> {
    let quoted = debug.split('"').skip(1).step_by(2);
    quoted
        // "/" and a private path belong to the fallback.
        .filter(|text| text.len() > 1 && text.starts_with('/') && !text.contains("__private__"))
        .map(str::to_owned)
        .collect()
}

fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = super::parsed();
    let methods = |item: &serde_json::Value| {
        let mut methods: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|method| method.to_uppercase())
            .collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        methods
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test]
async fn every_route_is_documented_and_every_path_is_a_route() {
    let whole = Whole::new().await;
    let documented = documented();
    assert_eq!(whole.paths(), documented.keys().cloned().collect());
    for (path, methods) in documented {
        assert_eq!(whole.methods(&path).await, methods, "{path}");
    }
}

/// Names of the query parameters of the operations that have any.
fn documented_parameters() -> BTreeMap<String, BTreeSet<String>> {
    let document = super::parsed();
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let mut documented = BTreeMap::new();
    for operation in operations {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let names: BTreeSet<String> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        if !names.is_empty() {
            documented.insert(operation["operationId"].as_str().unwrap().to_owned(), names);
        }
    }
    documented
}

#[test]
fn documented_query_parameters_are_those_that_are_read() {
    let mut read = BTreeMap::new();
    for endpoint in QueryEndpoint::ALL {
        let operations: &[&str] = match endpoint {
            QueryEndpoint::AuditEvents => &["auditEvents"],
            QueryEndpoint::RemovePolicy => &["deletePolicyApp", "deletePolicyLaunchToken"],
            QueryEndpoint::Denials => &["listDenials"],
        };
        let names: BTreeSet<String> = endpoint.names().into_iter().map(str::to_owned).collect();
        for operation in operations {
            read.insert((*operation).to_owned(), names.clone());
        }
    }
    assert_eq!(documented_parameters(), read);
}

#[tokio::test]
async fn a_documented_scope_is_the_one_asked_for() {
    let whole = Whole::new().await;
    let token = whole.0.sign("app:nobody", &["read:orders:*"]);
    let document = super::parsed();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(scope) = operation["security"].pointer("/0/bearer/0") else {
                continue;
            };
            let path = path.replace(['{', '}'], "");
            let answer = whole.0.send_as(&token, &method.to_uppercase(), &path, "").await;
            let detail = format!("token lacks required scope: {}", scope.as_str().unwrap());
            answer.refused(403, "insufficient_scope", &detail);
            asked += 1;
        }
    }
    assert!(asked > 0, "no endpoint names a scope");
}

#[tokio::test]
async fn the_committed_document_is_served() {
    let answer = Whole::new().await.0.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.text == include_str!("../../../docs/openapi.json"));
}
