//! Agents that register and renew, as the broker's own commands write it: the same rows and the same events.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_broker::broker::AppState;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::{Clock, Jti, PodUid, SessionId, TaskId, Ttl};
use agentwrit_store::session::{ID_PREFIX, id_prefix};
use agentwrit_store::{Attested, Command, EventDraft, Renewal, Result, Session, Tx};
use async_trait::async_trait;
use futures_util::future::join_all;

/// Life of a token.
const TTL: Ttl = Ttl::seconds(300);
/// Agents that one command does it for: what waits on its way to the store is not what is tested.
const TOGETHER: usize = 10;

fn session(broker: &AppState, clock: &ManualClock, number: usize) -> Session {
    let prefix = broker.ids.new_id_prefix(None).unwrap();
    let sid = broker.ids.random_id(&prefix).unwrap();
    let now = clock.unix_seconds();
    let pod_uid = PodUid::from(format!("4f2c1d{number:02x}-0000-4000-8000-{:012x}", now.get()));
    let attested = Attested {
        policy_uid: "7d0a3c51-93a5-4a53-a1d3-1c2b6f5e9b01".into(),
        app_uid: "7d0a3c51-93a5-4a53-a1d3-1c2b6f5e9b02".into(),
        namespace: "shop".to_owned(),
        policy_name: "orders-reader".to_owned(),
        pod_uid: pod_uid.clone(),
        pod_name: format!("orders-7c9d8b6f5-{number:05}"),
        node: "worker-17.example.org".to_owned(),
        service_account: "orders".to_owned(),
        public_key: "A".repeat(44),
        orch_id: "k8s.shop.orders".into(),
        task_id: TaskId::from(&pod_uid),
        policy_generation: 3,
        app_generation: 2,
        renewal_proof: true,
    };
    Session {
        agent_id: format!("spiffe://agentwrit.local/agent/k8s.shop.orders/{pod_uid}/{prefix}"),
        orch_id: "k8s.shop.orders".into(),
        task_id: TaskId::from(&pod_uid),
        scope: vec!["read:orders:*".to_owned(), "write:invoices:eu".to_owned()],
        jti: broker.ids.random_id(&prefix).unwrap(),
        iat: now,
        exp: now + TTL,
        last_exp: now + TTL,
        previous: None,
        created_at: clock.unix_millis(),
        ended_at: None,
        end_reason: None,
        correlation_id: broker.ids.random_hex::<16>().unwrap(),
        attested: Some(attested),
        delegated: None,
        barred: false,
        status: None,
        sid,
    }
}

/// Opens sessions.
struct Register(Vec<Session>);

#[async_trait]
impl Command for Register {
    type Outcome = Vec<SessionId>;

    const OPENS: bool = true;

    async fn run(mut self, tx: &mut dyn Tx) -> Result<Vec<SessionId>> {
        for session in &mut self.0 {
            tx.insert_session(session).await?;
            for (event_type, detail) in [
                (
                    EventType::AgentRegistered,
                    format!("agent registered: {:?}", session.scope),
                ),
                (
                    EventType::TokenIssued,
                    format!("token {} issued for {TTL} s", session.jti),
                ),
            ] {
                let event = EventDraft::success(event_type, detail).of_session(session);
                tx.audit(event.actor(&session.agent_id).source("10.244.3.17"));
            }
        }
        Ok(self.0.into_iter().map(|session| session.sid).collect())
    }
}

/// Gives sessions their next tokens.
struct Renew(Vec<(SessionId, Jti)>);

#[async_trait]
impl Command for Renew {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        let (iat, millis) = (tx.now_seconds(), tx.now_millis());
        for (sid, jti) in self.0 {
            let session = tx.session(&sid).await?.unwrap();
            let previous = Renewal {
                jti: session.jti.clone(),
                until: millis + Duration::from_secs(5),
                exp: session.exp,
                key: None,
            };
            assert!(tx.renew_session(&session, &jti, iat, iat + TTL, &previous).await?);
            let detail = format!("token {} renewed as {jti} for {TTL} s", session.jti);
            let event = EventDraft::success(EventType::TokenRenewed, detail).of_session(&session);
            tx.audit(event.actor(&session.agent_id).source("10.244.3.17"));
        }
        Ok(())
    }
}

/// Registers so many agents; ids of their sessions.
pub async fn register(broker: &AppState, clock: &Arc<ManualClock>, agents: usize) -> Vec<SessionId> {
    let all: Vec<Session> = (0..agents).map(|number| session(broker, clock, number)).collect();
    let commands = all
        .chunks(TOGETHER)
        .map(|some| broker.store.commit(Register(some.to_vec())));
    let done = join_all(commands).await;
    done.into_iter().flat_map(std::result::Result::unwrap).collect()
}

/// Renews all.
pub async fn renew(broker: &AppState, sessions: &[SessionId]) {
    debug_assert!(sessions.iter().all(|sid| sid.len() > ID_PREFIX));
    let commands = sessions.chunks(TOGETHER).map(|some| {
        let renewals = some
            .iter()
            .map(|sid| (sid.clone(), broker.ids.random_id(id_prefix(sid)).unwrap()));
        broker.store.commit(Renew(renewals.collect()))
    });
    for done in join_all(commands).await {
        done.unwrap();
    }
}
