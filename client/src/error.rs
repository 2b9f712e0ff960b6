//! What can go wrong with a call, and what to do about it.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use agentwrit_protocol::{ErrorCode, Problem};

/// A refusal by the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The problem body; made up from the status when the answer had none.
    pub problem: Problem,
    /// The header `Retry-After`, when it was a number of seconds.
    pub retry_after: Option<Duration>,
    /// The body as it came, at most 4 KiB of it.
    pub body: String,
}

impl Refusal {
    /// The code of the closed vocabulary: the problem's, or the nearest one for the status.
    pub fn code(&self) -> ErrorCode {
        self.problem.code().unwrap_or(match self.status {
            401 => ErrorCode::Unauthorized,
            403 => ErrorCode::Forbidden,
            404 => ErrorCode::NotFound,
            405 => ErrorCode::MethodNotAllowed,
            409 => ErrorCode::Conflict,
            413 => ErrorCode::PayloadTooLarge,
            429 => ErrorCode::RateLimited,
            503 => ErrorCode::Unavailable,
            500..=599 => ErrorCode::InternalError,
            _ => ErrorCode::InvalidRequest,
        })
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("status", &self.status)
            .field("code", &self.code().as_str())
            .field("detail", &self.problem.detail)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code(), self.problem.detail)?;
        match &self.problem.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker answered, and the answer is no.
    #[error("the broker refused with {0}")]
    Refused(Box<Refusal>),
    /// The broker answered that it can't serve now (502, 503 or 504); nothing changed.
    #[error("the broker is not available: {0}")]
    Overloaded(Box<Refusal>),
    /// No answer: connection, TLS or protocol failure.
    #[error("the broker can't be reached: {0}")]
    Network(String, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// No whole answer before the deadline.
    #[error("the broker didn't answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer is larger than the client accepts.
    #[error("the broker's answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound, bytes.
        limit: usize,
    },
    /// The answer isn't what the call answers.
    #[error("the broker's answer to {call} is malformed: {reason}")]
    Malformed {
        /// Method and path.
        call: String,
        /// What is wrong with it; holds none of the answer's values.
        reason: String,
    },
    /// The file with the caller's own credential can't be used.
    #[error("the credential file {} can't be used: {reason}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with the trusted CA can't be used.
    #[error("the CA file {} can't be used: {reason}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client's own certificate or its key can't be used.
    #[error("the client certificate's file {} can't be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The call can't be made with this client or these values.
    #[error("the request can't be made: {0}")]
    Request(String),
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing is known to be wrong with the request: try again later, not before the time given.
    Retry(Option<Duration>),
    /// Too many requests: wait at least that long.
    RateLimited(Option<Duration>),
    /// The same request will be refused again until something changes.
    Denied(ErrorCode),
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(refusal) => match refusal.status {
                429 => Class::RateLimited(refusal.retry_after),
                400..=499 => Class::Denied(refusal.code()),
                _ => Class::Retry(refusal.retry_after),
            },
            Self::Overloaded(refusal) => Class::Retry(refusal.retry_after),
            Self::Request(_) => Class::Denied(ErrorCode::InvalidRequest),
            Self::Network(..)
            | Self::Timeout(_)
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Credential { .. }
            | Self::Ca { .. }
            | Self::Certificate { .. } => Class::Retry(None),
        }
    }

    /// The refusal, when the broker answered with one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Overloaded(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// A word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code().as_str(),
            Self::Overloaded(_) => "unavailable",
            Self::Network(..) => "network",
            Self::Timeout(_) => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::Credential { .. } => "credential",
            Self::Ca { .. } => "ca",
            Self::Certificate { .. } => "client_certificate",
            Self::Request(_) => "request",
        }
    }

    /// As [`Error::kind`], but of a request that got no answer what was in the way: `dns`, `connection_refused`,
    /// `unreachable`, `connection_closed`, `timeout` or `tls`, where that is known.
    pub fn symptom(&self) -> &'static str {
        let Self::Network(_, Some(source)) = self else {
            return self.kind();
        };
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
        while let Some(error) = source {
            if let Some(word) = symptom(error) {
                return word;
            }
            source = error.source();
        }
        self.kind()
    }
}

/// What one error of a chain shows by itself.
fn symptom(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if error.is::<rustls::Error>() {
        return Some("tls");
    }
    let Some(io) = error.downcast_ref::<std::io::Error>() else {
        // hyper-util's type for it is private.
        return error.to_string().starts_with("dns error").then_some("dns");
    };
    // The sources of an io::Error begin with those of what it wraps.
    if let Some(word) = io.get_ref().and_then(|inner| symptom(inner)) {
        return Some(word);
    }
    match io.kind() {
        ErrorKind::ConnectionRefused => Some("connection_refused"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("unreachable"),
        ErrorKind::TimedOut => Some("timeout"),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Some("connection_closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;

    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_dns() {
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());
        // No resolver asks for a label of more than 63 characters.
        let name = format!("http://{}.invalid", "a".repeat(64));
        let error = client.get(name.parse().unwrap()).await.unwrap_err();
        let error = Error::Network(error.to_string(), Some(Box::new(error)));
        assert_eq!((error.symptom(), error.kind()), ("dns", "network"));
    }
}
