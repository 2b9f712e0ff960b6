//! The document and the router name the same paths and methods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_broker::attest::{Attestor, AttestorError, PodFacts, Review};
use agentwrit_broker::config::Config;
use agentwrit_broker::http::query::Reader;
use agentwrit_broker::http::{Front, router};
use agentwrit_broker::startup::{Surroundings, assemble};
use agentwrit_broker::system::SystemEntropy;
use agentwrit_protocol::clock::ManualClock;
use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use secrecy::SecretString;

/// A Kubernetes that nobody asks anything.
struct NoCluster;

#[async_trait]
impl Attestor for NoCluster {
    async fn review(&self, _token: &SecretString, _audience: &str) -> Result<Review, AttestorError> {
        Err(AttestorError::Busy)
    }

    async fn pod(&self, _namespace: &str, _name: &str) -> Result<Option<PodFacts>, AttestorError> {
        Err(AttestorError::Busy)
    }
}

/// A broker with every optional route.
struct Whole {
    front: Front,
    paths: BTreeSet<String>,
    _folder: tempfile::TempDir,
}

impl Whole {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = HashMap::from([
            ("AA_ADMIN_SECRET", "a-good-admin-secret".to_owned()),
            ("AA_DB_PATH", String::new()),
            ("AA_SIGNING_KEY_PATH", folder.path().join("key").display().to_string()),
            ("AA_ATTEST_AUDIENCE", "agentwrit://test/test".to_owned()),
            (
                "AA_CONTROLLER_SUBJECT",
                "system:serviceaccount:test:controller".to_owned(),
            ),
        ]);
        let surroundings = Surroundings {
            clock: Arc::new(ManualClock::at(1_800_000_000)),
            entropy: Arc::new(SystemEntropy),
            attestor: Some(Arc::new(NoCluster)),
        };
        let config = Config::load(&|name| settings.get(name).cloned()).unwrap();
        let broker = assemble(config, surroundings).await.unwrap();
        let router = router::api(&broker);
        Self {
            paths: paths(&format!("{router:?}")),
            front: Front::new(broker, router),
            _folder: folder,
        }
    }

    async fn send(&self, method: &str, path: &str) -> axum::response::Response {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        self.front.serve(request, IpAddr::from([127, 0, 0, 1])).await
    }

    /// The methods of a path, as `Allow` names them.
    async fn methods(&self, path: &str) -> BTreeSet<String> {
        let answer = self.send("BREW", &path.replace(['{', '}'], "")).await;
        assert_eq!(answer.status(), 405, "{path}");
        let allow = answer.headers()["allow"].to_str().unwrap();
        allow.split(", ").map(str::to_owned).collect()
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
async fn every_route_is_documented_and_every_documented_path_is_a_route() {
    let whole = Whole::new().await;
    let documented = documented();
    assert_eq!(whole.paths, documented.keys().cloned().collect());
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
fn the_query_parameters_that_are_documented_are_those_that_are_read() {
    let mut read = BTreeMap::new();
    for reader in Reader::ALL {
        let operations: &[&str] = match reader {
            Reader::AuditEvents => &["auditEvents"],
            Reader::RemovePolicy => &["deletePolicyApp", "deletePolicyLaunchToken"],
            Reader::Denials => &["listDenials"],
        };
        let names: BTreeSet<String> = reader.names().into_iter().map(str::to_owned).collect();
        for operation in operations {
            read.insert((*operation).to_owned(), names.clone());
        }
    }
    assert_eq!(documented_parameters(), read);
}

#[tokio::test]
async fn the_committed_document_is_served() {
    let answer = Whole::new().await.send("GET", "/openapi.json").await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body == include_str!("../../../docs/openapi.json"));
}
