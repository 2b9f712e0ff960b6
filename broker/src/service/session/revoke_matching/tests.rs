//! Requests that name an extent, and orders for more pods than one commit takes.

use agentwrit_protocol::k8s::LivePod;
use agentwrit_protocol::{TaskId, Ttl, UnixSeconds};
use agentwrit_store::{Attested, KnownPod, PodStanding, Session};

use super::*;
use crate::testing::broker;

/// So many pods that launched.
struct Launched(usize);

fn uid(number: usize) -> PodUid {
    format!("p{number:05}").as_str().into()
}

#[async_trait]
impl Command for Launched {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<()> {
        for number in 0..self.0 {
            let known = KnownPod {
                pod: LivePod {
                    uid: uid(number),
                    namespace: "shop".to_owned(),
                    name: "p".to_owned(),
                },
                node: "n".to_owned(),
                service_account: "s".to_owned(),
                policy: "p".to_owned(),
                orch_id: "k8s.shop.a".into(),
            };
            tx.know_pod(&known).await?;
            let mut session = session(number);
            tx.insert_session(&mut session).await?;
        }
        Ok(())
    }
}

fn session(number: usize) -> Session {
    let bound = Attested {
        policy_uid: "p".into(),
        app_uid: "a".into(),
        namespace: "shop".to_owned(),
        policy_name: "p".to_owned(),
        pod_uid: uid(number),
        pod_name: "p".to_owned(),
        node: "n".to_owned(),
        service_account: "s".to_owned(),
        public_key: String::new(),
        orch_id: "k8s.shop.a".into(),
        task_id: TaskId::from(&uid(number)),
        policy_generation: 1,
        app_generation: 1,
        renewal_proof: false,
    };
    let iat = UnixSeconds::new(1_800_000_000);
    Session {
        sid: format!("{number:032x}").as_str().into(),
        agent_id: format!("spiffe://d/agent/k8s.shop.a/p/{number:016x}"),
        orch_id: bound.orch_id.clone(),
        task_id: bound.task_id.clone(),
        scope: Vec::new(),
        jti: format!("{number:032x}").as_str().into(),
        iat,
        exp: iat + Ttl::seconds(300),
        last_exp: iat + Ttl::seconds(300),
        previous: None,
        created_at: iat.start(),
        ended_at: None,
        end_reason: None,
        correlation_id: String::new(),
        attested: Some(bound),
        delegated: None,
        barred: false,
        status: None,
    }
}

fn admin() -> Actor {
    Actor {
        subject: "admin".to_owned(),
        source: "192.0.2.1".to_owned(),
    }
}

fn order() -> Order {
    Order {
        selector: PodSelector::Namespace("shop".to_owned()),
        actor: admin(),
    }
}

#[tokio::test]
async fn the_first_commit_quarantines_all_however_many() {
    let many = PODS_AT_ONCE * 2 + 7;
    let broker = broker().await;
    broker.store.commit(Launched(many)).await.unwrap();
    let (found, reach, rest) = broker.store.commit(order()).await.unwrap();
    let all = i64::try_from(many).unwrap();
    assert_eq!((found.pods, found.agents, reach.pods_quarantined), (all, all, all));
    assert_eq!(reach.sessions_ended, i64::try_from(PODS_AT_ONCE).unwrap());
    assert_eq!(rest.len(), many - PODS_AT_ONCE);
    let last = uid(many - 1);
    let state = broker.store.query(move |tx| {
        Box::pin(async move {
            let live = tx.live_sessions_by_pod(&last).await?.len();
            Ok((live, tx.pod_standing(&last).await?))
        })
    });
    assert_eq!(state.await.unwrap(), (1, PodStanding::Quarantined));
    // As a process that died here leaves it: said again, it ends the rest.
    let struck = strike_pods(broker.store.clone(), order().selector, admin())
        .await
        .unwrap();
    assert_eq!(
        (struck.found.agents, struck.reach.sessions_ended),
        (all - reach.sessions_ended, all - reach.sessions_ended)
    );
    let left = broker.store.query(|tx| tx.count_live_sessions()).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_large_order_is_finished_in_one_call() {
    let many = PODS_AT_ONCE + 1;
    let broker = broker().await;
    broker.store.commit(Launched(many)).await.unwrap();
    let struck = strike_pods(broker.store.clone(), order().selector, admin())
        .await
        .unwrap();
    assert_eq!(struck.reach.sessions_ended, i64::try_from(many).unwrap());
    let filter = agentwrit_store::EventFilter {
        limit: 10_000,
        ..agentwrit_store::EventFilter::default()
    };
    let events = broker.store.events(filter).await.unwrap().events;
    for (event_type, count) in [
        ("bulk_revocation", 1),
        ("pod_quarantined", many),
        ("token_revoked", many),
    ] {
        let found = events.matches(&format!("\"event_type\":\"{event_type}\"")).count();
        assert_eq!(found, count, "{event_type}");
    }
}

fn extent(json: serde_json::Value) -> Result<Extent, String> {
    let request: RevokeMatchingRequest = serde_json::from_value(json).unwrap();
    Extent::of(&request).map_err(|error| error.to_string())
}

#[test]
fn a_request_names_exactly_one_extent() {
    use serde_json::json;
    let owned = str::to_owned;
    let in_shop = || (owned("shop"), owned("orders.v2"));
    let pods = |selector| Ok(Extent::Pods(selector));
    let namespace = json!({"namespace": "shop", "app": "", "all": false});
    assert_eq!(extent(namespace), pods(PodSelector::Namespace(owned("shop"))));
    let (namespace, name) = in_shop();
    assert_eq!(
        extent(json!({"app": "shop/orders.v2"})),
        pods(PodSelector::App { namespace, name })
    );
    let (namespace, name) = in_shop();
    assert_eq!(
        extent(json!({"policy": "shop/orders.v2"})),
        pods(PodSelector::Policy { namespace, name })
    );
    let (namespace, name) = in_shop();
    assert_eq!(
        extent(json!({"service_account": "shop/orders.v2"})),
        pods(PodSelector::ServiceAccount { namespace, name })
    );
    let node = "ip-10-0-0-1.eu.example";
    assert_eq!(extent(json!({"node": node})), pods(PodSelector::Node(owned(node))));
    assert_eq!(extent(json!({"all": true})), Ok(Extent::All));
    for (wrong, says) in [
        (json!({}), "not 0"),
        (json!({"namespace": "shop", "all": true}), "not 2"),
        (json!({"namespace": "a/b"}), "the name of a namespace"),
        (json!({"namespace": "a.b"}), "the name of a namespace"),
        (json!({"app": "orders"}), "NAMESPACE/NAME"),
        (json!({"app": "shop/"}), "NAMESPACE/NAME"),
        (json!({"policy": "shop/a/b"}), "NAMESPACE/NAME"),
        (json!({"service_account": "/a"}), "NAMESPACE/NAME"),
        (json!({"node": "a..b"}), "the name of a node"),
        (json!({"node": "n".repeat(254)}), "the name of a node"),
    ] {
        let text = extent(wrong.clone()).unwrap_err();
        assert!(text.contains(says) && text.len() < 2000, "{wrong}: {text}");
    }
}
