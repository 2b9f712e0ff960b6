//! A command of the model as a command of the store: decided as the broker's services decide it, with the rules of
//! `protocol::session`, and with one event.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agentwrit_model::rules::{Command as Asked, Outcome, pod};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::session::{
    DelegationRefusal, Lineage, ReleaseDecision, RenewLimits, RenewRefusal, RenewWish, RenewalDecision,
};
use agentwrit_protocol::{Jti, PodUid, SessionId, Ttl, UnixSeconds};
use agentwrit_store::session::id_prefix;
use agentwrit_store::{
    Asker, Attested, Command, Delegated, DenialDraft, EndReason, EventDraft, LaunchTokenHash, MetaKey, Renewal, Result,
    Revocation, RevocationLevel, Session, Tx,
};
use async_trait::async_trait;

/// A tick, seconds.
pub(crate) const TICK: i64 = 1800;
/// How much earlier than in the model something ends, so that nothing ends in the very moment of a tick.
const EARLY: i64 = 60;
/// Life of a token.
pub(crate) const TTL: Ttl = Ttl::seconds(2 * TICK - EARLY);
/// How long a superseded session and a renewed token go on: a tick, and the same minute less.
const OVERLAP: Duration = Duration::from_mins(29);
/// Where denials come from.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The launch token with this number.
pub(crate) fn launch_hash(launch: u8) -> LaunchTokenHash {
    LaunchTokenHash::of(&format!("launch {launch}"))
}

/// Who presents a token, or whom a person means.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    /// The ids of its node and of all above it, the session's first.
    pub(crate) nodes: Vec<SessionId>,
    pub(crate) jti: Jti,
    pub(crate) exp: UnixSeconds,
}

/// One try of a command, with the ids that it gives to what it makes.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) asked: Asked,
    pub(crate) sid: SessionId,
    pub(crate) jti: Jti,
    /// Of commands that name a node.
    pub(crate) bearer: Option<Bearer>,
}

#[async_trait]
impl Command for Attempt {
    type Outcome = Outcome;
    const OPENS: bool = true;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> Result<Outcome> {
        let outcome = match (self.asked, &self.bearer) {
            (Asked::Register(launch), _) => self.register(tx, launch).await?,
            (Asked::Write(epoch), _) => write(tx, epoch).await?,
            (Asked::Renew(..), Some(bearer)) => self.renew(tx, bearer).await?,
            (Asked::Delegate(..), Some(bearer)) => self.delegate(tx, bearer).await?,
            (Asked::Release(..), Some(bearer)) => release(tx, bearer).await?,
            (Asked::Revoke(_), Some(bearer)) => revoke(tx, bearer).await?,
            (asked, _) => unreachable!("{asked:?} is no command of its own"),
        };
        if outcome == Outcome::Done {
            tx.audit(EventDraft::success(EventType::TokenIssued, self.detail()));
        } else {
            let denial = DenialDraft::denied(EventType::TokenAuthFailed, self.detail());
            tx.deny(Asker::Source(SOURCE), denial);
        }
        Ok(outcome)
    }
}

impl Attempt {
    /// The detail of its event, which no other try has.
    pub(crate) fn detail(&self) -> String {
        format!("try {}", self.jti)
    }

    async fn register(&self, tx: &mut dyn Tx, launch: u8) -> Result<Outcome> {
        let hash = launch_hash(launch);
        let found = tx.launch_token(&hash).await?.unwrap();
        if found.expires_at <= tx.times().judged {
            return Ok(Outcome::Used);
        }
        let policy = lease_epoch(tx).await?;
        if policy > 0 && policy % 2 == 0 {
            let is_used = found.consumed_at.is_some();
            return Ok(if is_used { Outcome::Used } else { Outcome::Suspended });
        }
        // By the store alone, though the row was read: that is what is to be seen.
        if !tx.consume_launch_token(&hash).await? {
            return Ok(Outcome::Used);
        }
        let pod_uid = pod_uid(launch);
        for session in tx.live_sessions_by_pod(&pod_uid).await? {
            tx.end_session(&session, EndReason::Superseded, tx.now_millis() + OVERLAP)
                .await?;
        }
        let iat = tx.now_seconds();
        let mut session = self.session(tx, iat, iat + TTL);
        session.attested = Some(attested(pod_uid));
        tx.insert_session(&mut session).await?;
        Ok(Outcome::Done)
    }

    async fn renew(&self, tx: &mut dyn Tx, bearer: &Bearer) -> Result<Outcome> {
        let found = Found::of(tx, bearer).await?;
        if found.has_expired(tx) {
            return Ok(Outcome::Expired);
        }
        let wish = RenewWish {
            overlap: OVERLAP,
            key: None,
            retries: false,
        };
        let limits = RenewLimits {
            max_ttl: Ttl::ZERO,
            max_session_age: Ttl::ZERO,
        };
        let granted = match found.rules().renew(&bearer.jti, tx.now_millis(), wish, limits) {
            RenewalDecision::Granted(granted) => granted,
            RenewalDecision::Again => unreachable!("no key was sent"),
            RenewalDecision::Refused(RenewRefusal::Ended(_)) => return Ok(Outcome::Ended),
            RenewalDecision::Refused(RenewRefusal::Ending(_)) => return Ok(Outcome::Ending),
            RenewalDecision::Refused(RenewRefusal::Replaced | RenewRefusal::TooOld) => return Ok(Outcome::Replaced),
        };
        let previous = Renewal {
            jti: found.node.jti.clone(),
            until: granted.predecessor_until,
            exp: found.node.exp,
            key: None,
        };
        let renewed = tx
            .renew_session(&found.node, &self.jti, granted.iat, granted.exp, &previous)
            .await?;
        Ok(if renewed { Outcome::Done } else { Outcome::Replaced })
    }

    async fn delegate(&self, tx: &mut dyn Tx, bearer: &Bearer) -> Result<Outcome> {
        let found = Found::of(tx, bearer).await?;
        if found.has_expired(tx) {
            return Ok(Outcome::Expired);
        }
        let granted = match found
            .rules()
            .delegate(&bearer.jti, bearer.exp, tx.now_millis(), TTL, Ttl::ZERO)
        {
            Ok(granted) => granted,
            Err(DelegationRefusal::Ended(_)) => return Ok(Outcome::Ended),
            Err(DelegationRefusal::Replaced | DelegationRefusal::TooDeep) => return Ok(Outcome::Replaced),
        };
        let mut session = self.session(tx, granted.iat, granted.exp);
        let [root, above @ ..] = bearer.nodes.as_slice() else {
            unreachable!("a bearer has a node")
        };
        session.delegated = Some(Delegated {
            root: root.clone(),
            nodes: above.iter().chain([&self.sid]).cloned().collect(),
            ceiling: granted.ceiling,
            holder_pod: None,
        });
        tx.insert_session(&mut session).await?;
        Ok(Outcome::Done)
    }

    fn session(&self, tx: &dyn Tx, iat: UnixSeconds, exp: UnixSeconds) -> Session {
        Session {
            sid: self.sid.clone(),
            agent_id: format!("spiffe://agentwrit.local/agent/orch/task/{}", id_prefix(&self.sid)),
            orch_id: "orch".into(),
            task_id: "task".into(),
            scope: vec!["read:data:*".to_owned()],
            jti: self.jti.clone(),
            iat,
            exp,
            last_exp: exp,
            previous: None,
            created_at: tx.now_millis(),
            ended_at: None,
            end_reason: None,
            correlation_id: String::new(),
            attested: None,
            delegated: None,
            barred: false,
            status: None,
        }
    }
}

async fn release(tx: &mut dyn Tx, bearer: &Bearer) -> Result<Outcome> {
    let found = Found::of(tx, bearer).await?;
    if found.has_expired(tx) {
        return Ok(Outcome::Expired);
    }
    let now = tx.now_millis();
    Ok(match found.rules().release(&bearer.jti, now) {
        ReleaseDecision::Done => {
            tx.end_session(&found.node, EndReason::Released, now).await?;
            Outcome::Done
        }
        ReleaseDecision::Ended(_) => Outcome::Ended,
        ReleaseDecision::Replaced => Outcome::Replaced,
    })
}

async fn revoke(tx: &mut dyn Tx, bearer: &Bearer) -> Result<Outcome> {
    let found = Found::of(tx, bearer).await?;
    let revocation = Revocation {
        level: RevocationLevel::Token,
        target: bearer.jti.to_string(),
        until: Some(found.node.last_exp.end()),
    };
    tx.add_revocation(&revocation).await?;
    if !found.has_expired(tx) {
        tx.end_session(&found.node, EndReason::Revoked, tx.now_millis()).await?;
    }
    Ok(Outcome::Done)
}

async fn write(tx: &mut dyn Tx, epoch: u8) -> Result<Outcome> {
    let (epoch, current) = (i64::from(epoch), lease_epoch(tx).await?);
    if epoch < current {
        return Ok(Outcome::Stale);
    }
    if epoch == current {
        return Ok(Outcome::Repeated);
    }
    tx.set_meta(MetaKey::LeaseEpoch, &epoch.to_string()).await?;
    if epoch % 2 == 0 {
        for session in tx.live_attested_sessions().await? {
            tx.end_session(&session, EndReason::Suspended, tx.now_millis()).await?;
        }
    }
    Ok(Outcome::Done)
}

/// The highest lease epoch of a write so far.
pub(crate) async fn lease_epoch(tx: &mut dyn Tx) -> Result<i64> {
    Ok(tx
        .meta(MetaKey::LeaseEpoch)
        .await?
        .map_or(0, |text| text.parse().unwrap()))
}

/// The rows that a bearer's token names.
struct Found {
    above: Vec<Session>,
    node: Session,
}

impl Found {
    async fn of(tx: &mut dyn Tx, bearer: &Bearer) -> Result<Self> {
        let mut above = Vec::new();
        for sid in &bearer.nodes {
            above.push(tx.session(sid).await?.unwrap());
        }
        let node = above.pop().unwrap();
        Ok(Self { above, node })
    }

    fn has_expired(&self, tx: &dyn Tx) -> bool {
        self.node.exp.end() <= tx.times().judged
    }

    fn rules(&self) -> Lineage<'_> {
        Lineage::new(self.above.iter().map(Session::node).collect(), self.node.node())
    }
}

fn pod_uid(launch: u8) -> PodUid {
    format!("6f9619ff-8b86-4d01-b42d-00cf4fc964f{}", pod(launch))
        .as_str()
        .into()
}

fn attested(pod_uid: PodUid) -> Attested {
    Attested {
        policy_uid: "policy".into(),
        app_uid: "app".into(),
        namespace: "shop".to_owned(),
        policy_name: "reader".to_owned(),
        pod_name: "pod".to_owned(),
        node: "node".to_owned(),
        service_account: "reader".to_owned(),
        public_key: String::new(),
        orch_id: "orch".into(),
        task_id: pod_uid.as_str().into(),
        policy_generation: 1,
        app_generation: 1,
        renewal_proof: false,
        pod_uid,
    }
}
