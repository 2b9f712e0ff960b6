//! Renewal with proof of possession: a token that was copied is not renewed.

use agentwrit_testkit::{Answer, Keys, START, World, claims};
use serde_json::{Value, json};

const DOMAIN: &str = "agentwrit.local";

struct Agent {
    world: World,
    keys: Keys,
    token: String,
}

impl Agent {
    /// A pod whose launch said `renewal_proof: true`.
    async fn new() -> Self {
        let world = World::new().await.with_policies().await;
        let keys = Keys::new(1);
        let token = world.agent_with(&world.pod("pod-1"), &keys, &json!(true)).await;
        Self { world, keys, token }
    }

    /// A renewal of this token with this proof.
    async fn renew(&self, token: &str, proof: &str) -> Answer {
        let headers = [("Agentwrit-Proof", proof)];
        self.world.renew_with_headers(token, &headers, &Value::Null).await
    }

    /// A proof of the pod's own for a token, now.
    fn proof(&self, token: &str) -> String {
        self.keys.prove(DOMAIN, &jti(token), self.now())
    }

    fn now(&self) -> i64 {
        use agentwrit_protocol::Clock as _;
        self.world.clock.unix_seconds().get()
    }
}

fn jti(token: &str) -> String {
    claims(token)["jti"].as_str().unwrap().to_owned()
}

fn token(answer: Answer) -> String {
    answer.ok()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_launched_with_renewal_proof_renews_with_one() {
    let agent = Agent::new().await;
    let mut current = agent.token.clone();
    for _ in 0..3 {
        agent.world.clock.advance(200);
        let next = token(agent.renew(&current, &agent.proof(&current)).await);
        assert!(agent.world.stands(&next).await && !agent.world.stands(&current).await);
        current = next;
    }
}

#[tokio::test]
async fn without_a_proof_nothing_is_renewed_and_nothing_spent() {
    let agent = Agent::new().await;
    let answer = agent.world.renew(&agent.token).await;
    assert_eq!(answer.refusal(), (403, "proof_required"));
    assert_eq!(answer.body["type"], "urn:agentwrit:error:proof_required");
    assert!(answer.body["detail"].as_str().unwrap().contains("Agentwrit-Proof"));
    assert!(agent.world.stands(&agent.token).await);
    let refused = agent.world.events("event_type=token_renewal_failed").await;
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (&refused[0]["error_kind"], &refused[0]["pod_uid"], &refused[0]["source"]),
        (&json!("proof_required"), &json!("pod-1"), &json!("10.0.0.7"))
    );
    token(agent.renew(&agent.token, &agent.proof(&agent.token)).await);
}

#[tokio::test]
async fn a_wrong_proof_is_refused() {
    let agent = Agent::new().await;
    let world = &agent.world;
    let other = world.agent_with(&world.pod("pod-2"), &Keys::new(2), &json!(true)).await;
    let id = jti(&agent.token);
    let good = agent.proof(&agent.token);
    let wrong = [
        ("another session's key", Keys::new(2).prove(DOMAIN, &id, START)),
        ("another session's token", agent.keys.prove(DOMAIN, &jti(&other), START)),
        (
            "another trust domain",
            agent.keys.prove("agentwrit.example", &id, START),
        ),
        (
            "another time than was signed",
            good.replace(&START.to_string(), &(START + 1).to_string()),
        ),
        ("padding", format!("{good}==")),
        ("upper case", good.to_uppercase()),
        ("standard base64", good.replace(['-', '_'], "+")),
        ("a line of two", format!("{good}, {good}")),
        ("another version", good.replace("v1", "v2")),
        ("nothing", String::new()),
        ("the token itself", agent.token.clone()),
    ];
    for (what, proof) in &wrong {
        if *proof == good {
            continue; // A signature without the characters that differ.
        }
        assert_eq!(
            agent.renew(&agent.token, proof).await.refusal(),
            (403, "proof_invalid"),
            "{what}"
        );
    }
    let twice = [("Agentwrit-Proof", good.as_str()), ("agentwrit-proof", good.as_str())];
    let answer = world.renew_with_headers(&agent.token, &twice, &Value::Null).await;
    assert_eq!(answer.refusal(), (403, "proof_invalid"));
    let refused = world.events("event_type=token_renewal_failed").await;
    assert!(!refused.is_empty() && refused.iter().all(|event| event["error_kind"] == "proof_invalid"));
    assert!(world.stands(&agent.token).await, "nothing is spent");
    token(agent.renew(&agent.token, &good).await);
}

#[tokio::test]
async fn a_header_that_was_seen_renews_no_later_token() {
    let agent = Agent::new().await;
    let seen = agent.proof(&agent.token);
    let second = token(agent.renew(&agent.token, &seen).await);
    // Within the window, by somebody who has both the header and the new token.
    agent.world.clock.advance(5);
    assert_eq!(agent.renew(&second, &seen).await.refusal(), (403, "proof_invalid"));
    assert_eq!(agent.renew(&agent.token, &seen).await.refusal(), (403, "superseded"));
    token(agent.renew(&second, &agent.proof(&second)).await);
}

#[tokio::test]
async fn a_stale_proof_is_answered_with_the_brokers_time() {
    for (off, code) in [(-61, "proof_stale"), (61, "proof_stale"), (-60, ""), (60, "")] {
        let agent = Agent::new().await;
        let proof = agent.keys.prove(DOMAIN, &jti(&agent.token), START + off);
        let answer = agent.renew(&agent.token, &proof).await;
        if code.is_empty() {
            token(answer);
            continue;
        }
        assert_eq!(answer.refusal(), (403, code), "{off}");
        assert_eq!(answer.headers["date"], "Fri, 15 Jan 2027 08:00:00 GMT");
        assert!(
            answer.body["detail"].as_str().unwrap().contains(&off.to_string()),
            "{}",
            answer.body
        );
        assert_eq!(agent.world.last_kind("token_renewal_failed").await, code);
        token(agent.renew(&agent.token, &agent.proof(&agent.token)).await);
    }
}

#[tokio::test]
async fn the_proof_comes_before_the_idempotency_key() {
    let agent = Agent::new().await;
    let first = &agent.token;
    let renewed = |proof: Option<String>| {
        let world = &agent.world;
        async move {
            let mut headers = vec![("Idempotency-Key", "key-1")];
            if let Some(proof) = &proof {
                headers.push(("Agentwrit-Proof", proof));
            }
            world.renew_with_headers(first, &headers, &Value::Null).await
        }
    };
    let second = token(renewed(Some(agent.proof(first))).await);
    assert_eq!(renewed(None).await.refusal(), (403, "proof_required"));
    let thief = Keys::new(2).prove(DOMAIN, &jti(first), START);
    assert_eq!(renewed(Some(thief)).await.refusal(), (403, "proof_invalid"));
    agent.world.clock.advance(59);
    assert_eq!(token(renewed(Some(agent.proof(first))).await), second, "the same again");
    assert_eq!(agent.world.events("event_type=token_renewed").await.len(), 1);
}

#[tokio::test]
async fn a_session_that_has_ended_says_so_first() {
    let agent = Agent::new().await;
    agent.world.revoke("task", &json!("pod-1")).await;
    assert_eq!(agent.world.renew(&agent.token).await.refusal(), (403, "revoked"));
}

#[tokio::test]
async fn the_demand_for_a_proof_survives_a_restart() {
    let Agent {
        world,
        keys,
        token: first,
    } = Agent::new().await;
    let agent = Agent {
        world: world.restarted().await,
        keys,
        token: first,
    };
    assert_eq!(agent.world.renew(&agent.token).await.refusal(), (403, "proof_required"));
    token(agent.renew(&agent.token, &agent.proof(&agent.token)).await);
}

#[tokio::test]
async fn other_launches_need_no_proof_and_the_header_says_nothing() {
    let world = World::new().await.with_policies().await;
    for (number, said) in [Value::Null, json!(false)].into_iter().enumerate() {
        let keys = Keys::new(1);
        let first = world
            .agent_with(&world.pod(&format!("pod-{number}")), &keys, &said)
            .await;
        let second = token(world.renew(&first).await);
        let headers = [("Agentwrit-Proof", "whatever")];
        token(world.renew_with_headers(&second, &headers, &Value::Null).await);
    }
}

#[tokio::test]
async fn a_launch_with_a_malformed_renewal_proof_is_refused() {
    let world = World::new().await.with_policies().await;
    let pod = world.pod("pod-1");
    for wrong in [json!("true"), json!(1), json!([])] {
        let answer = world.launch_saying(&pod, &Keys::new(1), &wrong).await;
        assert_eq!(answer.refusal(), (400, "invalid_request"), "{wrong}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains("renewal_proof"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_delegated_token_is_renewed_by_the_contracts_rule() {
    let agent = Agent::new().await;
    let world = &agent.world;
    let to = world.agent_with(&world.pod("pod-2"), &Keys::new(2), &json!(true)).await;
    let body = json!({"delegate_to": claims(&to)["sub"], "scope": ["read:orders:*"], "ttl": 60});
    let delegated = token(world.call("POST", "/v1/delegate", &agent.token, &body).await);
    let next = token(world.renew(&delegated).await);
    assert!(world.stands(&next).await && !world.stands(&delegated).await);
}

#[tokio::test]
async fn of_parallel_renewals_with_one_proof_one_wins() {
    let agent = Agent::new().await;
    let proof = agent.proof(&agent.token);
    let answers = futures_util::future::join_all((0..16).map(|_| agent.renew(&agent.token, &proof))).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.refusal(), (200, "") | (403, "superseded")))
    );
}
