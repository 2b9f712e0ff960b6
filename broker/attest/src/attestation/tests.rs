#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use agentwrit_protocol::clock::ManualClock;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

use super::*;
use crate::{PodFacts, Review};

const OURS: &str = "agentwrit://agentwrit-system/agentwrit";
const CONTROLLER: &str = "system:serviceaccount:agentwrit-system:agentwrit-controller";

/// Another token of the controller's source.
const CONTROLLER_RENEWED: &str = "system:serviceaccount:agentwrit-system:other";

/// A ServiceAccount whose tokens are bound to a pod.
const OF_A_POD: &str = "system:serviceaccount:shop:bound";

/// An API server that answers with the username found in the token's `sub`.
#[derive(Default)]
struct Scripted {
    reviews: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    hold: Option<Notify>,
    away: bool,
}

#[async_trait]
impl Attestor for Scripted {
    async fn review(&self, token: &SecretString, audience: &str) -> Result<Review, AttestorError> {
        self.reviews.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        if let Some(hold) = &self.hold {
            hold.notified().await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        if self.away {
            return Err(AttestorError::Unreachable("connection refused".into()));
        }
        let payload = URL_SAFE_NO_PAD
            .decode(token.expose_secret().split('.').nth(1).unwrap())
            .unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let username = claims["sub"].as_str().unwrap().to_owned();
        let of_a_pod = (username == OF_A_POD).then(|| "reader-1".to_owned());
        Ok(Review {
            authenticated: true,
            audiences: vec![audience.to_owned()],
            pod_name: of_a_pod.clone(),
            pod_uid: of_a_pod,
            username,
            ..Review::default()
        })
    }

    async fn pod(&self, _namespace: &str, _name: &str) -> Result<Option<PodFacts>, AttestorError> {
        Err(AttestorError::Unreachable("connection refused".into()))
    }
}

fn bearer(sub: &str) -> String {
    let payload = serde_json::json!({"aud": [OURS], "exp": 10_000, "sub": sub}).to_string();
    format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

/// So many reviews of one source, and no more.
#[derive(Default)]
struct Counted {
    most: Option<usize>,
    taken: Mutex<HashMap<Source, usize>>,
}

impl ReviewLimit for Counted {
    fn allows_review(&self, source: Source) -> bool {
        let mut taken = self.taken.lock();
        let taken = taken.entry(source).or_default();
        *taken += 1;
        self.most.is_none_or(|most| *taken <= most)
    }
}

fn attestation(server: &Arc<Scripted>) -> (Arc<Attestation>, Arc<ManualClock>) {
    limited(server, Counted::default())
}

fn limited(server: &Arc<Scripted>, limit: Counted) -> (Arc<Attestation>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000));
    let settings = Settings {
        audience: OURS.into(),
        controller_subject: CONTROLLER.into(),
    };
    let metrics = AttestMetrics::new().unwrap();
    let attestation = Attestation::new(server.clone(), Arc::new(limit), clock.clone(), settings, metrics);
    (Arc::new(attestation), clock)
}

fn source(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn kind(error: AttestError) -> DenialKind {
    match error {
        AttestError::Denied { kind, .. } => kind,
        AttestError::Unavailable(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_controllers_review_is_cached_for_five_seconds() {
    let server = Arc::new(Scripted::default());
    let (attestation, clock) = attestation(&server);
    for (advance, reviews) in [(0, 1), (5_000, 1), (1, 2), (-10_000, 2), (5_001, 3)] {
        clock.advance_millis(advance);
        attestation
            .controller(Some(&bearer(CONTROLLER)), source(1))
            .await
            .unwrap();
        assert_eq!(server.reviews.load(Ordering::SeqCst), reviews, "after {advance} ms");
    }
}

#[tokio::test]
async fn a_pods_review_is_never_kept() {
    let server = Arc::new(Scripted::default());
    let (attestation, _) = attestation(&server);
    for wanted in 1..=3 {
        let refused = attestation
            .pod_caller(Some(&bearer("system:serviceaccount:shop:a")), source(1))
            .await;
        assert_eq!(kind(refused.unwrap_err()), DenialKind::NotBoundToPod);
        assert_eq!(server.reviews.load(Ordering::SeqCst), wanted);
    }
}

#[tokio::test]
async fn nobody_else_is_the_controller() {
    let server = Arc::new(Scripted::default());
    let (attestation, _) = attestation(&server);
    let refused = attestation
        .controller(
            Some(&bearer("system:serviceaccount:shop:agentwrit-controller")),
            source(1),
        )
        .await;
    assert_eq!(kind(refused.unwrap_err()), DenialKind::NotController);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_refusal() {
    let server = Arc::new(Scripted {
        away: true,
        ..Scripted::default()
    });
    let (attestation, _) = attestation(&server);
    let error = attestation
        .pod_caller(Some(&bearer("system:serviceaccount:shop:a")), source(1))
        .await
        .unwrap_err();
    assert!(matches!(error, AttestError::Unavailable(AttestorError::Unreachable(_))));
}

#[tokio::test]
async fn nonsense_never_reaches_the_api_server() {
    let server = Arc::new(Scripted::default());
    let (attestation, _) = attestation(&server);
    assert_eq!(
        kind(attestation.pod_caller(None, source(1)).await.unwrap_err()),
        DenialKind::BearerMissing
    );
    assert_eq!(
        kind(
            attestation
                .controller(Some("Bearer a.b.c"), source(1))
                .await
                .unwrap_err()
        ),
        DenialKind::BearerMalformed
    );
    assert_eq!(server.reviews.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_source_cannot_keep_the_api_server_busy() {
    let server = Arc::new(Scripted::default());
    let limit = Counted {
        most: Some(2),
        ..Counted::default()
    };
    let (attestation, _) = limited(&server, limit);
    let token = bearer("system:serviceaccount:shop:a");
    for (from, wanted) in [
        (1, DenialKind::NotBoundToPod),
        (1, DenialKind::NotBoundToPod),
        (1, DenialKind::SourceRateLimited),
        (2, DenialKind::NotBoundToPod),
        (1, DenialKind::SourceRateLimited),
    ] {
        let refused = attestation.pod_caller(Some(&token), source(from)).await;
        assert_eq!(kind(refused.unwrap_err()), wanted, "from {from}");
    }
    assert_eq!(
        server.reviews.load(Ordering::SeqCst),
        3,
        "the others were not asked about"
    );
}

#[tokio::test]
async fn the_controllers_address_counts_apart_from_its_network() {
    let server = Arc::new(Scripted::default());
    let limit = Counted {
        most: Some(1),
        ..Counted::default()
    };
    let (attestation, _) = limited(&server, limit);
    let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let ask = async |sub: &str, last| attestation.controller(Some(&bearer(sub)), address(last)).await;
    assert!(ask(CONTROLLER, 1).await.is_ok());
    let refused = ask("system:serviceaccount:shop:a", 2).await;
    assert_eq!(kind(refused.unwrap_err()), DenialKind::SourceRateLimited, "its network");
    let refused = ask(CONTROLLER_RENEWED, 1).await;
    assert_eq!(
        kind(refused.unwrap_err()),
        DenialKind::NotController,
        "a review of its own"
    );
}

#[tokio::test]
async fn reviews_in_flight_are_bounded() {
    let server = Arc::new(Scripted {
        hold: Some(Notify::new()),
        ..Scripted::default()
    });
    let (attestation, _) = attestation(&server);
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let attestation = attestation.clone();
            tokio::spawn(async move {
                attestation
                    .pod_caller(Some(&bearer("system:serviceaccount:shop:a")), source(1))
                    .await
            })
        })
        .collect();
    while callers.iter().any(|caller| !caller.is_finished()) {
        server.hold.as_ref().unwrap().notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!(server.reviews.load(Ordering::SeqCst), 40);
    assert_eq!(server.most.load(Ordering::SeqCst), MAX_IN_FLIGHT);
}

#[tokio::test]
async fn who_was_vouched_for_waits_for_no_second_turn() {
    let server = Arc::new(Scripted {
        hold: Some(Notify::new()),
        ..Scripted::default()
    });
    let (attestation, _) = attestation(&server);
    let call = |sub: &'static str| {
        let attestation = attestation.clone();
        tokio::spawn(async move { attestation.pod_caller(Some(&bearer(sub)), source(1)).await })
    };
    let settle = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let first = call(OF_A_POD);
    settle().await;
    server.hold.as_ref().unwrap().notify_one();
    let known = first.await.unwrap().unwrap();
    let others: Vec<_> = (0..40).map(|_| call(OF_A_POD)).collect();
    settle().await;
    assert_eq!(
        server.running.load(Ordering::SeqCst),
        MAX_IN_FLIGHT - 1,
        "it has its turn still"
    );
    // At once, although many wait.
    let looked = tokio::time::timeout(Duration::ZERO, attestation.living_pod(known, "reader")).await;
    let error = looked.unwrap().unwrap_err();
    assert!(
        matches!(error, AttestError::Unavailable(AttestorError::Unreachable(_))),
        "{error}"
    );
    settle().await;
    assert_eq!(server.running.load(Ordering::SeqCst), MAX_IN_FLIGHT, "and passes it on");
    drop(others);
}

#[tokio::test]
async fn a_source_that_floods_takes_turns_with_the_others() {
    let server = Arc::new(Scripted {
        hold: Some(Notify::new()),
        ..Scripted::default()
    });
    let (attestation, _) = attestation(&server);
    let call = |from: u8, sub: &'static str| {
        let attestation = attestation.clone();
        tokio::spawn(async move { attestation.controller(Some(&bearer(sub)), source(from)).await.is_ok() })
    };
    let settle = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let flood: Vec<_> = (0..100).map(|_| call(1, "system:serviceaccount:shop:a")).collect();
    settle().await;
    assert_eq!(server.running.load(Ordering::SeqCst), MAX_IN_FLIGHT);
    let controller = call(2, CONTROLLER);
    settle().await;
    for _ in 0..2 * MAX_IN_FLIGHT {
        server.hold.as_ref().unwrap().notify_one();
        settle().await;
    }
    assert!(controller.is_finished(), "after two rounds, though 100 came before");
    assert!(flood.iter().any(|call| !call.is_finished()));
    assert!(controller.await.unwrap());
    // Its source is known now: turns of its own, without a wait.
    let running = server.running.load(Ordering::SeqCst);
    let again = call(2, CONTROLLER_RENEWED);
    settle().await;
    assert_eq!(server.running.load(Ordering::SeqCst), running + 1);
    drop((again, flood));
}
