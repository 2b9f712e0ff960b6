//! The trail as the broker serves it, page by page.

use agentwrit_client::{AuditPage, AuditQuery, BrokerClient, Class, Jwk, Jwks};
use agentwrit_protocol::audit::{AuditEvent, EventType};
use agentwrit_protocol::{ErrorCode, Sensitive};
use serde_json::value::RawValue;

use super::file::{beginning, number};
use super::{Broken, Progress, Verdict, Verification};
use crate::error::CliError;
use crate::output::Output;
use crate::session::login;

/// The longest page that brokers answer.
const EVENTS_PER_PAGE: i64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the first event.
    First,
    /// At the last checkpoint; at the first event when there is none.
    LastCheckpoint,
    /// At the checkpoint of this number.
    Checkpoint(i64),
}

impl Start {
    /// From the value of `--from-checkpoint`.
    ///
    /// Fails when it can't be the id of an event.
    pub(crate) fn from_flag(value: Option<&str>) -> Result<Self, CliError> {
        match value {
            None => Ok(Self::First),
            Some("last") => Ok(Self::LastCheckpoint),
            Some(id) => match AuditEvent::sequence_of(id) {
                Some(sequence) => Ok(Self::Checkpoint(sequence)),
                None => Err(CliError::Usage(format!(
                    "--from-checkpoint {id:?} must be the id of an audit_checkpoint event, such as evt-001000"
                ))),
            },
        }
    }
}

/// The trail of a broker, read with an admin's token that is fetched again when it ends.
pub(crate) struct Trail<'a> {
    client: &'a BrokerClient,
    secret: &'a Sensitive,
    token: Sensitive,
    /// Number of the event before the next.
    after: i64,
    extent: Option<Extent>,
}

/// What the broker keeps.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Number of the event that the trail begins with.
    begins: i64,
    /// Number of the last one when the trail was first read.
    last: i64,
    total: i64,
}

impl<'a> Trail<'a> {
    pub(crate) async fn open(client: &'a BrokerClient, secret: &'a Sensitive) -> Result<Self, CliError> {
        Ok(Self::with_token(client, secret, login(client, secret).await?))
    }

    /// The same with a token that is there already.
    pub(crate) fn with_token(client: &'a BrokerClient, secret: &'a Sensitive, token: Sensitive) -> Self {
        Self {
            token,
            client,
            secret,
            after: 0,
            extent: None,
        }
    }

    /// The keys that the broker publishes, and those that it has retired.
    pub(crate) async fn keys(&self) -> Result<Jwks, CliError> {
        let mut keys = self.client.jwks().await?;
        match self.client.signing_keys(&self.token).await {
            Ok(all) => keys
                .keys
                .extend(all.keys.iter().map(|key| Jwk::ed25519(&key.kid, &key.x))),
            // A broker of the version before has one key.
            Err(error) if error.class() == Class::Denied(ErrorCode::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(keys)
    }

    async fn page(&mut self, query: &AuditQuery) -> Result<AuditPage, CliError> {
        match self.client.audit_page(&self.token, query).await {
            // A long trail outlives a token.
            Err(error) if error.refusal().is_some_and(|refusal| refusal.status == 401) => {
                self.token = login(self.client, self.secret).await?;
                Ok(self.client.audit_page(&self.token, query).await?)
            }
            other => Ok(other?),
        }
    }

    /// Number of the first event to verify, and whether it is a checkpoint.
    pub(crate) async fn place(&mut self, start: &Start) -> Result<(i64, bool), CliError> {
        match start {
            Start::First => Ok((1, false)),
            Start::Checkpoint(sequence) => Ok((*sequence, true)),
            Start::LastCheckpoint => Ok(match self.last_checkpoint().await? {
                Some(sequence) => (sequence, true),
                None => (1, false),
            }),
        }
    }

    async fn last_checkpoint(&mut self) -> Result<Option<i64>, CliError> {
        let mut query = AuditQuery {
            event_type: Some(EventType::AuditCheckpoint.as_str().to_owned()),
            limit: Some(1),
            ..AuditQuery::default()
        };
        let total = self.page(&query).await?.total;
        if total < 1 {
            return Ok(None);
        }
        query.offset = Some(total.saturating_sub(1));
        let page = self.page(&query).await?;
        Ok(page.events.last().and_then(|event| number(event.get())))
    }

    /// Goes to the event of this number.
    pub(crate) fn go_to(&mut self, sequence: i64) {
        self.after = sequence.saturating_sub(1);
    }

    async fn extent(&mut self) -> Result<Extent, CliError> {
        if let Some(extent) = self.extent {
            return Ok(extent);
        }
        let query = AuditQuery {
            limit: Some(1),
            ..AuditQuery::default()
        };
        let page = self.page(&query).await?;
        let first = page.events.first().and_then(|event| number(event.get())).unwrap_or(1);
        let extent = Extent {
            begins: page.events.first().map_or(1, |event| beginning(event.get())),
            last: first.saturating_add(page.total).saturating_sub(1),
            total: page.total,
        };
        Ok(*self.extent.insert(extent))
    }

    /// Number of the event that the trail begins with.
    pub(crate) async fn begins(&mut self) -> Result<i64, CliError> {
        Ok(self.extent().await?.begins)
    }

    /// The next events; `None` at the end that the trail had when it was first read: an end that moves is never reached.
    pub(crate) async fn next_events(&mut self) -> Result<Option<Vec<Box<RawValue>>>, CliError> {
        let extent = self.extent().await?;
        if self.after >= extent.last {
            return Ok(None);
        }
        // By cursor: an offset would move when the broker drops events in the meantime.
        let query = AuditQuery {
            limit: Some(EVENTS_PER_PAGE),
            cursor: Some(AuditEvent::id_for(self.after)),
            ..AuditQuery::default()
        };
        let page = self.page(&query).await?;
        let last = page.events.last().and_then(|event| number(event.get()));
        match last {
            Some(last) if last > self.after => self.after = last,
            // No event, or none that comes after: the verification can't go on.
            _ => return Ok(None),
        }
        Ok(Some(page.events))
    }

    /// How many events there are, once it was read.
    pub(crate) fn total(&self) -> Option<i64> {
        self.extent.map(|extent| extent.total)
    }

    /// The number of the event that the trail begins with now, when it began before `wanted` and the broker has dropped
    /// that one since.
    async fn moved_past(&mut self, wanted: i64) -> Result<Option<i64>, CliError> {
        self.extent = None;
        Ok(Some(self.extent().await?.begins).filter(|begins| *begins > wanted))
    }

    /// Verifies from where it is to its end. When the broker drops events that are yet to be read, it starts over.
    pub(crate) async fn verify(
        &mut self,
        mut verification: Verification<'_>,
        progress: &mut Progress<'_>,
        output: &mut Output<'_>,
    ) -> Result<Verdict, CliError> {
        // What files hold isn't read again.
        let starts_over = verification.count() == 0;
        loop {
            let wanted = self.extent().await?.begins.max(self.after.saturating_add(1));
            let Some(events) = self.next_events().await? else {
                break;
            };
            let next = events.first().and_then(|event| number(event.get()));
            if starts_over
                && next.is_some_and(|next| next > wanted)
                && let Some(begins) = self.moved_past(wanted).await?
            {
                let id = AuditEvent::id_for(begins);
                output.note(&format!("The broker dropped events meanwhile: starting over from {id}"))?;
                verification = verification.again_from(begins);
                self.go_to(begins);
                continue;
            }
            for event in events {
                if let Err(broken) = verification.feed(event.get()) {
                    return Ok(verification.end(broken));
                }
                if let Some(line) = progress.line(verification.count(), self.extent.map(|extent| extent.last)) {
                    output.note(&line)?;
                }
            }
        }
        match self.extent {
            Some(extent) if self.after < extent.last => Ok(verification.end(missing(self.after, extent.total))),
            _ => Ok(verification.finish()),
        }
    }
}

fn missing(after: i64, total: i64) -> Broken {
    Broken {
        event: AuditEvent::id_for(after.saturating_add(1)),
        problem: format!("it is missing, although the broker counts {total} events"),
    }
}
