//! A store under test, beside the model: each step is done to it, and then all that it says is compared.

use std::marker::PhantomData;
use std::sync::Arc;

use agentwrit_model::rows::at;
use agentwrit_model::rules::{Command, Outcome};
use agentwrit_protocol::SessionId;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_store::session::id_prefix;
use agentwrit_store::testing::START;
use agentwrit_store::testing::suite::Opener;
use agentwrit_store::{EventDraft, Session};
use agentwrit_store_postgres::testing::proxy::{Lost, Proxy};
use proptest_state_machine::StateMachineTest;

use crate::attempt::{Attempt, Bearer, TICK};
use crate::check;
use crate::known::{Known, token};
use crate::reference::{Asked, Reference, Step};
use crate::replica::Replica;
use crate::trail::Trail;
use crate::upkeep::{Launches, Sweep};

/// The detail of the event of a new epoch.
const EPOCH: &str = "a test says so";

/// Where a store is, and its replicas.
pub(crate) trait Place {
    /// How many replicas there are.
    fn replicas(&self) -> usize;
    /// What opens the store for one of them, as often as it is asked to.
    fn opener(&self, replica: usize) -> &dyn Opener;
    /// What can lose its COMMITs. A store without one is closed where another would die.
    fn proxy(&self, _replica: usize) -> Option<&Proxy> {
        None
    }
}

/// A kind of store. Another one joins by this function.
pub(crate) trait Kind {
    /// A new, empty store, whose replicas hear of each other unless they are deaf.
    fn place(is_deaf: bool) -> Box<dyn Place>;
}

/// A store of this kind, driven by the model.
pub(crate) struct Driven<K>(PhantomData<K>);

/// The store and what is known of it.
pub(crate) struct Subject {
    /// None of one that is down.
    replicas: Vec<Option<Replica>>,
    place: Box<dyn Place>,
    clock: Arc<ManualClock>,
    known: Vec<Known>,
    attempts: usize,
    steps: usize,
    trail: Trail,
    /// Details of the events that this step must leave.
    events: Vec<String>,
}

impl<K: Kind> StateMachineTest for Driven<K> {
    type SystemUnderTest = Subject;
    type Reference = Reference;

    fn init_test(reference: &Reference) -> Subject {
        Subject::new(K::place(reference.is_deaf))
    }

    fn apply(mut subject: Subject, reference: &Reference, step: Step) -> Subject {
        let dies = matches!(step, Step::Die(..));
        subject.step(reference, step);
        subject.compare(reference, dies);
        subject
    }

    fn teardown(mut subject: Subject, _: Reference) {
        for replica in subject.replicas.iter_mut().filter_map(Option::take) {
            let mut all = Trail::from_start();
            replica.ask(|store| async { all.read_on(store).await });
            assert_eq!(all.read(), subject.trail.read());
            replica.close();
        }
    }
}

impl Subject {
    fn new(place: Box<dyn Place>) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        // A new epoch begins with a new second, and waits for it by the real clock: here for a millisecond.
        clock.advance_millis(999);
        let start = |replica| Some(Replica::start(place.opener(replica), &clock));
        let subject = Self {
            replicas: (0..place.replicas()).map(start).collect(),
            place,
            clock,
            known: Vec::new(),
            attempts: 0,
            steps: 0,
            trail: Trail::from_start(),
            events: Vec::new(),
        };
        subject.replica(0).ask(|store| store.commit(Launches)).unwrap();
        subject
    }

    /// The number of the one that runs in place of this one: itself if it does.
    fn living(&self, replica: usize) -> usize {
        let wanted = replica % self.replicas.len();
        let others = 0..self.replicas.len();
        let runs = |replica: &usize| self.replicas[*replica].is_some();
        std::iter::once(wanted).chain(others).find(runs).unwrap()
    }

    fn replica(&self, replica: usize) -> &Replica {
        self.replicas[self.living(replica)].as_ref().unwrap()
    }

    fn step(&mut self, reference: &Reference, step: Step) {
        let wanted = reference.last.as_slice();
        match step {
            Step::InTurn(asked) => {
                for ((replica, command), outcome) in asked.into_iter().zip(wanted) {
                    self.commit(replica, command, *outcome);
                }
            }
            Step::AtOnce(replicas, command) => {
                let attempts = [self.attempt(command), self.attempt(command)];
                let asking = [0, 1].map(|client| self.replica(replicas[client]).commit(attempts[client].clone()));
                let mut outcomes = asking.map(|asking| self.replica(0).ask(|_| asking).unwrap().unwrap());
                let mut wanted = reference.last.clone();
                outcomes.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(outcomes, *wanted, "{command:?} at once");
                self.read_back(replicas[0], &attempts, &wanted);
            }
            Step::Unheard((replica, command)) => {
                let attempt = self.attempt(command);
                let asked = self.replica(replica);
                asked.submit(attempt.clone());
                // What is committed after it is seen after it.
                asked.ask(|store| store.commit(Sweep)).unwrap();
                self.read_back(replica, &[attempt], wanted);
            }
            Step::Cut(asked, lost) => self.cut(asked, lost, wanted),
            Step::Tick(replica) => {
                self.clock.advance(TICK);
                let replica = self.replica(replica);
                while replica.ask(|store| store.commit(Sweep)).unwrap() > 0 {}
            }
            Step::Reopen(replica) => {
                let number = self.living(replica);
                self.close(number);
                self.start(number);
            }
            Step::Die(replica, during) => self.die(replica, during, wanted),
            Step::Start => {
                if let Some(number) = self.replicas.iter().position(Option::is_none) {
                    self.start(number);
                }
            }
        }
    }

    fn commit(&mut self, replica: usize, command: Command, wanted: Outcome) {
        if command == Command::NewEpoch {
            return self.begin_epoch(replica);
        }
        let attempt = self.attempt(command);
        let outcome = self
            .replica(replica)
            .ask(|store| store.commit(attempt.clone()))
            .unwrap();
        assert_eq!(outcome, wanted, "{command:?}");
        self.read_back(replica, &[attempt], &[outcome]);
    }

    fn begin_epoch(&mut self, replica: usize) {
        self.clock.advance(1);
        let event = EventDraft::success(EventType::EpochBegun, EPOCH);
        self.replica(replica).ask(|store| store.begin_epoch(event)).unwrap();
        self.events.push(EPOCH.to_owned());
    }

    /// A command in whose transaction the connection is cut. The replica finds out by itself what came of it.
    fn cut(&mut self, (replica, command): Asked, lost: Lost, wanted: &[Outcome]) {
        let number = self.living(replica);
        let Some(proxy) = self.place.proxy(number) else {
            for outcome in wanted {
                self.commit(replica, command, *outcome);
            }
            return;
        };
        proxy.lose(lost);
        let attempt = self.attempt(command);
        let heard = self.replica(number).ask(|store| store.commit(attempt.clone()));
        assert_eq!(heard.ok().as_slice(), wanted, "{command:?} without the {lost:?}");
        self.read_back(replica, &[attempt], wanted);
    }

    /// A replica ends without any last word. One for which that can't be done is closed and opened again.
    fn die(&mut self, replica: usize, during: Option<(Command, Lost)>, wanted: &[Outcome]) {
        let number = self.living(replica);
        let Some(proxy) = self.place.proxy(number) else {
            if let Some((command, lost)) = during {
                self.cut((replica, command), lost, wanted);
            }
            self.close(number);
            return self.start(number);
        };
        let during = during.map(|(command, lost)| {
            proxy.lose(lost);
            command
        });
        let attempt = during.map(|command| self.attempt(command));
        let dying = self.replicas[number].take().unwrap();
        if let Some(attempt) = &attempt {
            drop(dying.commit(attempt.clone()));
            let proxy = self.place.proxy(number).unwrap();
            dying.ask(|_| proxy.has_lost());
        }
        drop(dying);
        if let Some(attempt) = attempt {
            self.read_back(replica, &[attempt], wanted);
        }
    }

    fn close(&mut self, number: usize) {
        // One in memory is gone with its process.
        let lasts = self.replicas[number].take_if(|replica| replica.lasts());
        lasts.into_iter().for_each(Replica::close);
    }

    fn start(&mut self, number: usize) {
        if self.replicas[number].is_none() {
            self.replicas[number] = Some(Replica::start(self.place.opener(number), &self.clock));
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

    /// What came of these tries, by what the store has of them: as often as the model says that it was done. Each that was
    /// decided leaves its event.
    fn read_back(&mut self, replica: usize, attempts: &[Attempt], wanted: &[Outcome]) {
        if !wanted.is_empty() {
            self.events.extend(attempts.iter().map(Attempt::detail));
        }
        let mut done = 0;
        for attempt in attempts {
            match attempt.asked {
                Command::Register(_) | Command::Delegate(..) => {
                    if let Some(session) = self.session(replica, attempt.sid.clone()) {
                        self.known.push(Known::of(&session));
                        done += 1;
                    }
                }
                Command::Renew(node, _) => {
                    let session = self.session(replica, self.known[at(node)].sid()).unwrap();
                    if session.jti == attempt.jti {
                        self.known[at(node)].tokens.push(token(&session));
                        done += 1;
                    }
                }
                _ => return,
            }
        }
        let wanted = wanted.iter().filter(|outcome| **outcome == Outcome::Done).count();
        assert_eq!(done, wanted, "{attempts:?}");
    }

    fn session(&self, replica: usize, sid: SessionId) -> Option<Session> {
        let question = self
            .replica(replica)
            .ask(|store| store.query(move |tx| Box::pin(async move { tx.session(&sid).await })));
        question.unwrap()
    }

    /// After a step. Of one that died nobody hears what it has counted.
    fn compare(&mut self, reference: &Reference, has_died: bool) {
        // By each in turn.
        self.steps += 1;
        let replica = self.replicas[self.living(self.steps)].as_ref().unwrap();
        check::rows(replica, &self.known, reference);
        let trail = &mut self.trail;
        let mut told = replica.ask(|store| trail.read_on(store));
        let mut events = std::mem::take(&mut self.events);
        told.sort_unstable();
        events.sort_unstable();
        assert_eq!(told, events, "one event for each command");
        let mut audited = 0;
        let mut epochs = Vec::new();
        for (number, replica) in self.replicas.iter().enumerate() {
            let Some(replica) = replica else { continue };
            check::view(number, replica, &self.known, reference);
            audited += replica.audited().len();
            epochs.push(replica.ask(|store| std::future::ready(store.epoch())));
        }
        assert!(has_died || audited == events.len(), "one count for each event");
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    }
}
