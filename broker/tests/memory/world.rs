//! A broker behind its front, and those who call it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use agentwrit_broker::attest::{PodFacts, SidecarPolicy};
use agentwrit_broker::broker::AppState;
use agentwrit_broker::config::Config;
use agentwrit_broker::http::{Front, router};
use agentwrit_broker::startup::{Surroundings, assemble};
use agentwrit_broker::system::SystemEntropy;
use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_protocol::clock::ManualClock;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::cluster::{AUDIENCE, CONTROLLER, FakeCluster, token};
use crate::endpoints::Caller;

const NOW: i64 = 1_800_000_000;
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

struct Agent {
    id: String,
    token: String,
}

pub struct World {
    broker: AppState,
    front: Front,
    cluster: Arc<FakeCluster>,
    clock: Arc<ManualClock>,
    key: SigningKey,
    count: i64,
    app_id: String,
    agent: Agent,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = HashMap::from([
            ("AA_ADMIN_SECRET", "a-good-admin-secret".to_owned()),
            ("AA_DB_PATH", path("data.db")),
            ("AA_SIGNING_KEY_PATH", path("signing.key")),
            ("AA_ATTEST_AUDIENCE", AUDIENCE.to_owned()),
            ("AA_CONTROLLER_SUBJECT", CONTROLLER.to_owned()),
        ]);
        let mut config = Config::load(&|name| settings.get(name).cloned()).unwrap();
        // bcrypt's smallest: what is slow on purpose would only be slow here.
        config.secret_cost = 4;
        let (clock, cluster) = (Arc::new(ManualClock::at(NOW)), Arc::new(FakeCluster::default()));
        let surroundings = Surroundings {
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            attestor: Some(cluster.clone()),
        };
        let broker = assemble(config, surroundings).await.unwrap();
        let mut world = Self {
            front: Front::new(Arc::clone(&broker), router::api(&broker)),
            broker,
            cluster,
            clock,
            key: SigningKey::from_bytes(&[42; 32]),
            count: 0,
            app_id: String::new(),
            agent: Agent {
                id: String::new(),
                token: String::new(),
            },
            _folder: folder,
        };
        let admin = world.sign("admin", &["admin:launch-tokens:*"]);
        let app = json!({"name": "orders", "scopes": ["read:data:*"]});
        let app = world.send("POST", "/v1/admin/apps", &admin, &app).await;
        world.app_id = text(&app, "app_id");
        world.write_policies().await;
        world
    }

    /// An app and a LaunchToken for the pods of this world.
    async fn write_policies(&mut self) {
        let controller = self.bearer(Caller::Controller).await;
        for (path, put) in [
            ("apps/shop/orders", "{app}"),
            ("launch-tokens/shop/reader", "{launch_token}"),
        ] {
            let body = format!("{{{}}}", self.fill(put).await);
            let body: Value = serde_json::from_str(&body).unwrap();
            self.send("PUT", &format!("/v1/k8s/policies/{path}"), &controller, &body)
                .await;
        }
    }

    /// What happens to a request, up to the last byte of the answer.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.front.serve(request, PEER).await.into_parts();
        Answer {
            status: parts.status.as_u16(),
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub fn request(method: &str, path: &str, bearer: &str, body: Bytes) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !bearer.is_empty() {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        request.body(Body::from(body)).unwrap()
    }

    /// A request that is answered as it should be.
    async fn send(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.answer(Self::request(method, path, bearer, body.into())).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer.json()
    }

    /// Whether somebody else is served.
    pub async fn serves_others(&mut self) -> bool {
        let token = self.sign("admin", &["admin:audit:*"]);
        let answer = self
            .send("POST", "/v1/token/validate", "", &json!({"token": token}))
            .await;
        answer["valid"] == true
    }

    /// Limits of seconds must not be all that is ever seen.
    pub fn pause(&self) {
        self.clock.advance(20);
    }

    /// A token that stands, for a caller that has done nothing yet.
    pub async fn bearer(&mut self, caller: Caller) -> String {
        self.pause();
        self.count += 1;
        match caller {
            Caller::Nobody => String::new(),
            Caller::Admin => self.sign("admin", &["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"]),
            Caller::App => self.sign(&format!("app:{}", self.app_id), &APP_SCOPES),
            Caller::Controller => token(&json!({"aud": [AUDIENCE], "exp": 9_000_000_000_i64, "sub": CONTROLLER})),
            Caller::Pod => self.pod().1,
            Caller::Agent => {
                let launch_token = self.launch_token().await;
                self.agent = self.register(&launch_token, "orch", "task").await;
                self.agent.token.clone()
            }
            Caller::Attested => {
                let (uid, bearer) = self.pod();
                let body = json!({"policy": "reader", "public_key": self.public_key()});
                let launched = self.send("POST", "/v1/k8s/launch-tokens", &bearer, &body).await;
                let launch_token = text(&launched, "launch_token");
                self.register(&launch_token, "k8s.shop.orders", &uid).await.token
            }
        }
    }

    fn sign(&mut self, subject: &str, scope: &[&str]) -> String {
        self.count += 1;
        let claims = json!({
            "iss": "", "sub": subject, "exp": 9_000_000_000_i64, "nbf": NOW, "iat": NOW,
            "jti": format!("{:032x}", self.count), "scope": scope,
        });
        self.broker.keys.sign(claims.to_string().as_bytes()).unwrap()
    }

    /// UID and bearer of a new pod.
    fn pod(&mut self) -> (String, String) {
        let (uid, name) = (format!("uid-{}", self.count), format!("pod-{}", self.count));
        let facts = PodFacts {
            uid: uid.clone(),
            phase: "Running".into(),
            service_account: "reader".into(),
            sidecar: SidecarPolicy::Named("reader".into()),
            ..PodFacts::default()
        };
        self.cluster.put_pod("shop", &name, facts);
        let claims = json!({
            "aud": [AUDIENCE], "exp": 9_000_000_000_i64, "sub": "system:serviceaccount:shop:reader", "pod": name, "uid": uid,
        });
        (uid, token(&claims))
    }

    async fn launch_token(&mut self) -> String {
        let admin = self.sign("admin", &["admin:launch-tokens:*"]);
        let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]});
        let launched = self.send("POST", "/v1/admin/launch-tokens", &admin, &body).await;
        text(&launched, "launch_token")
    }

    async fn nonce(&self) -> String {
        text(&self.send("GET", "/v1/challenge", "", &Value::Null).await, "nonce")
    }

    fn public_key(&self) -> String {
        STANDARD.encode(self.key.verifying_key().to_bytes())
    }

    fn signature(&self, nonce: &str) -> String {
        STANDARD.encode(self.key.sign(&hex::decode(nonce).unwrap()).to_bytes())
    }

    async fn register(&self, launch_token: &str, orch_id: &str, task_id: &str) -> Agent {
        let nonce = self.nonce().await;
        let body = json!({
            "launch_token": launch_token, "nonce": nonce, "public_key": self.public_key(),
            "signature": self.signature(&nonce), "orch_id": orch_id, "task_id": task_id,
            "requested_scope": ["read:data:x"],
        });
        let answer = self.send("POST", "/v1/register", "", &body).await;
        Agent {
            id: text(&answer, "agent_id"),
            token: text(&answer, "access_token"),
        }
    }

    /// A text with its names in braces filled in.
    pub async fn fill(&mut self, template: &str) -> String {
        let mut filled = template.to_owned();
        for name in [
            "{app}",
            "{launch_token}",
            "{launch}",
            "{nonce}",
            "{public_key}",
            "{new_app}",
            "{app_id}",
            "{agent_id}",
        ] {
            if filled.contains(name) {
                let value = self.value(name).await;
                if name == "{nonce}" {
                    filled = filled.replace("{signature}", &self.signature(&value));
                }
                filled = filled.replace(name, &value);
            }
        }
        filled
    }

    async fn value(&mut self, name: &str) -> String {
        self.count += 1;
        let put = |uid: &str, sequence: i64| {
            format!(r#""uid":"{uid}","generation":1,"order":{{"lease_epoch":1,"sequence":{sequence}}},"state":"ready""#)
        };
        match name {
            "{app}" => {
                let spec = r#"{"scopes":["read:data:*"],"max_agent_ttl_seconds":86400}"#;
                format!("{},\"spec\":{spec}", put("app-uid", self.count))
            }
            "{launch_token}" => {
                let spec = r#"{"app":"orders","agent_name":"a","allowed_scopes":["read:data:*"],"max_ttl_seconds":300,
                    "service_account_names":["reader"]}"#;
                format!("{},\"spec\":{spec}", put("ltok-uid", self.count))
            }
            "{launch}" => self.launch_token().await,
            "{nonce}" => self.nonce().await,
            "{public_key}" => self.public_key(),
            "{new_app}" => format!("app-{}", self.count),
            "{app_id}" => self.app_id.clone(),
            "{agent_id}" => self.agent.id.clone(),
            _ => panic!("{name} has no value"),
        }
    }
}

fn text(answer: &Value, name: &str) -> String {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
        .to_owned()
}
