//! Every metric, moved by requests; and the page that lists them.

mod meter;
mod pods;

use agentwrit_testkit::{ADMIN_SECRET, App, FakeCluster, stores};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::Clock;
use agentwrit_protocol::audit::EventType;
use agentwrit_store::SweepTask;
use serde_json::{Value, json};

use self::meter::Meter;
use self::pods::pod;
use super::exposition::Exposition;

/// `docs/wire-contract.md` §16.2.
const CONTRACT: [(&str, &str, &str); 12] = [
    ("agentwrit_tokens_issued_total", "counter", "scope"),
    ("agentwrit_tokens_revoked_total", "counter", "level"),
    ("agentwrit_registrations_total", "counter", "status"),
    ("agentwrit_admin_auth_total", "counter", "status"),
    ("agentwrit_launch_tokens_created_total", "counter", ""),
    ("agentwrit_active_agents", "gauge", ""),
    ("agentwrit_request_duration_seconds", "histogram", "endpoint"),
    ("agentwrit_clock_skew_total", "counter", ""),
    ("agentwrit_audit_events_total", "counter", "event_type"),
    ("agentwrit_audit_write_duration_seconds", "histogram", ""),
    ("agentwrit_db_errors_total", "counter", "operation"),
    ("agentwrit_audit_events_loaded", "gauge", ""),
];
const ENDPOINTS: [&str; 30] = [
    "admin_apps",
    "admin_auth",
    "admin_keys",
    "admin_launch_tokens",
    "app_auth",
    "app_launch_tokens",
    "audit_events",
    "challenge",
    "delegate",
    "discovery",
    "health",
    "jwks",
    "k8s",
    "k8s_denials",
    "k8s_launch_tokens",
    "k8s_mark",
    "k8s_pods",
    "k8s_policies",
    "k8s_policy",
    "k8s_signing_keys",
    "metrics",
    "openapi",
    "other",
    "probes",
    "revoke",
    "revoke_matching",
    "token_issue",
    "token_release",
    "token_renew",
    "token_validate",
];
const LAUNCHED: &[&str] = &["launch_tokens_created_total", "event launch_token_issued"];

#[tokio::test]
async fn every_request_moves_its_metrics_and_every_metric_is_moved() {
    let cluster = Arc::new(FakeCluster::default());
    let mut meter = Meter::new(Arc::clone(&cluster)).await;
    readings(&mut meter).await;
    admin(&mut meter).await;
    let token = agent(&mut meter).await;
    bearer(&mut meter, &token).await;
    revocations(&mut meter).await;
    app(&mut meter).await;
    pod(&mut meter, &cluster).await;
    store_failure(&mut meter).await;
    crowds(&mut meter).await;
    let held = meter.harness.events("").await.len();
    assert!(held >= 1000, "{held}");
    retained(&mut meter).await;
    keys(&mut meter).await;

    let all = Exposition::of(&meter.harness).await;
    let set = |values: &[&'static str]| values.iter().copied().collect::<BTreeSet<_>>();
    // Told of at a start alone: clocks.rs, and the store's suite.
    let at_start = [EventType::ClockAccepted, EventType::InstallationAdopted];
    let events = EventType::ALL.iter().filter(|event| !at_start.contains(event));
    let events: Vec<&str> = events.map(|event| event.as_str()).collect();
    for (family, values) in [
        (
            "tokens_revoked_total",
            set(&[
                "token",
                "agent",
                "task",
                "chain",
                "release",
                "namespace",
                "app",
                "policy",
                "node",
                "service_account",
            ]),
        ),
        ("registrations_total", set(&["success", "failure"])),
        ("admin_auth_total", set(&["success", "failure"])),
        ("request_duration_seconds", set(&ENDPOINTS)),
        ("audit_events_total", set(&events)),
        ("attestation_api_seconds", set(&["review", "pod"])),
        ("db_errors_total", set(&["insert_session"])),
        ("audit_segments_dropped_total", set(&["true"])),
        (
            "sweep_duration_seconds",
            SweepTask::ALL.iter().map(|task| task.as_str()).collect(),
        ),
    ] {
        assert_eq!(all.values(family), values, "{family}");
    }
    assert!(all.value("audit_write_duration_seconds_count") > 0);
    for endpoint in ENDPOINTS {
        assert!(all.value(&format!("request_duration_seconds_count{{endpoint=\"{endpoint}\"}}")) > 0);
    }
    assert_eq!(all.value("audit_events_loaded"), 0);
    // At its end the broker tells the trail how many denials were suppressed.
    let count = meter.harness.get("/v1/health").await.ok()["audit_events_count"]
        .as_i64()
        .unwrap()
        + 1;
    let settings = [("AA_ATTEST_AUDIENCE", "{unset}"), ("AA_CONTROLLER_SUBJECT", "{unset}")];
    let again = meter.harness.restart(&settings).await;
    let loaded = format!("\nagentwrit_audit_events_loaded {count}\n");
    assert!(again.get("/v1/metrics").await.text.contains(&loaded), "{loaded}");
    the_page(all);
}

/// The exposition and the contract hold the same metrics but for those that the page tells of; and the page tells of all.
fn the_page(all: Exposition) {
    // The program has one that no library has: lines of its log.
    let folder = tempfile::tempdir().unwrap();
    let process = crate::PROGRAM.start(folder.path(), &[]);
    let mut stream = std::net::TcpStream::connect(process.address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /v1/metrics HTTP/1.0\r\n\r\n").unwrap();
    let program = std::io::read_to_string(stream).unwrap();
    let mut families = Exposition::parse(program.split_once("\r\n\r\n").unwrap().1).families;
    families.extend(all.families);

    for (name, kind, label) in CONTRACT {
        let family = &families[name];
        let labels: Vec<&str> = family.labels.iter().map(String::as_str).collect();
        assert_eq!(
            (family.kind.as_str(), labels.join(" ").as_str()),
            (kind, label),
            "{name}"
        );
    }
    let mut table = String::from("| name | type | labels | tells |\n|---|---|---|---|\n");
    for (name, family) in &families {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, help, labels) = (&family.kind, &family.help, labels.join(" "));
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- metrics:begin -->\n").unwrap();
    let after = rest.split_once("<!-- metrics:end -->\n").unwrap().1;
    let wanted = format!("{before}<!-- metrics:begin -->\n{table}<!-- metrics:end -->\n{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "docs/metrics.md differs; run UPDATE_DOCS=1 cargo test -p agentwrit-broker --test api metrics"
    );
}

/// A segment that can't be exported, then can, and goes.
async fn retained(meter: &mut Meter) {
    let broker = Arc::clone(&meter.harness.state);
    meter.deltas().await;
    meter.harness.clock.advance(8 * 86_400);
    housekeeping::prune(&broker).await;
    broker.retention.apply().await;
    let moved = meter.deltas().await;
    assert_eq!(moved.get("audit_segments"), Some(&1), "{moved:?}");
    assert_eq!(moved.get("audit_export_failures_total"), Some(&1), "{moved:?}");
    std::fs::create_dir(meter.harness.folder.path().join("export")).unwrap();
    meter.harness.clock.advance(10);
    broker.retention.apply().await;
    let moved = meter.deltas().await;
    assert_eq!(moved.get("audit_segments"), Some(&-1), "{moved:?}");
    assert_eq!(moved.get("event audit_segment_dropped"), Some(&1), "{moved:?}");
}

/// What counts nothing but its time.
async fn readings(meter: &mut Meter) {
    for path in [
        "/v1/challenge",
        "/v1/health",
        "/v1/metrics",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/livez",
        "/readyz",
    ] {
        assert_eq!(meter.harness.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1/nope", "/.well-known/openid-configuration"] {
        assert_eq!(meter.harness.get(path).await.status, 404, "{path}");
    }
    assert_eq!(meter.harness.post("/v1/health", "").await.status, 405);
    meter.harness.post("/v1/token/validate", r#"{"token":"x"}"#).await.ok();
    meter.moved(&[]).await;
}

async fn admin(meter: &mut Meter) {
    meter.harness.admin().await;
    meter
        .moved(&[
            "admin_auth_total{status=\"success\"}",
            "tokens_issued_total{scope=\"admin:launch-tokens:*\"}",
            "event admin_auth",
        ])
        .await;
    let wrong = json!({"secret": format!("{ADMIN_SECRET}!")}).to_string();
    assert_eq!(meter.harness.post("/v1/admin/auth", &wrong).await.status, 401);
    meter
        .moved(&["admin_auth_total{status=\"failure\"}", "event admin_auth_failed"])
        .await;
    assert_eq!(meter.harness.post("/v1/admin/auth", "{").await.status, 400);
    meter.moved(&[]).await;
    let admin = meter.harness.admin().await;
    let answer = meter.harness.post_as(&admin, "/v1/admin/launch-tokens", "{}").await;
    assert_eq!(answer.status, 400);
    meter.moved(&["event launch_token_denied"]).await;
}

/// Another signing key, and the end of all tokens of the first.
async fn keys(meter: &mut Meter) {
    meter.deltas().await;
    let first = meter.harness.state.tokens.keys.kid();
    let admin = meter.harness.admin().await;
    let answer = meter.harness.post_as(&admin, "/v1/admin/keys/rotate", "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/v1/admin/keys/{first}/retire");
    meter.harness.post_as(&admin, &path, r#"{"now":true}"#).await.ok();
    let deltas = meter.deltas().await;
    for (event, count) in [
        ("key_rotation_requested", 1),
        ("key_published", 2),
        ("key_retired", 1),
        ("epoch_begun", 1),
    ] {
        assert_eq!(deltas.get(&format!("event {event}")), Some(&count), "{deltas:?}");
    }
    meter.harness.forget_admin();
}

/// Registrations, renewals, delegations and releases; the token of an agent that still lives.
async fn agent(meter: &mut Meter) -> String {
    let issued = "tokens_issued_total{scope=\"read:data:x\"}";
    let failed = "registrations_total{status=\"failure\"}";
    let launch = meter.harness.launch(json!({"single_use": false})).await;
    meter.moved(LAUNCHED).await;
    let registered = meter.harness.register(&launch, json!({})).await.ok();
    meter
        .moved(&[
            "registrations_total{status=\"success\"}",
            issued,
            "active_agents",
            "event agent_registered",
            "event token_issued",
            "status_indexes_free",
        ])
        .await;
    meter.harness.register("unknown", json!({})).await;
    meter.moved(&[failed, "event registration_denied"]).await;
    let over = json!({"requested_scope": ["write:data:x"]});
    meter.harness.register(&launch, over).await;
    meter.moved(&[failed, "event registration_policy_violation"]).await;
    meter.harness.post("/v1/register", "{").await;
    meter.moved(&[]).await;

    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let token = text(&registered, "access_token");
    let token = text(&meter.harness.renew(&token).await.ok(), "access_token");
    meter.moved(&[issued, "event token_renewed"]).await;
    let delegate_to = text(&registered, "agent_id");
    let wish = |scope: &str| json!({"delegate_to": delegate_to, "scope": [scope]}).to_string();
    let answer = meter.harness.post_as(&token, "/v1/delegate", wish("read:data:x")).await;
    let delegated = text(&answer.ok(), "access_token");
    meter
        .moved(&[issued, "event delegation_created", "status_indexes_free"])
        .await;
    let over = meter.harness.post_as(&token, "/v1/delegate", wish("read:data:y")).await;
    assert_eq!(over.status, 403);
    meter.moved(&["event delegation_attenuation_violation"]).await;
    let release = meter.harness.post_as(&delegated, "/v1/token/release", "").await;
    assert_eq!(release.status, 204);
    meter
        .moved(&["tokens_revoked_total{level=\"release\"}", "event token_released"])
        .await;
    assert_eq!(meter.harness.renew(&delegated).await.status, 403);
    meter.moved(&["event token_revoked_access"]).await;

    let long = json!({"requested_scope": ["read:data:x"]});
    let launch = meter.harness.launch(json!({"max_ttl": 3000})).await;
    let old = meter.harness.register(&launch, long).await.ok();
    meter.deltas().await;
    meter.harness.clock.advance(1001);
    assert_eq!(meter.harness.renew(&text(&old, "access_token")).await.status, 401);
    let deltas = meter.deltas().await;
    // The first agent's token has expired meanwhile.
    let wanted = [("active_agents", -1), ("event token_renewal_failed", 1)];
    assert_eq!(deltas, wanted.map(|(name, moved)| (name.to_owned(), moved)).into());
    text(&old, "access_token")
}

/// The bearer check.
async fn bearer(meter: &mut Meter, token: &str) {
    assert_eq!(meter.harness.get("/v1/audit/events").await.status, 401);
    meter.moved(&["event token_auth_failed"]).await;
    assert_eq!(meter.harness.get_as(token, "/v1/audit/events").await.status, 403);
    meter.moved(&["event scope_violation"]).await;
    // Of a broker whose clock is ahead.
    let now = meter.harness.clock.unix_seconds().get();
    let early = json!({"sub": "a", "jti": "b", "iat": now + 60, "nbf": now + 60, "exp": now + 90}).to_string();
    let early = meter.harness.state.tokens.keys.sign(early.as_bytes()).unwrap();
    assert_eq!(meter.harness.get_as(&early, "/v1/audit/events").await.status, 401);
    meter.moved(&["clock_skew_total", "event token_auth_failed"]).await;
}

async fn revocations(meter: &mut Meter) {
    let admin = meter.harness.admin().await;
    meter.deltas().await;
    for level in ["token", "agent", "task", "chain"] {
        let body = json!({"level": level, "target": "nobody"}).to_string();
        meter.harness.post_as(&admin, "/v1/revoke", body).await.ok();
        let series = format!("tokens_revoked_total{{level=\"{level}\"}}");
        meter.moved(&[&series, "event token_revoked"]).await;
    }
    let body = json!({"level": "all", "target": "nobody"}).to_string();
    assert_eq!(meter.harness.post_as(&admin, "/v1/revoke", body).await.status, 400);
    meter.moved(&[]).await;
    let path = "/v1/admin/revoke-matching";
    for (selector, target) in [
        ("namespace", "nothing"),
        ("app", "nothing/a"),
        ("policy", "nothing/a"),
        ("node", "nothing"),
        ("service_account", "nothing/a"),
    ] {
        let dry = json!({selector: target, "dry_run": true}).to_string();
        meter.harness.post_as(&admin, path, dry).await.ok();
        meter.moved(&[]).await;
        let body = json!({selector: target}).to_string();
        meter.harness.post_as(&admin, path, body).await.ok();
        let series = format!("tokens_revoked_total{{level=\"{selector}\"}}");
        meter.moved(&[&series, "event bulk_revocation"]).await;
    }
}

async fn app(meter: &mut Meter) {
    let app: App = meter.harness.app("shop", json!({})).await;
    meter.moved(&["event app_registered"]).await;
    let admin = meter.harness.admin().await;
    let place = format!("/v1/admin/apps/{}", app.id);
    let change = json!({"token_ttl": 600}).to_string();
    meter.harness.send_as(&admin, "PUT", &place, change).await.ok();
    meter.moved(&["event app_updated"]).await;
    let token = meter.harness.app_token(&app).await;
    meter
        .moved(&[
            "tokens_issued_total{scope=\"app:launch-tokens:*\"}",
            "event app_authenticated",
        ])
        .await;
    let wish = |scope: &str| json!({"agent_name": "a", "allowed_scope": [scope]}).to_string();
    let path = "/v1/app/launch-tokens";
    meter.harness.post_as(&token, path, wish("read:data:x")).await.ok();
    meter.moved(LAUNCHED).await;
    let over = meter.harness.post_as(&token, path, wish("write:data:x")).await;
    assert_eq!(over.status, 403);
    meter.moved(&["event scope_ceiling_exceeded"]).await;
    let wrong = App {
        secret: "wrong".to_owned(),
        ..app.clone()
    };
    for _ in 0..2 {
        assert_eq!(meter.harness.app_auth(&wrong).await.status, 401);
        meter.moved(&["event app_auth_failed"]).await;
    }
    assert_eq!(meter.harness.app_auth(&app).await.status, 429);
    meter.moved(&["event app_rate_limited"]).await;
    meter.harness.send_as(&admin, "DELETE", &place, "").await.ok();
    meter.moved(&["event app_deregistered"]).await;
}

async fn store_failure(meter: &mut Meter) {
    let launch = meter.harness.launch(json!({})).await;
    let body = meter.harness.registration(&launch, json!({})).await.to_string();
    meter.deltas().await;
    let folder = meter.harness.folder.path();
    stores::change(folder, "ALTER TABLE sessions RENAME TO gone");
    assert_eq!(meter.harness.post("/v1/register", &body).await.status, 503);
    stores::change(folder, "ALTER TABLE gone RENAME TO sessions");
    meter
        .moved(&[
            "db_errors_total{operation=\"insert_session\"}",
            "registrations_total{status=\"failure\"}",
        ])
        .await;
}

/// A mark of a store that nobody knows.
async fn restored(meter: &mut Meter) {
    let compared = meter.harness.state.store.compare(Some("no mark")).await.unwrap();
    assert!(compared.restored);
    meter
        .moved(&["store_restored_total{rule=\"unreadable_mark\"}", "event store_restored"])
        .await;
    meter.harness.forget_admin();
}

/// What takes many: a label that is bounded, denials beyond the rate, a checkpoint.
async fn crowds(meter: &mut Meter) {
    let launch = meter.harness.launch(json!({"single_use": false})).await;
    for number in 0..100 {
        let scope = json!({"requested_scope": [format!("read:data:{number}")]});
        meter.harness.register(&launch, scope).await.ok();
    }
    let deltas = meter.deltas().await;
    let other = deltas["tokens_issued_total{scope=\"other\"}"];
    // Admin, app and `read:data:x` came before.
    assert_eq!(other, 3);
    assert_eq!(
        Exposition::of(&meter.harness).await.values("tokens_issued_total").len(),
        101
    );

    // In one second of the clock.
    for _ in 0..1010 {
        assert_eq!(meter.harness.get("/v1/audit/events").await.status, 401);
    }
    let deltas = meter.deltas().await;
    let (told, suppressed) = (deltas["event token_auth_failed"], deltas["denials_suppressed_total"]);
    assert_eq!(told + suppressed, 1010, "{deltas:?}");
    assert_eq!(deltas["event audit_checkpoint"], 1);
    restored(meter).await;
    assert_eq!(Exposition::of(&meter.harness).await.value("handler_panics_total"), 0);
}
