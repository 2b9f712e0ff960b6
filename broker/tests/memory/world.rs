//! Those who call the broker, and what they send.

use std::net::{IpAddr, Ipv4Addr};

use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_testkit::{Keys, Pod, controller};
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::endpoints::Caller;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

/// An answer as it came: nothing is made of it while allocations are counted.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

#[derive(Default)]
struct Agent {
    id: String,
    token: String,
}

pub struct World {
    broker: agentwrit_testkit::World,
    keys: Keys,
    count: i64,
    app_id: String,
    agent: Agent,
}

impl World {
    pub async fn new() -> Self {
        let mut world = Self {
            broker: agentwrit_testkit::World::new().await,
            keys: Keys::default(),
            count: 0,
            app_id: String::new(),
            agent: Agent::default(),
        };
        let admin = world.broker.sign("admin", &["admin:launch-tokens:*"]);
        let app = json!({"name": "orders", "scopes": ["read:data:*"]});
        let app = world.send("POST", "/v1/admin/apps", &admin, &app).await;
        world.app_id = text(&app, "app_id");
        world.write_policies().await;
        world
    }

    /// An app and a LaunchToken for the pods of this world.
    async fn write_policies(&mut self) {
        for (path, put) in [
            ("apps/shop/orders", "{app}"),
            ("launch-tokens/shop/reader", "{launch_token}"),
        ] {
            let body = format!("{{{}}}", self.fill(put).await);
            let body: Value = serde_json::from_str(&body).unwrap();
            self.send("PUT", &format!("/v1/k8s/policies/{path}"), &controller(), &body)
                .await;
        }
    }

    /// What happens to a request, up to the last byte of the answer.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.broker.serve(request, PEER).await.into_parts();
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
        self.broker.call(method, path, bearer, body).await.ok()
    }

    /// Whether somebody else is served.
    pub async fn serves_others(&mut self) -> bool {
        let token = self.broker.sign("admin", &["admin:audit:*"]);
        self.broker.stands(&token).await
    }

    /// Limits of seconds must not be all that is ever seen.
    pub fn pause(&self) {
        self.broker.clock.advance(20);
    }

    /// A token that stands, for a caller that has done nothing yet.
    pub async fn bearer(&mut self, caller: Caller) -> String {
        let admin = ["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"];
        self.pause();
        match caller {
            Caller::Nobody => String::new(),
            Caller::Admin => self.broker.sign("admin", &admin),
            Caller::App => self.broker.sign(&format!("app:{}", self.app_id), &APP_SCOPES),
            Caller::Controller => controller(),
            Caller::Pod => self.pod().bearer(),
            Caller::Agent => {
                let launch_token = self.launch_token().await;
                let changes = json!({"orch_id": "orch", "task_id": "task"});
                self.agent = self.register(&launch_token, &changes).await;
                self.agent.token.clone()
            }
            Caller::Attested => {
                let pod = self.pod();
                let launched = agentwrit_testkit::World::launched(self.broker.launch(&pod, &self.keys).await);
                let changes = json!({"orch_id": launched.orch_id, "task_id": launched.task_id});
                self.register(&launched.launch_token, &changes).await.token
            }
        }
    }

    /// A new pod.
    fn pod(&mut self) -> Pod {
        self.count += 1;
        self.broker.pod(&format!("uid-{}", self.count))
    }

    async fn launch_token(&mut self) -> String {
        let admin = self.broker.sign("admin", &["admin:launch-tokens:*"]);
        let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]});
        let launched = self.send("POST", "/v1/admin/launch-tokens", &admin, &body).await;
        text(&launched, "launch_token")
    }

    async fn register(&self, launch_token: &str, changes: &Value) -> Agent {
        let body = self
            .keys
            .registration(launch_token, &self.broker.nonce().await, changes);
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
                    filled = filled.replace("{signature}", &self.keys.sign(&value));
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
            "{nonce}" => self.broker.nonce().await,
            "{public_key}" => self.keys.public(),
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
