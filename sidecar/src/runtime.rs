//! Does what the agent decides: requests, the token file, the log.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_client::BrokerClient;
use agentwrit_protocol::{Clock, Entropy};
use tokio::time::{Instant, sleep_until};

use crate::agent::{Action, Agent, Event, Failure, Now};
use crate::broker_calls;
use crate::broker_time::BrokerTime;
use crate::cause::Cause;
use crate::config::Config;
use crate::key::AgentKey;
use crate::log::{Level, Log};
use crate::log_event::LogEvent;
use crate::request::BrokerRequest;
use crate::status::Status;
use crate::token_file::TokenFile;

type Pending = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The sidecar's parts, joined.
pub(crate) struct Runtime {
    config: Arc<Config>,
    client: BrokerClient,
    key: Arc<AgentKey>,
    broker_time: Arc<BrokerTime>,
    clock: Arc<dyn Clock>,
    log: Log,
    status: Status,
    file: TokenFile,
    agent: Agent,
    start: Instant,
    pending: Option<Pending>,
}

/// Shortest pause between two ticks, so that a deadline that stays in the past can't use up the pod's processor.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

impl Runtime {
    pub(crate) fn new(
        config: Config,
        client: BrokerClient,
        key: AgentKey,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        log: Log,
        status: Status,
    ) -> Self {
        Self {
            file: TokenFile::new(&config.token_file, config.token_file_gid),
            config: Arc::new(config),
            client,
            key: Arc::new(key),
            broker_time: Arc::default(),
            clock,
            log,
            status,
            agent: Agent::new(entropy),
            start: Instant::now(),
            pending: None,
        }
    }

    /// Runs until `stop` is ready and the token is given back.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut stopping = false;
        let mut event = Event::Started(self.file.find());
        while !self.handle(event) {
            let due = self.start + self.agent.deadline();
            let deadline = due.max(Instant::now() + SHORTEST_PAUSE);
            event = tokio::select! {
                event = answer(&mut self.pending) => {
                    self.pending = None;
                    event
                }
                () = sleep_until(deadline) => Event::Tick,
                () = &mut stop, if !stopping => {
                    stopping = true;
                    Event::Stop
                }
            };
        }
    }

    fn now(&self) -> Now {
        Now {
            wall: self.clock.unix_millis(),
            mono: self.start.elapsed(),
        }
    }

    /// Passes an event to the agent and does what it returns; true when it is time to end.
    fn handle(&mut self, event: Event) -> bool {
        let mut events = VecDeque::from([event]);
        let mut end = false;
        while let Some(event) = events.pop_front() {
            for action in self.agent.handle(self.now(), event) {
                match action {
                    Action::Write(token) => {
                        let written = self.file.write(&token).map_err(|error| error.to_string());
                        events.push_back(Event::Written(written));
                    }
                    Action::Remove => {
                        if let Err(error) = self.file.remove() {
                            let text = format!("could not remove the token file: {error}");
                            self.log.write(Level::Warn, &text);
                        }
                    }
                    Action::Tell(notice) => {
                        if let Some(cause) = Cause::of(&notice) {
                            self.status.set_cause(cause);
                        }
                        let LogEvent { level, text } = LogEvent::of(&notice, &self.config.launch_token);
                        self.log.write(level, &text);
                    }
                    Action::Exit => end = true,
                    action @ (Action::Register | Action::Renew { .. } | Action::Validate(_) | Action::Release(_)) => {
                        self.pending = self.start_request(action);
                    }
                }
            }
        }
        self.status.set(self.agent.token().cloned(), self.agent.is_ready());
        end
    }

    fn start_request(&self, action: Action) -> Option<Pending> {
        let (client, key) = (self.client.clone(), Arc::clone(&self.key));
        let (broker_time, clock) = (Arc::clone(&self.broker_time), Arc::clone(&self.clock));
        let asked: Pending = match action {
            Action::Register => {
                let config = Arc::clone(&self.config);
                Box::pin(async move { Event::Registered(broker_calls::register(&client, &config, &key).await) })
            }
            Action::Renew { held, idempotency_key } => {
                let time = broker_time.at(clock.unix_seconds());
                Box::pin(async move {
                    Event::Renewed(broker_calls::renew(&client, &key, &held, idempotency_key.as_deref(), time).await)
                })
            }
            Action::Validate(token) => Box::pin(async move {
                let result = client.validate(&token).await;
                Event::Validated(match result {
                    Ok(answer) => Ok(answer.valid),
                    Err(error) => Err(Failure::new(BrokerRequest::Validate, &error)),
                })
            }),
            Action::Release(token) => Box::pin(async move {
                let result = client.release(&token).await;
                Event::Released(result.map_err(|error| Failure::new(BrokerRequest::Release, &error)))
            }),
            Action::Write(_) | Action::Remove | Action::Tell(_) | Action::Exit => return None,
        };
        let client = self.client.clone();
        Some(Box::pin(async move {
            let event = asked.await;
            if let Some(time) = client.take_time() {
                broker_time.heard(time, clock.unix_seconds());
            }
            event
        }))
    }
}

async fn answer(pending: &mut Option<Pending>) -> Event {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
