//! Another team's mutating webhook: a real one, called by the API server before or after ours.
//!
//! What it does to a pod stands in an annotation of the pod: a habit of [`Habit`], or a patch of a table. It does it
//! whenever it is asked, as such plugins do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use agentwrit_controller::{Authority, Leaf};
use agentwrit_protocol::Clock;
use agentwrit_protocol::inject::CONTAINER_NAME;
use agentwrit_protocol::system::SystemClock;
use axum::extract::Path;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::chart::RUN;

/// Label of a namespace whose pods it is asked about, with the name of an [`Order`].
pub const PLUGIN: &str = "agentwrit.test/plugin";
/// Annotation with the name of a habit.
pub const HABIT: &str = "agentwrit.test/habit";
/// Annotation with a patch (RFC 6902) of the injected pod.
pub const PATCH: &str = "agentwrit.test/patch";
/// Annotation of a pod that it was asked about: how often it found the sidecar there, `0` when never.
pub const SEEN: &str = "agentwrit.test/seen";

/// When it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub name: &'static str,
    /// Webhooks are called in the order of their configurations' names.
    prefix: &'static str,
    policy: &'static str,
    /// Whether it is asked about a pod that has the sidecar.
    pub meets_sidecar: bool,
}

pub const ORDERS: [Order; 4] = [
    Order {
        name: "before-once",
        prefix: "a",
        policy: "Never",
        meets_sidecar: false,
    },
    Order {
        name: "before-again",
        prefix: "a",
        policy: "IfNeeded",
        meets_sidecar: true,
    },
    Order {
        name: "after-once",
        prefix: "z",
        policy: "Never",
        meets_sidecar: true,
    },
    Order {
        name: "after-again",
        prefix: "z",
        policy: "IfNeeded",
        meets_sidecar: true,
    },
];

/// What it does to every pod.
pub struct Habit {
    pub name: &'static str,
    pub act: fn(&mut Value),
}

/// Starts it, and registers it once for each order.
pub async fn start(client: &Client, run: &str) {
    let now = SystemClock.now();
    let authority = Authority::from_pem(&Authority::generate("another team", now).unwrap()).unwrap();
    let leaf = Leaf::default();
    leaf.set(&authority.issue(&["127.0.0.1".into()], now).unwrap()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(leaf));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TlsListener {
        socket,
        acceptor: TlsAcceptor::from(Arc::new(config)),
    };
    let router = Router::new().route("/{order}", post(mutate));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let earlier = ListParams::default().labels(&format!("{RUN},{RUN}!={run}"));
    api.delete_collection(&DeleteParams::default(), &earlier).await.unwrap();
    let bundle = STANDARD.encode(authority.certificate());
    for order in ORDERS {
        let configuration = json!({
            "metadata": {"name": format!("{}-another-team-{}-{run}", order.prefix, order.name), "labels": {RUN: run}},
            "webhooks": [{
                "name": "pod.another-team.test",
                "namespaceSelector": {"matchLabels": {RUN: run, PLUGIN: order.name}},
                "clientConfig": {"url": format!("https://{address}/{}", order.name), "caBundle": bundle},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "reinvocationPolicy": order.policy,
            }],
        });
        let configuration = serde_json::from_value(configuration).unwrap();
        api.create(&PostParams::default(), &configuration).await.unwrap();
    }
}

struct TlsListener {
    socket: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, peer)) = self.socket.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

async fn mutate(Path(order): Path<String>, Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let before = &request["object"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    match mutated(before) {
        Ok(after) => {
            let patch = json_patch::diff(before, &after).to_string();
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch));
        }
        Err(error) => {
            response["allowed"] = json!(false);
            response["status"] = json!({"message": format!("{order}: {error}")});
        }
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

fn mutated(before: &Value) -> Result<Value, String> {
    let mut pod = before.clone();
    let annotations = &before["metadata"]["annotations"];
    let meets_sidecar = containers(&before["spec"]).any(|container| container["name"] == CONTAINER_NAME);
    let seen: usize = annotations[SEEN].as_str().unwrap_or("0").parse().unwrap();
    if let Some(name) = annotations[HABIT].as_str() {
        let habit = HABITS.iter().find(|habit| habit.name == name).ok_or("no such habit")?;
        (habit.act)(&mut pod);
    }
    // Once: a patch of a table isn't made for a pod that it has changed already.
    if let Some(patch) = annotations[PATCH].as_str().filter(|_| meets_sidecar && seen == 0) {
        let patch: json_patch::Patch = serde_json::from_str(patch).map_err(|error| error.to_string())?;
        json_patch::patch(&mut pod, &patch).map_err(|error| error.to_string())?;
    }
    let metadata = pod["metadata"].as_object_mut().ok_or("no metadata")?;
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    annotations[SEEN] = json!((seen + usize::from(meets_sidecar)).to_string());
    Ok(pod)
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.filter_map(|list| spec[list].as_array()).flatten()
}

fn each(pod: &mut Value, mut act: impl FnMut(&mut Value)) {
    for list in ["initContainers", "containers"] {
        if let Some(containers) = pod["spec"][list].as_array_mut() {
            containers.iter_mut().for_each(&mut act);
        }
    }
}

/// Adds an item to a list, unless it has one of that name.
fn add(list: &mut Value, item: &Value) {
    if list.is_null() {
        *list = json!([]);
    }
    let list = list.as_array_mut().unwrap();
    if list.iter().all(|present| present["name"] != item["name"]) {
        list.push(item.clone());
    }
}

pub const HABITS: [Habit; 9] = [
    Habit {
        name: "env-for-all",
        act: |pod| {
            each(pod, |container| {
                add(
                    &mut container["env"],
                    &json!({"name": "HTTPS_PROXY", "value": "http://proxy:3128"}),
                );
                let host = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}});
                add(
                    &mut container["env"],
                    &json!({"name": "DD_AGENT_HOST", "valueFrom": host}),
                );
            });
        },
    },
    Habit {
        name: "registry",
        act: |pod| {
            each(pod, |container| {
                let image = container["image"].as_str().unwrap().to_owned();
                if !image.starts_with("mirror.test/") {
                    container["image"] = json!(format!("mirror.test/{image}"));
                }
            });
        },
    },
    Habit {
        name: "always-pull",
        act: |pod| each(pod, |container| container["imagePullPolicy"] = json!("Always")),
    },
    Habit {
        name: "security-context-of-the-platform",
        act: |pod| {
            pod["spec"]["securityContext"]["fsGroup"] = json!(1_000_650_000);
            pod["spec"]["securityContext"]["seLinuxOptions"] = json!({"level": "s0:c26,c5"});
            each(pod, |container| {
                container["securityContext"]["runAsUser"] = json!(1_000_650_000);
                container["securityContext"]["capabilities"]["drop"] = json!(["ALL", "KILL"]);
            });
        },
    },
    Habit {
        name: "cloud-identity",
        act: |pod| {
            let token = json!({"serviceAccountToken": {
                "audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token",
            }});
            let projected = json!({"defaultMode": 420, "sources": [token]});
            add(
                &mut pod["spec"]["volumes"],
                &json!({"name": "aws-iam-token", "projected": projected}),
            );
            let directory = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
            each(pod, |container| {
                let file = format!("{directory}/token");
                add(
                    &mut container["env"],
                    &json!({"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": file}),
                );
                let mount = json!({"name": "aws-iam-token", "mountPath": directory, "readOnly": true});
                add(&mut container["volumeMounts"], &mount);
            });
        },
    },
    Habit {
        name: "mesh",
        act: |pod| {
            let inits = &mut pod["spec"]["initContainers"];
            let proxy = json!({"name": "istio-proxy", "image": "proxy", "restartPolicy": "Always"});
            if inits
                .as_array()
                .is_none_or(|inits| inits.iter().all(|init| init["name"] != "istio-proxy"))
            {
                if inits.is_null() {
                    *inits = json!([]);
                }
                inits.as_array_mut().unwrap().insert(0, proxy);
            }
            each(pod, |container| {
                let name = container["name"].as_str().unwrap().to_owned();
                for probe in ["startupProbe", "readinessProbe"] {
                    if !container[probe].is_null() {
                        let path = format!("/app-health/{name}/{probe}");
                        container[probe]["httpGet"] = json!({"path": path, "port": 15020, "scheme": "HTTP"});
                    }
                }
            });
        },
    },
    Habit {
        name: "defaults-of-a-namespace",
        act: |pod| {
            pod["spec"]["nodeSelector"] = json!({"pool": "agents"});
            pod["spec"]["priority"] = json!(0);
            add(
                &mut pod["spec"]["tolerations"],
                &json!({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}),
            );
            each(pod, |container| {
                container["resources"] = json!({
                    "requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"},
                });
            });
        },
    },
    Habit {
        name: "termination-message",
        act: |pod| {
            each(pod, |container| {
                container["terminationMessagePath"] = json!("/dev/shm/message");
                container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
            });
        },
    },
    Habit {
        name: "labels-and-annotations",
        act: |pod| {
            pod["metadata"]["labels"]["team"] = json!("shop");
            pod["metadata"]["annotations"]["sidecar.istio.io/status"] = json!("{}");
        },
    },
];
