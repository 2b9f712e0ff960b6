//! What a broker tells about itself: health with its clock, readiness, version.

use agentwrit_protocol::wire::HealthResponse;
use http::Method;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::Error;
use crate::transport::{BrokerClient, Call};

/// An answer and the broker's clock when it answered.
#[derive(Debug, Clone)]
pub struct Dated<T> {
    /// The answer.
    pub value: T,
    /// The header `Date`, whole seconds; `None` when there is none that can be read.
    pub date: Option<OffsetDateTime>,
}

/// `GET /readyz` → 200 or 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// `ready` or `unready`.
    pub status: String,
    /// Version of the broker program.
    #[serde(default)]
    pub version: String,
    /// What is failing.
    #[serde(default)]
    pub failing: Vec<Failing>,
}

/// A dependency that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Such as `store`.
    pub dependency: String,
    /// A word.
    pub reason: String,
}

impl BrokerClient {
    /// `GET /v1/health`, with the broker's clock.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dated_health(&self) -> Result<Dated<HealthResponse>, Error> {
        let answer = self.send(Call::new(Method::GET, "/v1/health")).await?;
        Ok(Dated {
            value: answer.read()?,
            date: answer.date(),
        })
    }

    /// `GET /readyz`, which is on the API listener when the broker has no other; an unready broker is no error.
    ///
    /// # Errors
    /// See [`Error`]; 404 when it is on another listener.
    pub async fn readiness(&self) -> Result<Readiness, Error> {
        match self.send(Call::new(Method::GET, "/readyz")).await {
            Ok(answer) => answer.read(),
            Err(error) => match error.refusal() {
                Some(refusal) if refusal.status == 503 => serde_json::from_str(&refusal.body).map_err(|_| error),
                _ => Err(error),
            },
        }
    }
}
