//! Whatever happens before and after: once a person has revoked a pod, or it has ended, no token of it is valid, nor any
//! that was delegated to it.
//!
//! A revoked pod may start anew once it is released.

use agentwrit_testkit::{Keys, Launched, Pod, World, claims};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Two pods; `VICTIM` is the one that is revoked.
const PODS: [&str; 2] = [
    "3f0e8a52-6a0b-4f7e-9d2b-0a1b2c3d4e5f",
    "7b1c9d40-1111-4222-8333-444455556666",
];
const VICTIM: usize = 0;
const STATES: [&str; 3] = ["ready", "suspended", "not_ready"];
const SCOPES: [&[&str]; 2] = [&["read:orders:*"], &["read:orders:7"]];

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    Launch { pod: usize },
    Register { launch: usize },
    Renew { token: usize },
    Delegate { token: usize, to: usize },
    Give { token: usize },
    Policy { state: usize, scopes: usize },
    Forward { seconds: i64 },
    Prune,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let one = 0_usize..1000;
    prop_oneof![
        4 => (0..PODS.len()).prop_map(|pod| Op::Launch { pod }),
        6 => one.clone().prop_map(|launch| Op::Register { launch }),
        4 => one.clone().prop_map(|token| Op::Renew { token }),
        3 => (one.clone(), one.clone()).prop_map(|(token, to)| Op::Delegate { token, to }),
        1 => one.prop_map(|token| Op::Give { token }),
        3 => (0..STATES.len(), 0..SCOPES.len()).prop_map(|(state, scopes)| Op::Policy { state, scopes }),
        4 => prop::sample::select(vec![1, 9, 25, 200, 301, 90_000]).prop_map(|seconds| Op::Forward { seconds }),
        1 => Just(Op::Prune),
        1 => Just(Op::Restart),
    ]
}

/// Which of the names that lead to the pod the person uses.
#[derive(Debug, Clone)]
enum Aim {
    Task,
    Agent(usize),
    Token(usize),
    Chain(usize),
    /// An agent id that names the pod, of an instance that never was.
    MadeUp(&'static str),
    /// No revocation: the pod ends.
    PodEnd,
}

fn aim() -> impl Strategy<Value = Aim> {
    let one = 0_usize..1000;
    prop_oneof![
        Just(Aim::Task),
        one.clone().prop_map(Aim::Agent),
        one.clone().prop_map(Aim::Token),
        one.prop_map(Aim::Chain),
        prop::sample::select(vec!["agent", "chain"]).prop_map(Aim::MadeUp),
        Just(Aim::PodEnd),
    ]
}

/// The broker, and all that it ever handed out.
struct History {
    world: World,
    pods: Vec<Pod>,
    launches: Vec<(usize, Launched)>,
    /// Token and the pod whose authority it is.
    tokens: Vec<(usize, String)>,
    generation: i64,
    /// The victim is gone, and launches no more.
    ended: bool,
}

fn key(pod: usize) -> Keys {
    Keys::new(if pod == VICTIM { 1 } else { 2 })
}

fn pick<T: Clone>(items: &[T], number: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[number % items.len()].clone())
}

impl History {
    async fn new() -> Self {
        let world = World::new().await.with_policies().await;
        let pods = PODS.iter().map(|uid| world.pod(uid)).collect();
        Self {
            world,
            pods,
            launches: Vec::new(),
            tokens: Vec::new(),
            generation: 1,
            ended: false,
        }
    }

    fn keep(&mut self, pod: usize, body: &Value) {
        if let Some(token) = body["access_token"].as_str() {
            self.tokens.push((pod, token.to_owned()));
        }
    }

    async fn apply(mut self, op: &Op) -> Self {
        match op {
            Op::Launch { pod: VICTIM } if self.ended => {}
            Op::Launch { pod } => {
                let answer = self.world.launch(&self.pods[*pod], &key(*pod)).await;
                if answer.status == 201 {
                    self.launches.push((*pod, World::launched(answer)));
                }
            }
            Op::Register { launch } => {
                if let Some((pod, launched)) = pick(&self.launches, *launch) {
                    let answer = self.world.register(&launched, &key(pod)).await;
                    self.keep(pod, &answer.body);
                }
            }
            Op::Renew { token } => {
                if let Some((pod, token)) = pick(&self.tokens, *token) {
                    let answer = self.world.renew(&token).await;
                    self.keep(pod, &answer.body);
                }
            }
            Op::Delegate { token, to } => {
                if let Some(((pod, token), (_, to))) = pick(&self.tokens, *token).zip(pick(&self.tokens, *to)) {
                    let body =
                        json!({"delegate_to": claims(&to)["sub"], "scope": claims(&token)["scope"], "ttl": 3600});
                    let answer = self.world.call("POST", "/v1/delegate", &token, &body).await;
                    self.keep(pod, &answer.body);
                }
            }
            Op::Give { token } => {
                if let Some((_, token)) = pick(&self.tokens, *token) {
                    self.world.call("POST", "/v1/token/release", &token, &Value::Null).await;
                }
            }
            Op::Policy { state, scopes } => {
                self.generation += 1;
                let (world, scopes) = (&self.world, SCOPES[*scopes]);
                let put = world.launch_token(self.generation, STATES[*state], scopes);
                world.put_launch_token(&put).await.ok();
            }
            Op::Forward { seconds } => self.world.clock.advance(*seconds),
            Op::Prune => self.world.tidy().await,
            Op::Restart => self.world = self.world.restarted().await,
        }
        self
    }

    /// Level and target of a person's revocation of the victim; `None` when the pod is to end, or has no token to name.
    fn target(&self, aim: &Aim) -> Option<(&'static str, String)> {
        // A delegated token is not one that a session ever had.
        let own = |(pod, token): &&(usize, String)| *pod == VICTIM && claims(token).get("delegation_chain").is_none();
        let own: Vec<String> = self.tokens.iter().filter(own).map(|(_, token)| token.clone()).collect();
        let claim = |number: usize, name: &str| {
            let claims = claims(&pick(&own, number)?);
            Some(claims[name].as_str().unwrap().to_owned())
        };
        match aim {
            Aim::Task => Some(("task", PODS[VICTIM].to_owned())),
            Aim::Agent(number) => Some(("agent", claim(*number, "sub")?)),
            Aim::Chain(number) => Some(("chain", claim(*number, "sub")?)),
            Aim::Token(number) => Some(("token", claim(*number, "jti")?)),
            Aim::PodEnd => None,
            Aim::MadeUp(level) => {
                let uid = PODS[VICTIM];
                let agent = format!("spiffe://agentwrit.local/agent/k8s.shop.orders/{uid}/0123456789abcdef");
                Some((level, agent))
            }
        }
    }

    async fn check(&self, when: &str) {
        for (_, token) in &self.tokens {
            let claims = claims(token);
            // Its task, its subject, or one of its chain.
            if claims.to_string().contains(PODS[VICTIM]) {
                assert!(!self.world.stands(token).await, "{when}: {claims}");
            }
        }
    }
}

async fn holds(before: &[Op], aim: &Aim, after: &[Op]) {
    let mut history = History::new().await;
    for op in before {
        history = history.apply(op).await;
    }
    if let Some((level, target)) = history.target(aim) {
        let answer = history.world.revoke(level, &json!(target)).await;
        assert_eq!(answer["pods_quarantined"], 1, "{level} {target}");
    } else {
        history.world.end_pod(PODS[VICTIM]).await.ok();
        history.ended = true;
    }
    history.check("after the end").await;
    for op in after {
        history = history.apply(op).await;
        history.check(&format!("after {op:?}")).await;
    }
    history = history.apply(&Op::Restart).await;
    history.check("after a restart").await;
    if history.ended {
        return;
    }
    history.world.clock.advance(60);
    let refused = history.world.launch(&history.pods[VICTIM], &key(VICTIM)).await;
    assert_eq!(refused.refusal(), (403, "revoked"));
    let released = history.world.release_pod(PODS[VICTIM]).await;
    assert_eq!(released, json!({"released": true}));
    history.check("after the release").await;
    history = history.apply(&Op::Policy { state: 0, scopes: 0 }).await;
    let token = history.world.agent(&history.pods[VICTIM], &key(VICTIM)).await;
    assert!(history.world.stands(&token).await, "released, it has a token again");
}

#[test]
fn no_history_gives_a_revoked_or_ended_pod_a_token() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let history = (
        prop::collection::vec(op(), 0..16),
        aim(),
        prop::collection::vec(op(), 0..12),
    );
    TestRunner::new(config)
        .run(&history, |(before, aim, after)| {
            runtime.block_on(holds(&before, &aim, &after));
            Ok(())
        })
        .unwrap();
}
