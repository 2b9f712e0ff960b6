//! The pods and their broker, event by event.

use agentwrit_client::Class;
use agentwrit_sidecar::{BrokerRequest, Event, Failure, Found};

use crate::arrivals::Arrivals;
use crate::broker::{Broker, LaunchRate, Request};
use crate::figures::Figures;
use crate::pod::{Pod, issued};
use crate::queue::Queue;
use crate::random::Random;
use crate::scenario::Scenario;

/// A token that expires when the broker has been there for so long, milliseconds, was renewed too late.
const ENOUGH: u64 = 2_000;

/// What became of a scenario.
#[derive(Debug)]
pub struct Run {
    /// The scenario.
    pub scenario: Scenario,
    /// What arrived.
    pub arrivals: Arrivals,
    /// Tokens that expired before there was another.
    pub expired: u32,
    /// Those of them that expired although the broker had been there for 2 s.
    pub late: u32,
    /// Looks at a pod that had an expired token in its file or endpoint, or said that it was ready without one.
    pub dishonest: u32,
    /// Longest time from the start of a pod, while the broker was there, to its token: milliseconds.
    pub longest_start: u64,
}

impl Run {
    /// The figures that it is judged by.
    pub fn figures(&self) -> Figures {
        Figures::of(self)
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    Start,
    Look,
    Arrives(Request),
    Answered(Request, Result<(), Class>),
}

struct Simulation {
    broker: Broker,
    pods: Vec<Pod>,
    queue: Queue<(usize, What)>,
    without_token: u32,
    run: Run,
}

/// Runs a scenario.
pub fn run(scenario: &Scenario) -> Run {
    let (mut queue, mut pods) = (Queue::new(), Vec::new());
    let random = Random::seeded(scenario.seed);
    for number in 0..scenario.pods {
        let started = random.between(0, scenario.starts_within * 1_000 - 1);
        queue.put(started, (pods.len(), What::Start));
        pods.push(Pod::new(started, scenario.seed << 32 | u64::from(number)));
    }
    let mut simulation = Simulation {
        broker: Broker::new(scenario),
        pods,
        queue,
        without_token: 0,
        run: Run {
            scenario: scenario.clone(),
            arrivals: Arrivals::default(),
            expired: 0,
            late: 0,
            dishonest: 0,
            longest_start: 0,
        },
    };
    let end = scenario.ends * 1_000;
    while let Some((now, (number, what))) = simulation.queue.take() {
        if now >= end {
            break;
        }
        simulation.step(now, number, what);
    }
    simulation.run.arrivals.at(end, simulation.without_token);
    simulation.run
}

impl Simulation {
    fn step(&mut self, now: u64, number: usize, what: What) {
        match what {
            What::Start => {
                self.run.arrivals.at(now, self.without_token);
                self.without_token += 1;
                self.happens(now, number, Event::Started(Found::Nothing));
            }
            What::Look => self.look(now, number),
            What::Arrives(request) => self.arrives(now, number, request),
            What::Answered(request, outcome) => self.answered(now, number, request, outcome),
        }
    }

    fn look(&mut self, now: u64, number: usize) {
        let Some(pod) = self.pods.get_mut(number) else { return };
        // Another look is planned instead of this one.
        if pod.look_at != now {
            return;
        }
        pod.look_at = u64::MAX;
        if pod.deadline() <= now {
            self.happens(now, number, Event::Tick);
        } else {
            self.plan_look(number);
        }
    }

    fn plan_look(&mut self, number: usize) {
        let Some(pod) = self.pods.get_mut(number) else { return };
        let deadline = pod.deadline();
        // An earlier look finds out by itself that the deadline is later now.
        if deadline < pod.look_at {
            pod.look_at = deadline;
            self.queue.put(deadline, (number, What::Look));
        }
    }

    fn arrives(&mut self, now: u64, number: usize, request: Request) {
        let Some(pod) = self.pods.get_mut(number) else { return };
        let second = self.run.arrivals.at(now, self.without_token);
        if self.broker.is_away(now) {
            second.unanswered += 1;
        } else {
            second.count(request);
        }
        let mut answer = self.broker.answer(request, now);
        if request == Request::Launch && answer.outcome.is_ok() && !pod.launches.allows(now) {
            answer.outcome = Err(LaunchRate::REFUSAL);
        }
        self.queue
            .put(now + answer.after, (number, What::Answered(request, answer.outcome)));
    }

    fn answered(&mut self, now: u64, number: usize, request: Request, outcome: Result<(), Class>) {
        let failure = |request| {
            move |class| Failure {
                request,
                class,
                symptom: "network",
                text: String::new(),
            }
        };
        let token = issued(now, self.run.scenario.ttl);
        let event = match (request, outcome) {
            (Request::Launch, Ok(())) => return self.queue.put(now, (number, What::Arrives(Request::Challenge))),
            (Request::Challenge, Ok(())) => return self.queue.put(now, (number, What::Arrives(Request::Register))),
            (Request::Launch, Err(class)) => Event::Registered(Err(failure(BrokerRequest::Launch)(class))),
            (Request::Challenge, Err(class)) => Event::Registered(Err(failure(BrokerRequest::Challenge)(class))),
            (Request::Register, outcome) => {
                Event::Registered(outcome.map(|()| token).map_err(failure(BrokerRequest::Register)))
            }
            (Request::Renew, outcome) => Event::Renewed(outcome.map(|()| token).map_err(failure(BrokerRequest::Renew))),
            (Request::Validate, outcome) => {
                Event::Validated(outcome.map(|()| true).map_err(failure(BrokerRequest::Validate)))
            }
        };
        self.happens(now, number, event);
    }

    fn happens(&mut self, now: u64, number: usize, event: Event) {
        let Some(pod) = self.pods.get_mut(number) else { return };
        self.run.arrivals.at(now, self.without_token);
        let had_token = pod.has_token();
        let outcome = pod.happens(now, event);
        match (had_token, pod.has_token()) {
            (true, false) => self.without_token += 1,
            (false, true) => self.without_token -= 1,
            (true, true) | (false, false) => {}
        }
        if outcome.expired {
            self.run.expired += 1;
            if self.broker.there_for(ENOUGH, now) {
                self.run.late += 1;
            }
        }
        if outcome.first_token && !self.broker.is_away(pod.started()) {
            self.run.longest_start = self.run.longest_start.max(now - pod.started());
        }
        if !pod.is_honest(now) {
            self.run.dishonest += 1;
        }
        if let Some(request) = outcome.request {
            self.queue.put(now + 1, (number, What::Arrives(request)));
        }
        self.plan_look(number);
    }
}
