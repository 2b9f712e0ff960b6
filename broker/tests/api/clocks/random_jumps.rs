//! Any sequence of operations and jumps of the clock: what has ended stays ended.

use super::*;

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
                Err(TokenError::Expired)
                    if claims(&known.token)["exp"].as_i64().unwrap() >= times.mark.second().get() =>
                {
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
