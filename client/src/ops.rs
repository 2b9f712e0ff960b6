//! What a broker says about itself: health with its clock, readiness, version.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::wire::HealthResponse;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transport::{BrokerClient, Call};

/// An answer and the broker's clock when it answered.
#[derive(Debug, Clone)]
pub struct Dated<T> {
    /// The answer.
    pub value: T,
    /// The header `Date`; `None` when there is none that can be read.
    pub date: Option<UnixSeconds>,
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
    pub async fn dated_health(&self) -> Result<Dated<HealthResponse>, Error> {
        let answer = self.send(Call::new(Method::GET, "/v1/health")).await?;
        Ok(Dated {
            value: answer.read()?,
            date: answer.date(),
        })
    }

    /// The version of the broker program, from `/readyz` or the metrics, whichever is on this listener.
    pub async fn program_version(&self) -> Option<String> {
        let told = if let Ok(readiness) = self.readiness().await {
            Some(readiness.version)
        } else {
            let metrics = self.send(Call::new(Method::GET, "/v1/metrics")).await.ok()?;
            build_version(&metrics.text())
        };
        told.filter(|version| !version.is_empty())
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

/// The label of the metric that names the program's version.
fn build_version(metrics: &str) -> Option<String> {
    let line = metrics.lines().find(|line| line.starts_with("agentwrit_build_info{"))?;
    let (_, rest) = line.split_once("version=\"")?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_a_label_of_a_metric() {
        let text = "# TYPE agentwrit_build_info gauge\nagentwrit_build_info{version=\"1.2.3\"} 1\n";
        assert_eq!(build_version(text).as_deref(), Some("1.2.3"));
        assert_eq!(build_version("agentwrit_other 1\n"), None);
    }
}
