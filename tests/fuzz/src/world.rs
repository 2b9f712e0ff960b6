//! A whole broker in memory, on a clock and randomness that repeat.

use std::cell::RefCell;
use std::sync::Arc;

use agentwrit_protocol::Clock;
use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::clock::SequenceEntropy;
use agentwrit_store::EventFilter;
use agentwrit_testkit::{Broker, FakeCluster, Keys, Pod, Setup, claims, controller};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::answer::{Answer, Request};
use crate::template;

/// Inputs that one broker takes: what was found must not need many of those before it.
const LIFE: u32 = 1000;

/// The broker and what its callers hold.
pub(crate) struct World {
    runtime: Runtime,
    broker: Broker,
    keys: Keys,
    nonce: String,
    agent: Option<Agent>,
    attested: Option<Agent>,
    app: Option<App>,
    sequence: i64,
    inputs: u32,
    trail: Vec<Value>,
    head: String,
}

#[derive(Clone)]
struct Agent {
    id: String,
    token: String,
}

#[derive(Clone)]
struct App {
    id: String,
    client_id: String,
    client_secret: String,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs one input against the broker of this thread.
pub(crate) fn with(run: impl FnOnce(&mut World)) {
    WORLD.with_borrow_mut(|slot| {
        if slot.as_ref().is_some_and(|world| world.inputs >= LIFE) {
            end(slot.take());
        }
        let world = slot.get_or_insert_with(World::new);
        world.inputs += 1;
        // Limits of seconds must not be all that is ever seen.
        world.broker.clock.advance(1);
        run(world);
    });
}

/// Ends the broker of this thread, if there is one, after a look at all that it wrote.
pub fn finish() {
    WORLD.with_borrow_mut(|slot| end(slot.take()));
}

fn end(world: Option<World>) {
    if let Some(mut world) = world {
        world.check_past();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let cluster = Arc::<FakeCluster>::default();
        for pod in [pod("reader-1"), pod("reader-2")] {
            cluster.run_pod(&pod);
        }
        let mut setup = Setup::new(&[
            ("AA_DB_PATH", ""),
            ("AA_CHALLENGE_RATE", "0"),
            ("AA_REGISTER_RATE", "0"),
            ("AA_TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8,fd00::/8"),
        ])
        .with_cluster(cluster);
        setup.entropy = Arc::new(SequenceEntropy::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            broker: runtime.block_on(setup.start()).unwrap(),
            runtime,
            keys: Keys::default(),
            nonce: String::new(),
            agent: None,
            attested: None,
            app: None,
            // Above what the inputs are made of.
            sequence: 1_000_000,
            inputs: 0,
            trail: Vec::new(),
            head: "0".repeat(64),
        }
    }

    /// Sends a request that can be on the wire, and checks what holds for every answer.
    pub(crate) fn send(&self, request: &Request) -> Answer {
        let built = request.build().expect("the request can be sent");
        let answer = self.runtime.block_on(async {
            let (parts, body) = self.broker.serve(built, request.peer).await.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            }
        });
        answer.check(request);
        answer
    }

    /// A text with its names filled in.
    pub(crate) fn fill(&mut self, text: &str) -> String {
        String::from_utf8(self.fill_bytes(text.as_bytes())).unwrap()
    }

    /// Bytes with their names filled in.
    pub(crate) fn fill_bytes(&mut self, input: &[u8]) -> Vec<u8> {
        template::fill(input, |name| self.value(name))
    }

    fn value(&mut self, name: &str) -> String {
        match name {
            "{admin}" => self.admin(),
            "{agent}" => self.agent().token,
            "{agent_id}" => self.agent().id,
            "{jti}" => text(&claims(&self.agent().token), "jti"),
            "{app}" => {
                let subject = format!("app:{}", self.app().id);
                self.broker.sign(&subject, &APP_SCOPES)
            }
            "{app_id}" => self.app().id,
            "{attested}" => self.attested(),
            "{client_id}" => self.app().client_id,
            "{client_secret}" => self.app().client_secret,
            "{controller}" => controller(),
            "{pod}" => pod("reader-1").bearer(),
            "{launch}" => self.launch_token(),
            "{nonce}" => self.challenge(),
            "{public_key}" => self.keys.public(),
            "{signature}" => self.keys.sign(&self.nonce),
            _ => panic!("{name} has no value"),
        }
    }

    fn stands(&self, token: &str) -> bool {
        let request = Request::new("POST", "/v1/token/validate").body(json!({"token": token}).to_string().as_bytes());
        self.send(&request).json()["valid"] == true
    }

    /// A token of an admin.
    pub(crate) fn admin(&self) -> String {
        self.broker
            .sign("admin", &["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"])
    }

    /// An app that is active.
    fn app(&mut self) -> App {
        let admin = self.admin();
        if let Some(app) = self.app.clone() {
            let path = format!("/v1/admin/apps/{}", app.id);
            if self.call("GET", &path, &admin, &Value::Null)["status"] == "active" {
                return app;
            }
        }
        let body = json!({"name": format!("app-{}", self.next()), "scopes": ["read:data:*"]});
        let answer = self.post("/v1/admin/apps", &admin, &body);
        let app = App {
            id: text(&answer, "app_id"),
            client_id: text(&answer, "client_id"),
            client_secret: text(&answer, "client_secret"),
        };
        self.app = Some(app.clone());
        app
    }

    fn challenge(&mut self) -> String {
        let state = &self.broker.state;
        let now = self.broker.clock.unix_millis();
        self.nonce = state.nonces.issue(&state.store.epoch(), now).unwrap();
        self.nonce.clone()
    }

    fn launch_token(&mut self) -> String {
        let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"], "max_ttl": 86_400, "ttl": 86_400});
        let admin = self.admin();
        let answer = self.post("/v1/admin/launch-tokens", &admin, &body);
        text(&answer, "launch_token")
    }

    /// A number that was not there before.
    fn next(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }

    fn post(&self, path: &str, bearer: &str, body: &Value) -> Value {
        self.call("POST", path, bearer, body)
    }

    fn call(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Value {
        let request = Request::new(method, path)
            .header("authorization", &format!("Bearer {bearer}"))
            .body(body.to_string().as_bytes());
        self.send(&request).json()
    }

    fn register(&mut self, launch_token: &str, orch_id: &str, task_id: &str) -> Option<Agent> {
        let nonce = self.challenge();
        let changes = json!({"orch_id": orch_id, "task_id": task_id});
        let body = self.keys.registration(launch_token, &nonce, &changes);
        let answer = self.post("/v1/register", "", &body);
        let (id, token) = (answer["agent_id"].as_str()?, answer["access_token"].as_str()?);
        Some(Agent {
            id: id.to_owned(),
            token: token.to_owned(),
        })
    }

    /// An agent whose token stands.
    fn agent(&mut self) -> Agent {
        if let Some(agent) = self.agent.clone().filter(|agent| self.stands(&agent.token)) {
            return agent;
        }
        let launch_token = self.launch_token();
        // A task of its own each time: one may have been revoked.
        let task = format!("task-{}", self.next());
        let agent = self
            .register(&launch_token, "orch", &task)
            .expect("an agent can register");
        self.agent = Some(agent.clone());
        agent
    }

    /// The token of a pod's agent; a dead one when inputs have made it impossible to get another.
    fn attested(&mut self) -> String {
        if let Some(agent) = self.attested.clone().filter(|agent| self.stands(&agent.token)) {
            return agent.token;
        }
        let made = self.attest();
        let token = made
            .as_ref()
            .or(self.attested.as_ref())
            .map(|agent| agent.token.clone());
        self.attested = made.or(self.attested.take());
        token.unwrap_or_default()
    }

    fn attest(&mut self) -> Option<Agent> {
        let controller = controller();
        let put = |sequence: i64, spec: Value| {
            json!({
                "uid": "farm", "generation": 1, "state": "ready", "spec": spec,
                "order": {"lease_epoch": 1, "sequence": sequence},
            })
        };
        let app = put(
            self.next(),
            json!({"scopes": ["read:data:*"], "max_agent_ttl_seconds": 86_400}),
        );
        self.call("PUT", "/v1/k8s/policies/apps/farm/orders", &controller, &app);
        let launch = json!({
            "app": "orders", "agent_name": "a", "allowed_scopes": ["read:data:*"], "max_ttl_seconds": 86_400,
            "service_account_names": ["reader"],
        });
        let launch = put(self.next(), launch);
        self.call(
            "PUT",
            "/v1/k8s/policies/launch-tokens/farm/reader",
            &controller,
            &launch,
        );
        let pod = pod("reader-2");
        let body = json!({"policy": "reader", "public_key": self.value("{public_key}")});
        let answer = self.post("/v1/k8s/launch-tokens", &pod.bearer(), &body);
        let launch_token = answer["launch_token"].as_str()?.to_owned();
        self.register(&launch_token, "k8s.farm.orders", &pod.uid)
    }

    /// What the trail tells since it was last looked at continues its chain, without gaps.
    pub(crate) fn check_trail(&mut self) {
        loop {
            let (events, total) = self.page(self.trail.len());
            assert!(!events.is_empty() || self.trail.len() == total);
            for event in events {
                let sealed: AuditEvent = serde_json::from_value(event.clone()).unwrap();
                assert_eq!(sealed.id, format!("evt-{:06}", self.trail.len() + 1));
                assert_eq!(sealed.prev_hash, self.head);
                assert_eq!(sealed.compute_hash(), sealed.hash, "{sealed:?}");
                self.head = sealed.hash;
                self.trail.push(event);
            }
            if self.trail.len() == total {
                return;
            }
        }
    }

    /// Nothing that the trail has told was changed since.
    fn check_past(&mut self) {
        self.check_trail();
        let mut read = 0;
        while read < self.trail.len() {
            let (events, _) = self.page(read);
            assert!(!events.is_empty() && self.trail[read..].starts_with(&events));
            read += events.len();
        }
    }

    /// A page as the store has it: what is around it on the wire is what `audit_query` looks at.
    fn page(&self, offset: usize) -> (Vec<Value>, usize) {
        let filter = EventFilter {
            offset: i64::try_from(offset).unwrap(),
            limit: 1000,
            ..EventFilter::default()
        };
        let page = self.runtime.block_on(self.broker.state.store.events(filter)).unwrap();
        let events = serde_json::from_str(&page.events).unwrap();
        (events, usize::try_from(page.total).unwrap())
    }

    /// The events of the trail as [`Self::check_trail`] has read them. A new broker gets a few to tell of.
    pub(crate) fn trail(&mut self) -> &[Value] {
        if self.trail.is_empty() {
            self.agent();
            self.attested();
            self.app();
            self.call("POST", "/v1/token/renew", "no-token", &Value::Null);
            self.post("/v1/admin/auth", "", &json!({"secret": "a-wrong-admin-secret"}));
            self.check_trail();
        }
        &self.trail
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
        .to_owned()
}

/// A pod that the cluster knows. No input writes policies in the namespace of the second.
fn pod(name: &str) -> Pod {
    let namespace = if name == "reader-1" { "shop" } else { "farm" };
    let mut pod = Pod::new(namespace, &format!("uid-of-{name}"));
    name.clone_into(&mut pod.name);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_something_that_works() {
        let mut world = World::new();
        for name in template::NAMES {
            assert!(!world.fill(name).is_empty(), "{name}");
        }
        for bearer in ["{agent}", "{attested}"] {
            let bearer = world.fill(bearer);
            assert!(world.stands(&bearer));
            assert!(world.post("/v1/token/renew", &bearer, &json!({}))["access_token"].is_string());
        }
        let registration = br#"{"launch_token":"{launch}","nonce":"{nonce}","public_key":"{public_key}",
            "signature":"{signature}","orch_id":"o","task_id":"t","requested_scope":["read:data:x"]}"#;
        let body = world.fill_bytes(registration);
        let answer = world.send(&Request::new("POST", "/v1/register").body(&body));
        assert_eq!(answer.status, 200, "{answer:?}");
        let launched = br#"{"policy":"reader","public_key":"{public_key}"}"#;
        let body = world.fill_bytes(launched);
        let bearer = world.fill("Bearer {pod}");
        let request = Request::new("POST", "/v1/k8s/launch-tokens")
            .header("authorization", &bearer)
            .body(&body);
        assert_eq!(world.send(&request).status, 404, "no policy in that namespace yet");
        world.check_past();
        assert!(world.trail.len() > 5);
    }
}
