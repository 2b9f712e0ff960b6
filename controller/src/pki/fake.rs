//! For tests: an API server that holds objects by path, as far as keys and certificates are concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use agentwrit_protocol::inject::CA_CONFIG_MAP;
use axum::http::{Method, Request, Response};
use k8s_openapi::ByteString;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::ca_bundle::CONFIGURATION;
use super::{MANAGED_BY, MANAGER};

pub(super) const LEAF: &str = "/api/v1/namespaces/system/secrets/agentwrit-broker-tls";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/agentwrit-injector";

#[derive(Clone, Default)]
pub(super) struct ApiServer(Arc<Mutex<Held>>);

/// Objects by path, with the versions that the API server gives them.
#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Value>,
    version: u64,
    events: Vec<String>,
    forbidden: BTreeSet<String>,
}

impl ApiServer {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let send = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = server.0.lock().answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(send), "system")
    }

    pub(super) fn put(&self, path: &str, object: Value) -> Value {
        self.0.lock().put(path, object)
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    pub(super) fn remove(&self, path: &str) {
        self.0.lock().objects.remove(path);
    }

    /// From now on nobody has the right to this.
    pub(super) fn forbid(&self, path: &str) {
        self.0.lock().forbidden.insert(path.to_owned());
    }

    /// Reason and note of those since the last call.
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().events)
    }

    /// What the leader publishes: caBundle, and the `ConfigMap`s of these namespaces.
    pub(super) fn publish(&self, bundle: &str, namespaces: &[&str]) {
        let bytes = ByteString(bundle.as_bytes().to_vec());
        let webhook = json!({"name": "pod.inject.agentwrit.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"caBundle": bytes}});
        let configuration = json!({"metadata": {"name": CONFIGURATION}, "webhooks": [webhook]});
        self.put(WEBHOOKS, configuration);
        for namespace in namespaces {
            let labels = json!({MANAGED_BY: MANAGER});
            let map = json!({"metadata": {"name": CA_CONFIG_MAP, "namespace": namespace, "labels": labels},
                "data": {"ca.crt": bundle}});
            self.put(
                &format!("/api/v1/namespaces/{namespace}/configmaps/{CA_CONFIG_MAP}"),
                map,
            );
        }
    }
}

impl Held {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let status = |code: u16| {
            let reason = match code {
                403 => "Forbidden",
                404 => "NotFound",
                _ => "Conflict",
            };
            let status =
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
            (code, status)
        };
        if path.contains("/events") {
            let event: Value = serde_json::from_slice(body).unwrap();
            let text = |member: &str| event[member].as_str().unwrap().to_owned();
            self.events.push(format!("{}: {}", text("reason"), text("note")));
            return (201, event);
        }
        if self.forbidden.contains(path) {
            return status(403);
        }
        if path == "/api/v1/configmaps" {
            let ending = format!("/configmaps/{CA_CONFIG_MAP}");
            let maps = self.objects.iter().filter(|(path, _)| path.ends_with(&ending));
            let items: Vec<Value> = maps.map(|(_, map)| map.clone()).collect();
            let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": items});
            return (200, list);
        }
        if path.ends_with("/pods") {
            return (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}),
            );
        }
        if *method == Method::POST {
            let object: Value = serde_json::from_slice(body).unwrap();
            let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
            if self.objects.contains_key(&path) {
                return status(409);
            }
            return (201, self.put(&path, object));
        }
        let Some(present) = self.objects.get(path) else {
            return status(404);
        };
        if *method == Method::GET {
            return (200, present.clone());
        }
        let (mut object, changes) = (present.clone(), serde_json::from_slice::<Value>(body).unwrap());
        if changes["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return status(409);
        }
        json_patch::merge(&mut object, &changes);
        (200, self.put(path, object))
    }
}
