//! A store under test, beside the model: each step is done to it, and then all that it says is compared.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use agentwrit_model::rows::{Moment, Opened, at, numbers};
use agentwrit_model::rules::{Command, Outcome};
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::session::{RevocationView, TokenState};
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::{JudgingClock, SessionId, Times, UnixMillis, UnixSeconds};
use agentwrit_store::session::id_prefix;
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::testing::{Recorder, START, surroundings};
use agentwrit_store::{EventDraft, Session, Store};
use async_trait::async_trait;
use proptest_state_machine::StateMachineTest;
use tokio::runtime::Runtime;

use crate::attempt::{Attempt, Bearer, TICK, launch_hash, lease_epoch};
use crate::known::{Known, token};
use crate::reference::{LAUNCHES, NODES, RULES, Reference, Step};
use crate::upkeep::{Launches, Sweep};

/// So few places that one which is given back too early is soon drawn again, and enough for all nodes.
const FEW: Bounds = Bounds {
    entries: 8,
    at_least_free: 1,
    lists: 2,
};

/// A kind of store. Another one joins by this function.
#[async_trait]
pub(crate) trait Kind {
    /// What opens a new, empty store, as often as it is asked to.
    async fn opener() -> Box<dyn Opener>;
}

/// A store of this kind, driven by the model.
pub(crate) struct Driven<K>(PhantomData<K>);

/// The store and what is known of it.
pub(crate) struct Subject {
    opener: Box<dyn Opener>,
    store: Store,
    clock: Arc<ManualClock>,
    judging: Arc<JudgingClock>,
    recorder: Arc<Recorder>,
    view: RevocationView,
    known: Vec<Known>,
    attempts: usize,
}

impl<K: Kind> StateMachineTest for Driven<K> {
    type SystemUnderTest = (Runtime, Subject);
    type Reference = Reference;

    fn init_test(_: &Reference) -> (Runtime, Subject) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let subject = runtime.block_on(async { Subject::new(K::opener().await).await });
        (runtime, subject)
    }

    fn apply((runtime, mut subject): (Runtime, Subject), reference: &Reference, step: Step) -> (Runtime, Subject) {
        runtime.block_on(async {
            subject.step(reference, step).await;
            subject.compare(reference).await;
        });
        (runtime, subject)
    }

    fn teardown((runtime, subject): (Runtime, Subject), _: Reference) {
        runtime.block_on(subject.store.close()).unwrap();
    }
}

async fn open(opener: &dyn Opener, clock: &Arc<ManualClock>) -> (Store, Arc<JudgingClock>, Arc<Recorder>) {
    let (mut around, _, recorder) = surroundings();
    around.clock = Arc::<ManualClock>::clone(clock);
    around.judging = Arc::new(JudgingClock::new(Arc::clone(&around.clock)));
    around.status_lists = FEW;
    let judging = Arc::clone(&around.judging);
    (opener.open(around).await, judging, recorder)
}

impl Subject {
    async fn new(opener: Box<dyn Opener>) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        // A new epoch begins with a new second, and waits for it by the real clock: here for a millisecond.
        clock.advance_millis(999);
        let (store, judging, recorder) = open(opener.as_ref(), &clock).await;
        store.commit(Launches).await.unwrap();
        let mut subject = Self {
            opener,
            store,
            clock,
            judging,
            recorder,
            view: RevocationView::default(),
            known: Vec::new(),
            attempts: 0,
        };
        subject.load();
        subject
    }

    fn times(&self) -> Times {
        self.judging.times()
    }

    async fn step(&mut self, reference: &Reference, step: Step) {
        let commands = reference.last.len();
        match step {
            Step::Once(Command::NewEpoch) => self.begin_epoch().await,
            Step::Once(command) => {
                let attempt = self.attempt(command);
                let outcome = self.store.commit(attempt.clone()).await.unwrap();
                assert_eq!([outcome], *reference.last, "{command:?}");
                self.read_back(reference, &[attempt]).await;
            }
            Step::Twice(command) => {
                let attempts = [self.attempt(command), self.attempt(command)];
                let [a, b] = attempts.each_ref().map(|attempt| self.store.commit(attempt.clone()));
                let (a, b) = tokio::join!(a, b);
                let mut outcomes = [a.unwrap(), b.unwrap()];
                let mut wanted = reference.last.clone();
                outcomes.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(outcomes, *wanted, "{command:?} twice");
                self.read_back(reference, &attempts).await;
            }
            Step::Unheard(command) => {
                let attempt = self.attempt(command);
                let store = self.store.clone();
                let asked = attempt.clone();
                // It is submitted, and its caller gone, before anything else is.
                let asking = std::pin::pin!(store.commit(asked));
                tokio::select! {
                    biased;
                    _ = asking => {}
                    () = std::future::ready(()) => {}
                }
                // What is committed after it is seen after it.
                self.store.commit(Sweep).await.unwrap();
                self.read_back(reference, &[attempt]).await;
            }
            Step::Tick => {
                self.clock.advance(TICK);
                while self.store.commit(Sweep).await.unwrap() > 0 {}
            }
            Step::Reopen => self.reopen().await,
        }
        let audited = self.recorder.take_audited();
        let events = audited.iter().filter(|event| *event != "audit_checkpoint").count();
        assert_eq!(events, commands, "one event for each command: {audited:?}");
        for change in self.recorder.take_changes() {
            self.view.apply(change);
        }
    }

    /// A try of a command, with ids that none had before.
    fn attempt(&mut self, asked: Command) -> Attempt {
        self.attempts += 1;
        let node = match asked {
            Command::Renew(node, token) | Command::Delegate(node, token) | Command::Release(node, token) => {
                Some((node, token))
            }
            Command::Revoke(node) => Some((node, 0)),
            Command::Register(_) | Command::Write(_) | Command::NewEpoch => None,
        };
        let bearer = node.map(|(node, token)| {
            let known = &self.known[at(node)];
            let token = if matches!(asked, Command::Revoke(_)) {
                known.tokens.last()
            } else {
                known.tokens.get(at(token))
            };
            let token = token.unwrap();
            Bearer {
                nodes: known.nodes.clone(),
                jti: token.jti.clone(),
                exp: token.exp,
            }
        });
        // A renewed token has the prefix of its node, anything else one of its own.
        let own = format!("{:016x}", self.attempts);
        let prefix = match (asked, &bearer) {
            (Command::Renew(..), Some(bearer)) => id_prefix(bearer.nodes.last().unwrap()).to_owned(),
            _ => own.clone(),
        };
        let width = if matches!(asked, Command::Delegate(..)) { 32 } else { 16 };
        Attempt {
            asked,
            sid: format!("{own}{:0width$x}", 1).as_str().into(),
            jti: format!("{prefix}{:016x}", self.attempts).as_str().into(),
            bearer,
        }
    }

    /// What came of these tries, by what the store has of them: as often as the model says that it was done.
    async fn read_back(&mut self, reference: &Reference, attempts: &[Attempt]) {
        let mut done = 0;
        for attempt in attempts {
            match attempt.asked {
                Command::Register(_) | Command::Delegate(..) => {
                    if let Some(session) = self.session(&attempt.sid).await {
                        let known = Known::of(&session);
                        let held = self
                            .known
                            .iter()
                            .zip(&reference.rows.nodes)
                            .filter(|(_, node)| node.holds_index());
                        for (other, _) in held {
                            assert_ne!(other.index, known.index, "drawn again too early");
                        }
                        self.known.push(known);
                        done += 1;
                    }
                }
                Command::Renew(node, _) => {
                    let session = self.session(&self.known[at(node)].sid()).await.unwrap();
                    if session.jti == attempt.jti {
                        self.known[at(node)].tokens.push(token(&session));
                        done += 1;
                    }
                }
                _ => return,
            }
        }
        let wanted = reference
            .last
            .iter()
            .filter(|outcome| **outcome == Outcome::Done)
            .count();
        assert_eq!(done, wanted, "{attempts:?}");
    }

    async fn session(&self, sid: &SessionId) -> Option<Session> {
        let sid = sid.clone();
        let found = self
            .store
            .query(move |tx| Box::pin(async move { tx.session(&sid).await }));
        found.await.unwrap()
    }

    async fn begin_epoch(&mut self) {
        self.clock.advance(1);
        let event = EventDraft::success(EventType::EpochBegun, "a test says so");
        self.store.begin_epoch(event).await.unwrap();
        self.load();
    }

    async fn reopen(&mut self) {
        // One in memory is gone with its process.
        if !self.store.persistent() {
            return;
        }
        self.store.close().await.unwrap();
        (self.store, self.judging, self.recorder) = open(self.opener.as_ref(), &self.clock).await;
        self.load();
    }

    fn load(&mut self) {
        let min_iat = UnixSeconds::new(self.recorder.min_iat());
        self.view = RevocationView::loaded(min_iat, self.recorder.take_changes());
    }

    async fn compare(&self, reference: &Reference) {
        let now = self.times().judged;
        let bits = self.store.query(|tx| tx.status_bits()).await.unwrap();
        let bits: BTreeMap<_, _> = bits.into_iter().map(|bit| (bit.index, bit.from)).collect();
        assert_eq!(self.known.len(), reference.rows.opened());
        for node in numbers::<NODES>().take(self.known.len()) {
            let (row, known) = (&reference.rows.nodes[at(node)], &self.known[at(node)]);
            assert_ne!(row.opened, Opened::Not);
            let session = self.session(&known.sid()).await.unwrap();
            assert_eq!(
                session.exp.end() > now,
                RULES.is_unexpired(row),
                "{node}: expiry of {session:?}"
            );
            if !RULES.is_unexpired(row) {
                continue;
            }
            assert_eq!(session.jti, known.tokens[at(row.token)].jti, "{node}: current token");
            assert_eq!(
                session.ended(now).is_some(),
                row.is_over(),
                "{node}: end of {session:?}"
            );
            let bit = bits.get(&known.index);
            assert_eq!(
                moment(bit.copied(), now),
                pending(row.bit),
                "{node}: its bit from {bit:?}"
            );
            for (number, token) in (0..=row.token).zip(&known.tokens) {
                let stands = self.view.state(&known.claims(token), self.times()) == TokenState::Active;
                assert_eq!(
                    stands,
                    reference.rows.stands(RULES, node, number),
                    "{node}: token {number} in the view"
                );
            }
        }
        let (usable, lease) = self
            .store
            .query(|tx| {
                Box::pin(async move {
                    let judged = tx.times().judged;
                    let mut usable = Vec::new();
                    for launch in 0..LAUNCHES {
                        let found = tx.launch_token(&launch_hash(launch)).await?.unwrap();
                        usable.push(found.consumed_at.is_none() && found.expires_at > judged);
                    }
                    Ok((usable, lease_epoch(tx).await?))
                })
            })
            .await
            .unwrap();
        let wanted: Vec<bool> = (0..LAUNCHES)
            .map(|launch| reference.rows.used & (1 << launch) == 0)
            .collect();
        assert_eq!((usable, lease), (wanted, i64::from(reference.rows.lease)));
    }
}

/// Whether a bit is set, or will be.
fn moment(from: Option<UnixMillis>, now: UnixMillis) -> Moment {
    match from {
        None => Moment::Never,
        Some(from) if from <= now => Moment::Come,
        Some(_) => Moment::In(1),
    }
}

/// However many ticks there are to it.
const fn pending(moment: Moment) -> Moment {
    match moment {
        Moment::In(_) => Moment::In(1),
        other => other,
    }
}
