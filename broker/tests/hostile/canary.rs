//! Secrets with a mark in them, and every place where the mark must not be.

use agentwrit_testkit::{AUDIENCE, Answer, ApiServer, CONTROLLER, Keys, Pod, Watched, registration};
use std::fmt::{Debug, Write};
use std::path::Path;

use agentwrit_broker::config::Config;
use agentwrit_protocol::apps::{AppAuthRequest, AppAuthResponse, RegisterAppResponse};
use agentwrit_protocol::k8s::PodLaunchResponse;
use agentwrit_protocol::wire::{
    AdminAuthRequest, AdminAuthResponse, DelegateResponse, LaunchTokenResponse, RegisterRequest, RegisterResponse,
    RenewResponse, ValidateRequest,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SECRET: &str = "c4n4ry-admin-secret-of-the-test";

/// A program that gets secrets, and what it answered.
struct Canary {
    watched: Watched,
    /// By name.
    secrets: Vec<(&'static str, String)>,
    /// Bodies that go to somebody who must not learn a secret from them.
    answers: String,
    /// What `{:?}` makes of bodies that carry secrets.
    debug: String,
}

impl Canary {
    fn start(folder: &Path, format: &str) -> Self {
        let kubeconfig = folder.join("kubeconfig");
        ApiServer::start([pod()]).write_kubeconfig(&kubeconfig);
        let settings = [
            ("AA_ADMIN_SECRET", SECRET),
            ("AA_LOG_LEVEL", "trace"),
            ("AA_LOG_FORMAT", format),
            ("AA_ATTEST_AUDIENCE", AUDIENCE),
            ("AA_CONTROLLER_SUBJECT", CONTROLLER),
            ("KUBECONFIG", kubeconfig.to_str().unwrap()),
        ];
        let watched = Watched::new(crate::PROGRAM.start(folder, &settings));
        let pem = std::fs::read_to_string(folder.join("signing.key")).unwrap();
        let secrets = vec![
            ("the mark", "c4n4ry".to_owned()),
            ("the signing key", pem.lines().nth(1).unwrap().to_owned()),
        ];
        Self {
            watched,
            secrets,
            answers: String::new(),
            debug: String::new(),
        }
    }

    fn keep(&mut self, name: &'static str, secret: &str) -> String {
        self.secrets.push((name, secret.to_owned()));
        secret.to_owned()
    }

    /// A call that succeeds; its answer, as the wire type that it is, goes into the Debug output.
    fn ok<T: DeserializeOwned + Debug>(&mut self, line: &str, token: &str, body: &Value) -> Answer {
        let reply = self.watched.ask(line, token, &text(body));
        assert!((200..300).contains(&reply.status), "{line}: {reply:?}");
        self.show::<T>(&reply.text);
        reply
    }

    fn show<T: DeserializeOwned + Debug>(&mut self, body: &str) {
        let typed: T = serde_json::from_str(body).unwrap();
        writeln!(self.debug, "{typed:?}\n{typed:#?}").unwrap();
    }

    /// A call whose answer must hold no secret.
    fn call(&mut self, line: &str, token: &str, body: &str) -> u16 {
        let reply = self.watched.ask(line, token, body);
        self.answers += &reply.text;
        reply.status
    }

    fn nonce(&self) -> String {
        self.watched.ask("GET /v1/challenge", "", "").member("nonce")
    }

    /// Registers with a launch token: SPIFFE id and token.
    fn register(&mut self, name: &'static str, launch_token: &str, changes: Value) -> (String, String) {
        let body = registration(launch_token, &self.nonce(), changes);
        self.show::<RegisterRequest>(&body.to_string());
        let reply = self.ok::<RegisterResponse>("POST /v1/register", "", &body);
        (reply.member("agent_id"), self.keep(name, &reply.member("access_token")))
    }

    /// Every word of the token API, from login to release.
    fn token_api(&mut self) {
        let login = json!({ "secret": SECRET });
        self.show::<AdminAuthRequest>(&login.to_string());
        let admin = self.ok::<AdminAuthResponse>("POST /v1/admin/auth", "", &login);
        let admin = self.keep("the admin's token", &admin.member("access_token"));
        let wish = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]});
        let launch = self.ok::<LaunchTokenResponse>("POST /v1/admin/launch-tokens", &admin, &wish);
        let launch = self.keep("an admin's launch token", &launch.member("launch_token"));
        let (_, agent) = self.register("an agent's token", &launch, json!({}));

        let app = json!({"name": "shop", "scopes": ["read:data:*"]});
        let app = self.ok::<RegisterAppResponse>("POST /v1/admin/apps", &admin, &app);
        let secret = self.keep("the client secret", &app.member("client_secret"));
        let credentials = json!({"client_id": app.member("client_id"), "client_secret": secret});
        self.show::<AppAuthRequest>(&credentials.to_string());
        let login = self.ok::<AppAuthResponse>("POST /v1/app/auth", "", &credentials);
        let login = self.keep("the app's token", &login.member("access_token"));
        let launch = self.ok::<LaunchTokenResponse>("POST /v1/app/launch-tokens", &login, &wish);
        let launch = self.keep("an app's launch token", &launch.member("launch_token"));
        let (delegate, other) = self.register("an app's agent's token", &launch, json!({"task_id": "t2"}));

        let wish = json!({"delegate_to": delegate, "scope": ["read:data:x"]});
        let delegated = self.ok::<DelegateResponse>("POST /v1/delegate", &agent, &wish);
        let delegated = self.keep("a delegated token", &delegated.member("access_token"));
        let renewed = self.ok::<RenewResponse>("POST /v1/token/renew", &agent, &Value::Null);
        let renewed = self.keep("a renewed token", &renewed.member("access_token"));
        for token in [&delegated, &renewed, &other] {
            let body = json!({ "token": token }).to_string();
            self.show::<ValidateRequest>(&body);
            assert_eq!(self.call("POST /v1/token/validate", "", &body), 200);
        }
        let unused = self.ok::<LaunchTokenResponse>(
            "POST /v1/app/launch-tokens",
            &login,
            &json!({"agent_name": "b", "allowed_scope": ["read:data:y"]}),
        );
        self.keep("a launch token that nobody used", &unused.member("launch_token"));
        assert_eq!(self.call("POST /v1/token/release", &other, ""), 204);
        // Right ones in the wrong places.
        for body in [
            json!({"client_id": credentials["client_id"], "client_secret": format!("{secret}x")}),
            json!({"client_id": credentials["client_id"], "client_secret": {"a": secret}}),
        ] {
            assert!(self.call("POST /v1/app/auth", "", &body.to_string()) >= 400);
        }
        for token in [&admin, &login, &renewed, &other, &agent] {
            for line in [
                "GET /v1/admin/apps",
                "GET /v1/audit/events?limit=1000",
                "POST /v1/app/launch-tokens",
                "POST /v1/k8s/launch-tokens",
                "GET /v1/k8s/denials",
            ] {
                self.call(&format!("{line}{}access_token={token}", joint(line)), token, "");
            }
        }
        let gone = format!("DELETE /v1/admin/apps/{}", app.member("app_id"));
        assert_eq!(self.call(&gone, &admin, ""), 200);
        for token in [admin, login] {
            self.call("GET /v1/admin/apps", &token, "");
        }
    }

    /// A pod's launch, registration and end.
    fn kubernetes(&mut self) {
        let controller = marked(&agentwrit_testkit::controller(), "c4n4ry-controller");
        let pod = marked(&self::pod().bearer(), "c4n4ry-pod");
        let policies = [
            (
                "apps/shop/orders",
                json!({"scopes": ["read:orders:*"], "max_agent_ttl_seconds": 3600}),
            ),
            (
                "launch-tokens/shop/reader",
                json!({
                    "app": "orders", "agent_name": "reader", "allowed_scopes": ["read:orders:*"],
                    "max_ttl_seconds": 300, "service_account_names": ["reader"],
                }),
            ),
        ];
        for (sequence, (place, spec)) in (1..).zip(policies) {
            let put = json!({
                "uid": place.replace('/', "-"), "generation": 1, "order": {"lease_epoch": 1, "sequence": sequence}, "state": "ready",
                "spec": spec,
            });
            let line = format!("PUT /v1/k8s/policies/{place}");
            assert_eq!(self.call(&line, &controller, &put.to_string()), 200);
        }
        let wish = json!({"policy": "reader", "public_key": Keys::default().public()});
        let launched = self.ok::<PodLaunchResponse>("POST /v1/k8s/launch-tokens", &pod, &wish);
        let launch = self.keep("a pod's launch token", &launched.member("launch_token"));
        let changes = json!({
            "orch_id": launched.member("orch_id"), "task_id": launched.member("task_id"),
            "requested_scope": ["read:orders:*"],
        });
        let (_, token) = self.register("a pod's token", &launch, changes);
        let overlap = json!({"overlap_seconds": 30});
        let renewed = self.ok::<RenewResponse>("POST /v1/token/renew", &token, &overlap);
        self.keep("a pod's renewed token", &renewed.member("access_token"));
        // Whom the cluster doesn't know, and who may not.
        for stranger in [
            marked(&self::pod().bearer_with(&json!({"forged": true})), "c4n4ry-forged"),
            "c4n4ry.c4n4ry.c4n4ry".to_owned(),
            pod.clone(),
            controller.clone(),
        ] {
            for line in [
                "POST /v1/k8s/launch-tokens",
                "PUT /v1/k8s/policies",
                "PUT /v1/k8s/policies/apps/shop/other",
                "GET /v1/k8s/policies",
                "GET /v1/k8s/denials",
                "POST /v1/k8s/pods/none/ended",
                "POST /v1/k8s/pods/none/release",
            ] {
                self.call(
                    line,
                    &stranger,
                    &json!({"policy": "other", "public_key": "x"}).to_string(),
                );
            }
        }
        let end = json!({"namespace": "shop", "name": "pod-1", "reason": "deleted"}).to_string();
        let line = format!("POST /v1/k8s/pods/{}/ended", self::pod().uid);
        assert_eq!(self.call(&line, &controller, &end), 200);
    }

    /// Wrong bodies and wrong bearers with the mark in them.
    fn refusals(&mut self) {
        let admin = self.secrets.iter().find(|(name, _)| *name == "the admin's token");
        let forged = format!("{}x", admin.unwrap().1);
        let wrong = json!({
            "secret": format!("{SECRET}-wrong"), "client_id": "x", "client_secret": "c4n4ry-client-secret",
            "launch_token": "c4n4ry", "nonce": "n", "public_key": "c4n4ry", "signature": "c4n4ry", "token": "c4n4ry",
            "orch_id": "o", "task_id": "t", "requested_scope": ["x:y:z"],
        });
        let bodies = [
            wrong.to_string(),
            format!("{{\"secret\":\"{SECRET}\""),
            format!("{{\"secret\":[\"{SECRET}\"],\"token\":[\"c4n4ry\"],\"launch_token\":{{\"c4n4ry\":1}}}}"),
            format!("\"{SECRET}\""),
            SECRET.to_owned(),
        ];
        for path in [
            "/v1/admin/auth",
            "/v1/register",
            "/v1/token/validate",
            "/v1/token/renew",
            "/v1/token/release",
            "/v1/delegate",
            "/v1/revoke",
            "/v1/app/auth",
            "/v1/app/launch-tokens",
            "/v1/admin/launch-tokens",
            "/v1/nope",
        ] {
            for token in ["", "c4n4ry.c4n4ry.c4n4ry", &forged] {
                for body in &bodies {
                    self.call(&format!("POST {path}?secret={SECRET}"), token, body);
                }
            }
        }
    }

    /// What anybody, or an operator, may read.
    fn readings(&mut self) {
        let login = json!({ "secret": SECRET });
        // Its limit lets one more through each fifth of a second.
        let admin = loop {
            let reply = self.watched.ask("POST /v1/admin/auth", "", &login.to_string());
            if reply.status == 200 {
                break reply.member("access_token");
            }
        };
        self.keep("another token of the admin", &admin);
        for line in [
            "GET /v1/audit/events?limit=1000",
            "GET /v1/admin/apps",
            "GET /v1/metrics",
            "GET /v1/health",
            "GET /readyz",
            "GET /openapi.json",
            "GET /.well-known/jwks.json",
        ] {
            assert_eq!(self.call(line, &admin, ""), 200, "{line}");
        }
    }
}

/// The pod that launches.
fn pod() -> Pod {
    Pod::new("shop", "1")
}

/// A ServiceAccount token with a signature that can be looked for.
fn marked(token: &str, signature: &str) -> String {
    let (unsigned, _) = token.rsplit_once('.').unwrap();
    format!("{unsigned}.{signature}")
}

fn joint(line: &str) -> char {
    if line.contains('?') { '&' } else { '?' }
}

fn text(body: &Value) -> String {
    if body.is_null() {
        String::new()
    } else {
        body.to_string()
    }
}

/// The store's files, as they are now.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "signing.key" {
            files.push((
                name,
                String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            ));
        }
    }
    files
}

#[test]
fn no_secret_is_in_logs_store_metrics_trail_or_debug() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let mut canary = Canary::start(folder.path(), format);
        canary.token_api();
        canary.kubernetes();
        canary.refusals();
        canary.readings();
        let Canary {
            watched,
            secrets,
            answers,
            debug,
        } = canary;
        let running = files(folder.path());
        for name in ["data.db", "data.db-wal", "data.db-shm"] {
            assert!(running.iter().any(|(file, _)| file == name), "{name} is looked into");
        }
        let written = |text: &str| running.iter().any(|(_, content)| content.contains(text));
        assert!(
            written("delegation_created") && written("pod_ended"),
            "the files are readable as text"
        );
        let (out, err) = watched.end();
        assert!(
            out.contains("/v1/k8s/launch-tokens") && out.contains("TRACE"),
            "the log was on"
        );
        assert!(
            answers.contains("\"event_type\":\"delegation_created\""),
            "the trail was read"
        );
        assert!(
            debug.contains("RegisterAppResponse") && debug.contains("Sensitive(***)"),
            "{debug}"
        );
        let mut places = running;
        places.extend(files(folder.path()));
        places.extend(
            [("stdout", out), ("stderr", err), ("answers", answers), ("Debug", debug)].map(|(n, t)| (n.into(), t)),
        );
        assert!(secrets.len() > 15, "{}", secrets.len());
        for (place, text) in &places {
            for (name, secret) in &secrets {
                // Of a token the signature is enough to tell: nobody else has it.
                let mark = secret.rsplit('.').next().unwrap();
                assert!(!text.contains(mark), "{format}: {place} holds {name}");
            }
        }
    }
}

#[test]
fn the_configuration_shows_no_secret() {
    for secret in [SECRET, "$2b$12$c4n4ryc4n4ryc4n4ryc4nuc4n4ryc4n4ryc4n4ryc4n4ryc4n4ryc"] {
        let config = Config::load(&|name| (name == "AA_ADMIN_SECRET").then(|| secret.to_owned())).unwrap();
        let shown = format!("{config:?}{config:#?}");
        assert!(!shown.contains("c4n4ry"), "{shown}");
        let failures = Config::load(&|name| match name {
            "AA_ADMIN_SECRET" => Some(format!("{secret}{secret}")),
            "AA_PORT" => Some("none".to_owned()),
            _ => None,
        });
        assert!(!format!("{failures:?}").contains("c4n4ry"));
    }
}
