//! Writes of policies on their way: those that wait while one request is under way go together in the next.

use std::collections::VecDeque;

use agentwrit_client::{BrokerClient, Refusal};
use agentwrit_protocol::k8s::{BulkItem, BulkResult, MAX_BULK_ITEMS, PutPolicyResponse, WriteOrder};
use agentwrit_protocol::{ErrorCode, Problem};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, oneshot};

use super::BrokerError;

/// Bytes of the items of one request; the broker takes 1 MiB.
const MAX_BYTES: usize = 768 * 1024;

/// What came of a write, and where it stood.
pub(super) type Answer = Result<(PutPolicyResponse, WriteOrder), BrokerError>;

/// One write that waits.
pub(super) struct Waiting {
    pub(super) item: BulkItem,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// Sets where the write stands.
    pub(super) fn set_order(&mut self, order: WriteOrder) {
        match &mut self.item {
            BulkItem::App { put, .. } => put.order = order,
            BulkItem::LaunchToken { put, .. } => put.order = order,
        }
    }

    pub(super) fn done(self, answer: Answer) {
        // Who asked may have gone meanwhile: the process ends.
        let _ = self.answer.send(answer);
    }
}

/// The writes that wait. Whoever has the turn sends those of the others with its own.
#[derive(Default)]
pub(super) struct Batches {
    waiting: Mutex<VecDeque<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

impl Batches {
    /// Takes in a write; its answer comes by what is returned.
    pub(super) fn add(&self, item: BulkItem) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let bytes = serde_json::to_vec(&item).map_or(MAX_BYTES, |json| json.len());
        self.waiting.lock().push_back(Waiting { item, bytes, answer });
        answered
    }

    /// Waits until no other caller sends.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The writes of the next request, apps first: at least one if any waits, and as many as one request takes.
    pub(super) fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (mut next, mut bytes) = (Vec::new(), 0);
        while let Some(first) = waiting.front()
            && (next.is_empty() || (next.len() < MAX_BULK_ITEMS && bytes + first.bytes <= MAX_BYTES))
        {
            bytes += first.bytes;
            next.extend(waiting.pop_front());
        }
        next.sort_by_key(|waiting| matches!(waiting.item, BulkItem::LaunchToken { .. }));
        next
    }
}

fn order(item: &BulkItem) -> WriteOrder {
    match item {
        BulkItem::App { put, .. } => put.order,
        BulkItem::LaunchToken { put, .. } => put.order,
    }
}

/// One write by itself.
async fn send_one(client: &BrokerClient, item: &BulkItem) -> Result<PutPolicyResponse, agentwrit_client::Error> {
    let answer = match item {
        BulkItem::App { namespace, name, put } => client.put_app(namespace, name, put).await,
        BulkItem::LaunchToken { namespace, name, put } => client.put_launch_token(namespace, name, put).await,
    };
    Ok(answer?.value)
}

/// The answer of one item, as if it had been sent by itself.
fn result_of(result: BulkResult) -> Result<PutPolicyResponse, agentwrit_client::Error> {
    let problem = match (result.accepted, result.problem) {
        (Some(accepted), _) => return Ok(accepted),
        (None, Some(problem)) => problem,
        (None, None) => Problem::new(ErrorCode::InternalError, "neither accepted nor refused"),
    };
    let refusal = Box::new(Refusal {
        status: problem.status,
        problem,
        retry_after: None,
        body: String::new(),
    });
    Err(if matches!(refusal.status, 502..=504) {
        agentwrit_client::Error::Overloaded(refusal)
    } else {
        agentwrit_client::Error::Refused(refusal)
    })
}

/// Sends these; each hears by itself what came of it. `error_of` says what a failure means.
pub(super) async fn send(
    client: &BrokerClient,
    batch: Vec<Waiting>,
    error_of: impl Fn(agentwrit_client::Error) -> BrokerError,
) {
    if batch.len() > 1 {
        let items = batch.iter().map(|waiting| waiting.item.clone()).collect();
        match client.bulk(items).await {
            Ok(answer) if answer.value.results.len() == batch.len() => {
                for (waiting, result) in batch.into_iter().zip(answer.value.results) {
                    let order = order(&waiting.item);
                    let answer = result_of(result).map(|accepted| (accepted, order)).map_err(&error_of);
                    waiting.done(answer);
                }
                return;
            }
            // One of them may spoil the request for the others.
            Ok(_) => {}
            Err(error) => match error_of(error) {
                BrokerError::Unavailable { kind, mut source } => {
                    for waiting in batch {
                        let source = source.take();
                        waiting.done(Err(BrokerError::Unavailable { kind, source }));
                    }
                    return;
                }
                BrokerError::NotLeader | BrokerError::Stale | BrokerError::Refused { .. } => {}
            },
        }
    }
    for waiting in batch {
        let order = order(&waiting.item);
        let answer = send_one(client, &waiting.item).await;
        waiting.done(answer.map(|accepted| (accepted, order)).map_err(&error_of));
    }
}

#[cfg(test)]
mod tests {
    use agentwrit_client::{Class, ClientConfig, Identity};
    use agentwrit_protocol::k8s::{AppSpec, LaunchTokenSpec, PolicyState, PutPolicy};
    use agentwrit_testkit::{FakeBroker, FakeReply};
    use serde_json::{Value, json};

    use super::*;

    fn put<S>(spec: S) -> PutPolicy<S> {
        PutPolicy {
            uid: "u".into(),
            generation: 1,
            order: WriteOrder {
                lease_epoch: 1,
                sequence: 1,
            },
            state: PolicyState::Ready,
            reason: None,
            spec,
        }
    }

    fn app(name: &str, scope_bytes: usize) -> BulkItem {
        BulkItem::App {
            namespace: "shop".into(),
            name: name.into(),
            put: put(AppSpec {
                scopes: vec!["s".repeat(scope_bytes)],
                max_agent_ttl_seconds: 60,
                audiences: vec![],
                delegation_namespaces: vec![],
                client: None,
            }),
        }
    }

    fn token(name: &str) -> BulkItem {
        BulkItem::LaunchToken {
            namespace: "shop".into(),
            name: name.into(),
            put: put(LaunchTokenSpec {
                app: "orders".into(),
                agent_name: "reader".into(),
                allowed_scopes: vec![],
                max_ttl_seconds: 60,
                service_account_names: vec![],
                pod_selector: None,
                max_active_agents: None,
            }),
        }
    }

    fn name(waiting: &Waiting) -> &str {
        match &waiting.item {
            BulkItem::App { name, .. } | BulkItem::LaunchToken { name, .. } => name,
        }
    }

    fn names(batch: &[Waiting]) -> Vec<&str> {
        batch.iter().map(name).collect()
    }

    fn client(broker: &FakeBroker) -> BrokerClient {
        let config = ClientConfig {
            identity: Some(Identity::Token("the-controllers-own-token".into())),
            ..ClientConfig::new(format!("http://{}", broker.address))
        };
        BrokerClient::new(config).unwrap()
    }

    fn told(error: agentwrit_client::Error) -> BrokerError {
        match error.class() {
            Class::Denied(ErrorCode::StaleWriter) => BrokerError::Stale,
            Class::Denied(code) => BrokerError::Refused {
                code,
                detail: String::new(),
            },
            _ => BrokerError::Unavailable {
                kind: error.kind(),
                source: Some(Box::new(error)),
            },
        }
    }

    fn accepted() -> Value {
        json!({"digest": "d", "revoked": 0})
    }

    /// One letter for each answer: accepted, stale, refused, unavailable.
    async fn letters(broker: &FakeBroker, items: Vec<BulkItem>) -> String {
        let batches = Batches::default();
        let answers: Vec<_> = items.into_iter().map(|item| batches.add(item)).collect();
        send(&client(broker), batches.next(), told).await;
        let mut letters = String::new();
        for answer in answers {
            letters.push(match answer.await.unwrap() {
                Ok(_) => 'a',
                Err(BrokerError::Stale) => 's',
                Err(BrokerError::Refused { .. }) => 'r',
                Err(BrokerError::Unavailable { .. } | BrokerError::NotLeader) => 'u',
            });
        }
        letters
    }

    #[test]
    fn apps_go_first_and_no_request_is_too_large() {
        let batches = Batches::default();
        let _answers: Vec<_> = [
            token("a"),
            app("b", MAX_BYTES / 2),
            token("c"),
            app("d", MAX_BYTES / 2),
            token("e"),
        ]
        .map(|item| batches.add(item))
        .into();
        assert_eq!(names(&batches.next()), ["b", "a", "c"]);
        assert_eq!(names(&batches.next()), ["d", "e"]);
        assert!(batches.next().is_empty());
        let _answers: Vec<_> = (0..=MAX_BULK_ITEMS).map(|_| batches.add(token("x"))).collect();
        assert_eq!(batches.next().len(), MAX_BULK_ITEMS);
        assert_eq!(batches.next().len(), 1);
        let _answer = batches.add(app("alone", 2 * MAX_BYTES));
        assert_eq!(batches.next().len(), 1, "one that is too large goes alone");
    }

    #[tokio::test]
    async fn each_of_a_batch_hears_what_came_of_itself() {
        let result = |name: &str, more: Value| {
            let mut result = json!({"kind": "launch_token", "namespace": "shop", "name": name});
            json_patch::merge(&mut result, &more);
            result
        };
        let problem = |code| json!({"problem": Problem::new(code, "no")});
        let results = json!({"results": [
            result("a", json!({"accepted": accepted()})), result("b", problem(ErrorCode::StaleWriter)),
            result("c", problem(ErrorCode::Unavailable)), result("d", problem(ErrorCode::InvalidRequest)),
            result("e", json!({})),
        ]});
        let broker = FakeBroker::start(move |_| FakeReply::json(200, &results)).await;
        let items = ["a", "b", "c", "d", "e"].map(token).to_vec();
        assert_eq!(letters(&broker, items).await, "asuru");
        assert_eq!(broker.calls().len(), 1);
        assert_eq!(broker.calls()[0].line(), "PUT /v1/k8s/policies");
    }

    #[tokio::test]
    async fn one_that_spoils_a_batch_is_refused_alone() {
        let broker = FakeBroker::start(|call| {
            if call.path == "/v1/k8s/policies" || call.path.ends_with("/bad") {
                return FakeReply::json(400, &json!(Problem::new(ErrorCode::InvalidRequest, "malformed")));
            }
            FakeReply::json(200, &accepted())
        })
        .await;
        assert_eq!(letters(&broker, ["a", "bad", "c"].map(token).to_vec()).await, "ara");
        assert_eq!(broker.calls().len(), 4);
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_asked_once_for_a_batch() {
        let away = json!(Problem::new(ErrorCode::Unavailable, "the store is away"));
        let broker = FakeBroker::start(move |_| FakeReply::json(503, &away)).await;
        assert_eq!(letters(&broker, ["a", "b", "c"].map(token).to_vec()).await, "uuu");
        assert_eq!(broker.calls().len(), 1);
    }

    #[tokio::test]
    async fn a_single_write_goes_by_itself() {
        let broker = FakeBroker::start(|_| FakeReply::json(200, &accepted())).await;
        assert_eq!(letters(&broker, vec![app("orders", 3)]).await, "a");
        assert_eq!(broker.calls()[0].line(), "PUT /v1/k8s/policies/apps/shop/orders");
    }
}
