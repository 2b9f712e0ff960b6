//! The trail as the broker serves it, page by page.

use agentwrit_client::{AuditPage, AuditQuery, BrokerClient};
use agentwrit_protocol::Sensitive;
use agentwrit_protocol::audit::{AuditEvent, EventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Broken, Progress, Verdict, Verification};
use crate::error::CliError;
use crate::output::Output;
use crate::session::login;

/// The longest page that brokers answer.
const PAGE: i64 = 1000;

/// Where to begin.
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
    /// # Errors
    /// When it can't be the id of an event.
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

/// The trail of a broker, read with an admin's token that is fetched anew when it ends.
pub(crate) struct Trail<'a> {
    client: &'a BrokerClient,
    secret: &'a Sensitive,
    token: Sensitive,
    /// Events before the next.
    offset: i64,
    end: Option<i64>,
}

impl<'a> Trail<'a> {
    pub(crate) async fn open(client: &'a BrokerClient, secret: &'a Sensitive) -> Result<Self, CliError> {
        Ok(Self::with_token(client, secret, login(client, secret).await?))
    }

    /// The same for who has logged in.
    pub(crate) fn with_token(client: &'a BrokerClient, secret: &'a Sensitive, token: Sensitive) -> Self {
        Self {
            token,
            client,
            secret,
            offset: 0,
            end: None,
        }
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
        self.offset = sequence.saturating_sub(1);
    }

    /// The next events; `None` at the end that the trail had when it was first read: an end that moves is never reached.
    pub(crate) async fn next_events(&mut self) -> Result<Option<Vec<Box<RawValue>>>, CliError> {
        if self.end.is_some_and(|end| self.offset >= end) {
            return Ok(None);
        }
        let query = AuditQuery {
            limit: Some(PAGE),
            offset: Some(self.offset).filter(|offset| *offset > 0),
            ..AuditQuery::default()
        };
        let page = self.page(&query).await?;
        self.end.get_or_insert(page.total);
        self.offset = self
            .offset
            .saturating_add(i64::try_from(page.events.len()).unwrap_or(PAGE));
        Ok(Some(page.events).filter(|events| !events.is_empty()))
    }

    /// How many events there are, once it was read.
    pub(crate) fn total(&self) -> Option<i64> {
        self.end
    }

    /// Verifies from where it is to its end.
    pub(crate) async fn verify(
        &mut self,
        mut verification: Verification<'_>,
        progress: &mut Progress<'_>,
        output: &mut Output<'_>,
    ) -> Result<Verdict, CliError> {
        while let Some(events) = self.next_events().await? {
            for event in events {
                if let Err(broken) = verification.feed(event.get()) {
                    return Ok(verification.end(broken));
                }
                if let Some(line) = progress.line(verification.count(), self.end) {
                    output.note(&line)?;
                }
            }
        }
        match self.end {
            Some(total) if self.offset < total => Ok(verification.end(missing(self.offset, total))),
            _ => Ok(verification.finish()),
        }
    }
}

fn missing(offset: i64, total: i64) -> Broken {
    Broken {
        event: AuditEvent::id_for(offset.saturating_add(1)),
        problem: format!("it is missing, although the broker counts {total} events"),
    }
}

/// The number in an event's id.
fn number(event: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let event: Id = serde_json::from_str(event).ok()?;
    AuditEvent::sequence_of(&event.id)
}
