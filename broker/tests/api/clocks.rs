//! Wall clocks that jump: nothing comes back to life, nothing is forgotten, and no life is stretched.

use agentwrit_broker::process::housekeeping;
use agentwrit_protocol::Clock;
use agentwrit_protocol::session::TokenState;
use agentwrit_testkit::{ADMIN_SECRET, Harness, claims};
use agentwrit_tokens::verifier::TokenError;
use proptest::prelude::*;
use serde_json::json;

const DAY: i64 = 86_400;

async fn revoke(harness: &Harness, level: &str, target: &str) -> u16 {
    let admin = harness.admin().await;
    let body = json!({"level": level, "target": target}).to_string();
    harness.post_as(&admin, "/v1/revoke", body).await.status
}

/// Why `/readyz` says that the clock is wrong, if it does.
async fn clock_trouble(harness: &Harness) -> Option<String> {
    let answer = harness.get("/readyz").await;
    let failing = answer.json()["failing"].clone();
    let clock = failing.as_array()?.iter().find(|item| item["dependency"] == "clock")?;
    assert_eq!((answer.status, clock["reason"].as_str()), (503, Some("clock")));
    Some(clock["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn back_by_seconds_revives_nothing_that_has_ended() {
    let harness = Harness::new().await;
    let (_, released) = harness.agent(json!({})).await;
    let (_, renewed) = harness.agent(json!({})).await;
    let (_, revoked) = harness.agent(json!({"task_id": "t1"})).await;
    let (_, standing) = harness.agent(json!({})).await;
    harness.clock.advance(60);
    assert_eq!(harness.post_as(&released, "/v1/token/release", "").await.status, 204);
    harness.renew(&renewed).await.ok();
    assert_eq!(revoke(&harness, "task", "t1").await, 200);
    for back in [1, 30, 28] {
        harness.clock.jump(-back);
        for token in [&released, &renewed, &revoked] {
            assert!(!harness.stands(token).await);
        }
        assert!(harness.stands(&standing).await);
    }
    let harness = harness.restart(&[]).await;
    for token in [&released, &renewed, &revoked] {
        assert!(!harness.stands(token).await);
    }
    // What ended a moment ago ends no second time.
    let answer = harness.post_as(&released, "/v1/token/release", "").await;
    answer.refused(403, "insufficient_scope", "token has been revoked");
    assert!(harness.stands(&standing).await);
}

#[tokio::test]
async fn forward_prune_and_back_forgets_no_revocation() {
    let harness = Harness::with(&[("AA_MAX_TTL", "600")]).await;
    let agents = [
        ("task", "t1"),
        ("agent", "t2"),
        ("token", "t3"),
        ("release", "t4"),
        ("renew", "t5"),
    ];
    let mut dead = Vec::new();
    for (level, task) in agents {
        let (agent, token) = harness.agent(json!({"task_id": task})).await;
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        let status = match level {
            "release" => harness.post_as(&token, "/v1/token/release", "").await.status,
            "renew" => harness.renew(&token).await.status,
            "task" => revoke(&harness, level, task).await,
            "agent" => revoke(&harness, level, &agent).await,
            _ => revoke(&harness, level, &jti).await,
        };
        assert!(status < 300, "{level}");
        dead.push(token);
    }
    for forward in [3600, 40 * DAY] {
        harness.clock.jump(forward);
        housekeeping::prune(&harness.state).await;
        harness.clock.jump(-forward);
        for token in &dead {
            assert!(!harness.stands(token).await);
        }
    }
    harness.clock.jump(40 * DAY);
    housekeeping::prune(&harness.state).await;
    let setup = harness.stop().await;
    setup.clock.jump(-40 * DAY);
    let harness = Harness::start(setup).await;
    for token in &dead {
        assert!(!harness.stands(token).await);
    }
    assert_eq!(
        clock_trouble(&harness).await,
        None,
        "a day of a wrong date that did not stand"
    );
}

#[tokio::test]
async fn a_nonce_and_a_launch_token_are_used_once_whatever_the_clock_does() {
    let harness = Harness::new().await;
    let launch = harness.launch(json!({"ttl": 30})).await;
    let registration = harness.registration(&launch, json!({})).await.to_string();
    harness.post("/v1/register", &registration).await.ok();
    let kept = harness.launch(json!({"ttl": 30})).await;
    let late = harness.registration(&kept, json!({})).await.to_string();
    harness.clock.jump(30 * DAY);
    housekeeping::prune(&harness.state).await;
    harness.clock.jump(-30 * DAY);
    let answer = harness.post("/v1/register", &registration).await;
    answer.refused(401, "unauthorized", "launch token already consumed");
    harness.clock.advance(31);
    harness.clock.jump(-31);
    let answer = harness.post("/v1/register", &late).await;
    answer.refused(401, "unauthorized", "launch token expired");
}

#[tokio::test]
async fn a_wall_clock_far_behind_the_store_issues_nothing() {
    let harness = Harness::new().await;
    let launch = harness.launch(json!({"single_use": false})).await;
    let registered = harness.register(&launch, json!({})).await.ok();
    let token = registered["access_token"].as_str().unwrap().to_owned();
    let setup = harness.stop().await;
    setup.clock.jump(-300);
    let harness = Harness::start(setup).await;
    assert_eq!(clock_trouble(&harness).await, None, "five minutes are borne");
    harness.clock.jump(-1);
    let sentence = clock_trouble(&harness).await.unwrap();
    for part in ["2027-01-15T07:54:59Z", "2027-01-15T08:00:00Z", "--accept-clock"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    let login = json!({"secret": ADMIN_SECRET}).to_string();
    let registration = harness.registration(&launch, json!({})).await.to_string();
    for (path, body) in [("/v1/admin/auth", login), ("/v1/register", registration)] {
        let answer = harness.post(path, body).await;
        answer.refused_like(503, "unavailable", "clock is wrong");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // It is set right: all goes on, with the same store.
    harness.clock.jump(301);
    assert_eq!(clock_trouble(&harness).await, None);
    assert!(harness.stands(&token).await);
    harness.register(&launch, json!({})).await.ok();
}

#[tokio::test]
async fn an_accepted_clock_begins_a_new_epoch() {
    let harness = Harness::new().await;
    let (_, old) = harness.agent(json!({})).await;
    // A wrong date that stands is believed, and tokens are dated by it.
    harness.clock.jump(DAY);
    harness.state.judging.observe();
    harness.clock.advance(600);
    let (_, future) = harness.agent(json!({})).await;
    let epoch = harness.state.store.epoch();
    let setup = harness.stop().await;
    setup.clock.jump(-DAY);
    let harness = Harness::start(setup).await;
    assert!(clock_trouble(&harness).await.is_some());
    assert_eq!(harness.state.store.epoch(), epoch);
    let harness = harness.restart_accepting_the_clock().await;
    assert_eq!(clock_trouble(&harness).await, None);
    let fresh = harness.state.store.epoch();
    assert_ne!(fresh, epoch);
    let told = harness.last("clock_accepted").await;
    let detail = told["detail"].as_str().unwrap();
    for part in [&*epoch, &*fresh, "the store has seen 2027-01-16"] {
        assert!(detail.contains(part), "{detail}");
    }
    let counted = "\nagentwrit_audit_events_total{event_type=\"clock_accepted\"} 1\n";
    assert!(harness.get("/v1/metrics").await.text.contains(counted));
    harness.clock.advance(1);
    let (_, new) = harness.agent(json!({})).await;
    assert!(harness.stands(&new).await && !harness.stands(&old).await);
    // The second time there is nothing to accept.
    let harness = harness.restart_accepting_the_clock().await;
    assert_eq!(harness.state.store.epoch(), fresh);
    assert_eq!(harness.events("event_type=clock_accepted").await.len(), 1);
    assert!(harness.stands(&new).await && !harness.stands(&old).await);
    // Nor does time bring to life what the wrong clock has dated.
    harness.clock.set_wall(claims(&future)["iat"].as_i64().unwrap());
    assert!(!harness.stands(&future).await);
}

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    Register,
    Renew(usize),
    Release(usize),
    Delegate(usize),
    Revoke(&'static str, usize),
    Pass(i64),
    Jump(i64),
    Prune,
    Restart { down: i64, jump: i64 },
}

fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => -40_i64..40,
        3 => -400_i64..400,
        2 => -100_000_i64..100_000,
        1 => Just(40 * DAY),
        1 => Just(-40 * DAY),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let levels = prop::sample::select(vec!["token", "agent", "task", "chain"]);
    prop_oneof![
        4 => Just(Op::Register),
        2 => (0_usize..100).prop_map(Op::Renew),
        2 => (0_usize..100).prop_map(Op::Release),
        2 => (0_usize..100).prop_map(Op::Delegate),
        2 => (levels, 0_usize..100).prop_map(|(level, token)| Op::Revoke(level, token)),
        3 => prop_oneof![0_i64..30, 100_i64..700].prop_map(Op::Pass),
        6 => jump().prop_map(Op::Jump),
        2 => Just(Op::Prune),
        1 => (prop_oneof![0_i64..90, 0_i64..4000], prop_oneof![Just(0), jump()])
            .prop_map(|(down, jump)| Op::Restart { down, jump }),
    ]
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// For good.
    ForGood,
    /// By a step of the wall clock that the mark has not taken over, which a restart forgets.
    ByStep,
}

/// A token, and what an account of the monotonic clock knows of it.
#[derive(Debug)]
struct Known {
    token: String,
    agent: String,
    refused: Option<Refused>,
    /// When its life is over by the monotonic clock; unknown when the wall clock that dated it was ahead of the mark.
    until: Option<i64>,
}

struct World {
    harness: Option<Harness>,
    known: Vec<Known>,
    /// Monotonic seconds.
    down: i64,
}

impl World {
    fn harness(&self) -> &Harness {
        self.harness.as_ref().unwrap()
    }

    fn monotonic(&self) -> i64 {
        i64::try_from(self.harness().clock.monotonic().as_millis()).unwrap() - self.down * 1000
    }

    fn know(&mut self, token: &str) {
        let times = self.harness().state.judging.times();
        let claims = claims(token);
        let number = |name: &str| claims[name].as_i64().unwrap();
        let life = (number("exp") - number("iat") + 1) * 1000;
        self.known.push(Known {
            token: token.to_owned(),
            agent: claims["sub"].as_str().unwrap().to_owned(),
            refused: None,
            until: (times.wall <= times.mark).then_some(self.monotonic() + life),
        });
    }

    fn chosen(&self, number: usize) -> Option<&Known> {
        let count = self.known.len();
        (count > 0).then(|| &self.known[number % count])
    }

    /// An admin's token; none while the clock is too far behind.
    async fn admin(&self) -> Option<String> {
        // So that logins are within their rate.
        self.harness().clock.advance(1);
        let body = json!({"secret": ADMIN_SECRET}).to_string();
        let answer = self.harness().post("/v1/admin/auth", body).await;
        let behind = self.harness().state.judging.times().is_behind();
        assert_eq!(answer.status, if behind { 503 } else { 200 }, "{answer:?}");
        (!behind).then(|| answer.json()["access_token"].as_str().unwrap().to_owned())
    }

    async fn apply(&mut self, op: &Op) {
        let harness = self.harness();
        match op {
            Op::Register => {
                let Some(admin) = self.admin().await else { return };
                let body = json!({"agent_name": "a", "allowed_scope": ["read:data:*"], "max_ttl": 300});
                let launched = harness
                    .post_as(&admin, "/v1/admin/launch-tokens", body.to_string())
                    .await;
                if launched.status != 201 {
                    // Dated by a wall clock that the mark is ahead of: expired already.
                    assert_eq!(launched.status, 401, "{launched:?}");
                    return;
                }
                let launched = launched.json();
                let task = format!("t{}", self.known.len() % 7);
                let changes = json!({"task_id": task, "requested_scope": ["read:data:*"]});
                let answer = harness
                    .register(launched["launch_token"].as_str().unwrap(), changes)
                    .await;
                let token = answer.ok()["access_token"].as_str().unwrap().to_owned();
                self.know(&token);
            }
            Op::Renew(number) => {
                let Some(known) = self.chosen(*number) else { return };
                let answer = harness.renew(&known.token).await;
                if answer.status == 200 {
                    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
                    self.know(&token);
                }
            }
            Op::Delegate(number) => {
                let Some(known) = self.chosen(*number) else { return };
                let body = json!({"delegate_to": known.agent, "scope": ["read:data:x"], "ttl": 200});
                let answer = harness.post_as(&known.token, "/v1/delegate", body.to_string()).await;
                if answer.status == 200 {
                    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
                    self.know(&token);
                }
            }
            Op::Release(number) => {
                let Some(known) = self.chosen(*number) else { return };
                harness.post_as(&known.token, "/v1/token/release", "").await;
            }
            Op::Revoke(level, number) => {
                let Some(admin) = self.admin().await else { return };
                let Some(known) = self.chosen(*number) else { return };
                let claims = claims(&known.token);
                let target = match *level {
                    "token" => &claims["jti"],
                    "task" => &claims["task_id"],
                    _ => &claims["sub"],
                };
                let body = json!({"level": level, "target": target}).to_string();
                harness.post_as(&admin, "/v1/revoke", body).await;
            }
            Op::Pass(seconds) => harness.clock.advance(*seconds),
            Op::Jump(seconds) => harness.clock.jump(*seconds),
            Op::Prune => housekeeping::prune(&harness.state).await,
            Op::Restart { down, jump } => {
                let setup = self.harness.take().unwrap().stop().await;
                setup.clock.advance(*down);
                setup.clock.jump(*jump);
                self.down += down;
                self.harness = Some(Harness::start(setup).await);
                for known in &mut self.known {
                    known.refused = known.refused.filter(|refused| *refused == Refused::ForGood);
                }
            }
        }
    }

    fn check(&mut self) {
        // As the broker does each second.
        let times = self.harness().state.judging.observe();
        let now = self.monotonic();
        let broker = &self.harness.as_ref().unwrap().state;
        for known in &mut self.known {
            let refused = match broker.tokens.verifier.verify(&known.token) {
                Ok(verified) if verified.state == TokenState::Active => {
                    assert_eq!(known.refused, None, "it comes back to life: {known:?} {times:?}");
                    let over = known.until.is_some_and(|until| now >= until);
                    assert!(!over, "it lives too long, at {now}: {known:?} {times:?}");
                    None
                }
                Err(TokenError::NotYetValid) => None,
                Err(TokenError::Expired) if claims(&known.token)["exp"].as_i64().unwrap() >= times.mark / 1000 => {
                    Some(Refused::ByStep)
                }
                // What a step has expired is remembered as spent.
                Ok(_) if known.refused == Some(Refused::ByStep) => Some(Refused::ByStep),
                Ok(_) | Err(_) => Some(Refused::ForGood),
            };
            known.refused = refused.or(known.refused);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_clock_does_the_dead_stay_dead(
        ops in prop::collection::vec((op(), prop::bool::weighted(0.6)), 5..40)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let harness = Some(Harness::new().await);
            let mut world = World { harness, known: Vec::new(), down: 0 };
            for (op, look) in &ops {
                world.apply(op).await;
                if *look {
                    world.check();
                }
            }
        });
    }
}
