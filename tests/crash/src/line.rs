//! How a client reaches the broker: one process, or several replicas in turn; and what it makes of a broken connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::Connection;
use agentwrit_testkit::load::moment;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long an answer may take: one that takes longer counts as a broker that hangs.
const LONGEST_ANSWER: Duration = Duration::from_mins(1);
/// Before something is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// How much of an unexpected body an error shows, bytes.
const SHOWN: usize = 300;
/// In a 503 that doesn't say that nothing was changed (`docs/wire-contract.md` §2).
const NOT_KNOWN: &str = "whether this was done is not known";

/// What a client makes of a broken connection, and of 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The broker is dead: the client ends.
    Ends,
    /// What was under way may have happened or not; the client goes on with something else at the next replica.
    Doubts,
    /// The client asks the next replica for the same, and so after a 503: it never hears of either.
    Retries,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body, if the status is this one.
    ///
    /// # Errors
    /// When the status is another, or the body is not what `T` says.
    pub fn expect<T: DeserializeOwned>(&self, what: &'static str, status: u16) -> Result<T> {
        if self.status != status {
            return Err(self.unexpected(what));
        }
        serde_json::from_slice(&self.body).map_err(|_| self.unexpected(what))
    }

    /// Whether it is a refusal that says that what was asked for may have been done.
    pub fn is_in_doubt(&self) -> bool {
        self.status == 503 && String::from_utf8_lossy(&self.body).contains(NOT_KNOWN)
    }

    /// An error that shows this answer.
    pub fn unexpected(&self, what: &'static str) -> Failure {
        let shown = self.body.get(..SHOWN).unwrap_or(&self.body);
        Failure::Answer {
            what,
            status: self.status,
            body: String::from_utf8_lossy(shown).trim().to_owned(),
        }
    }
}

/// What came of the requests of a client so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Answers 503.
    pub refused: u64,
    /// Connections that broke under a request.
    pub broken: u64,
    /// What the slowest answer took.
    pub slowest: Duration,
}

/// The connections of one client, one to each replica.
pub struct Line {
    replicas: Vec<(SocketAddr, Option<Connection>)>,
    next: usize,
    manner: Manner,
    /// Answers 503 and broken connections of all clients, while they work.
    felt: Arc<AtomicU64>,
    /// See [`Counts`].
    pub counts: Counts,
}

#[derive(Deserialize)]
struct Problem {
    status: u16,
    error_code: String,
}

impl Line {
    /// To these replicas, beginning with the one of this number.
    pub fn new(addresses: &[SocketAddr], first: usize, manner: Manner) -> Self {
        Self {
            replicas: addresses.iter().map(|address| (*address, None)).collect(),
            next: first,
            manner,
            felt: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// The same, which counts there too what it feels of a fault.
    #[must_use]
    pub fn counted_in(self, felt: &Arc<AtomicU64>) -> Self {
        Self {
            felt: Arc::clone(felt),
            ..self
        }
    }

    /// Sends bytes of a request to the next replica.
    ///
    /// # Errors
    /// [`Failure::Connection`] when the connection breaks, unless it retries; another when the broker hangs, or refuses
    /// with a 503 that is none of the contract's.
    pub async fn send(&mut self, request: &[u8]) -> Result<Reply> {
        let begun = moment::now();
        loop {
            let answered = self.once(request).await;
            let again = match &answered {
                Ok(reply) => reply.status == 503,
                Err(Failure::Connection(_)) => true,
                Err(_) => false,
            };
            if !again || self.manner != Manner::Retries || begun.elapsed() > LONGEST_ANSWER {
                return answered;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&mut self, request: &[u8]) -> Result<Reply> {
        let mut connection = self.connected().await?;
        let begun = moment::now();
        let answered = tokio::time::timeout(LONGEST_ANSWER, connection.send(request)).await;
        self.counts.slowest = self.counts.slowest.max(begun.elapsed());
        let Ok(answered) = answered else {
            return Err(Failure::Broker(format!("no answer within {LONGEST_ANSWER:?}")));
        };
        if matches!(answered, Err(Failure::Connection(_))) {
            self.counts.broken += 1;
            self.felt.fetch_add(1, Ordering::SeqCst);
        }
        let answer = answered?;
        let reply = Reply {
            status: answer.status,
            body: answer.body.to_vec(),
        };
        if reply.status == 503 {
            self.counts.refused += 1;
            self.felt.fetch_add(1, Ordering::SeqCst);
            let problem: Option<Problem> = serde_json::from_slice(&reply.body).ok();
            let is_told = problem.is_some_and(|problem| problem.status == 503 && problem.error_code == "unavailable");
            if !(is_told && answer.problem && answer.retry_after) {
                return Err(reply.unexpected("503 that is no problem with Retry-After"));
            }
        }
        if let Some((_, slot)) = self.replicas.get_mut(self.next) {
            *slot = Some(connection);
        }
        Ok(reply)
    }

    /// A connection to the next replica that takes one. Nothing is in doubt before there is one.
    async fn connected(&mut self) -> Result<Connection> {
        let begun = moment::now();
        loop {
            let mut failure = Failure::Connection("no replicas".to_owned());
            for _ in 0..self.replicas.len() {
                self.next = (self.next + 1) % self.replicas.len();
                let Some((address, slot)) = self.replicas.get_mut(self.next) else {
                    continue;
                };
                if let Some(connection) = slot.take() {
                    return Ok(connection);
                }
                match Connection::open(*address).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => failure = error,
                }
            }
            if self.manner == Manner::Ends || begun.elapsed() > LONGEST_ANSWER {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
