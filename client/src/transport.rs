//! One request and its answer: connection, credential, deadline, bound.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::k8s::EPOCH_HEADER;
use agentwrit_protocol::renewal_proof::PROOF_HEADER;
use agentwrit_protocol::{Problem, Sensitive, Ttl, UnixSeconds, error_chain};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::base_url::{Base, check_url};
use crate::config::{ClientConfig, ConfigError, Identity, Trust};
use crate::error::{Error, Refusal};
use crate::reloading_client::{ReloadingClient, read_small};

const MAX_KEPT_BODY: usize = 4096;

struct Inner {
    config: ClientConfig,
    base: Base,
    http: ReloadingClient,
    /// The header `Date` of the newest answer, and when it came.
    date: Mutex<Option<(UnixSeconds, Instant)>>,
}

/// A client of one broker; cheap to clone, all clones share connections and trust.
#[derive(Clone)]
pub struct BrokerClient {
    inner: Arc<Inner>,
}

impl fmt::Debug for BrokerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerClient")
            .field("base_url", &self.inner.base.url)
            .finish_non_exhaustive()
    }
}

/// A request on its way.
pub(crate) struct Call<'a> {
    method: Method,
    path: String,
    bearer: Option<&'a Sensitive>,
    body: Option<Vec<u8>>,
    idempotency_key: Option<&'a str>,
    proof: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            bearer: None,
            body: None,
            idempotency_key: None,
            proof: None,
        }
    }

    pub(crate) fn bearer(mut self, token: &'a Sensitive) -> Self {
        self.bearer = Some(token);
        self
    }

    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::Request(error.to_string()))?;
        self.body = Some(bytes);
        Ok(self)
    }

    pub(crate) fn idempotency_key(mut self, key: Option<&'a str>) -> Self {
        self.idempotency_key = key;
        self
    }

    /// A proof of possession, as the header has it.
    pub(crate) fn proof(mut self, proof: Option<&'a str>) -> Self {
        self.proof = proof;
        self
    }

    /// Method and path without the query, for errors.
    fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

pub(crate) struct Answer {
    call: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Malformed {
            call: self.call.clone(),
            // serde's own text quotes values, and values may be tokens.
            reason: format!(
                "{} at line {} column {}",
                match error.classify() {
                    serde_json::error::Category::Data => "a member is missing or has another type",
                    _ => "it is not whole JSON",
                },
                error.line(),
                error.column()
            ),
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The server's clock when it answered, RFC 9110 §5.6.7.
    pub(crate) fn date(&self) -> Option<UnixSeconds> {
        date(&self.headers)
    }

    pub(crate) fn epoch(&self) -> String {
        let header = self.headers.get(EPOCH_HEADER).and_then(|value| value.to_str().ok());
        header.unwrap_or_default().to_owned()
    }
}

impl BrokerClient {
    /// A client for the broker of `config`; connects when it is first used.
    ///
    /// # Errors
    /// When the URL, the CA or their combination can't work. A CA file is read at the first call.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let base = check_url(&config)?;
        if !base.plain && matches!(config.trust, Trust::None) {
            return Err(ConfigError::NoTrust(base.url));
        }
        let http = ReloadingClient::new(&config, base.plain)?;
        let inner = Inner {
            config,
            base,
            http,
            date: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Replaces the CA certificates of [`Trust::Pem`]; later calls make new connections.
    ///
    /// # Errors
    /// When `pem` holds no usable certificate; the old ones then stay.
    pub fn set_ca(&self, pem: &[u8]) -> Result<(), ConfigError> {
        self.inner.http.set_ca(pem)
    }

    pub(crate) fn base(&self) -> &Base {
        &self.inner.base
    }

    pub(crate) fn http(&self) -> &ReloadingClient {
        &self.inner.http
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.inner.config.timeout
    }

    /// The broker's clock, by the header `Date` of the newest answer, refusals included, and the time
    /// since. `None` when there was no answer since the last call of this.
    pub fn take_time(&self) -> Option<UnixSeconds> {
        let mut kept = self.inner.date.lock();
        let (date, came) = kept.take()?;
        let since = i64::try_from(came.elapsed().as_secs()).unwrap_or(i64::MAX);
        Some(date + Ttl::seconds(since))
    }

    /// Whether what is sent can be read on its way: plain HTTP to another host, which the settings allow.
    pub fn sends_in_clear(&self) -> bool {
        self.inner.base.clear
    }

    /// The caller's own credential, read again each time when it is a file.
    pub(crate) fn identity(&self) -> Result<Sensitive, Error> {
        match &self.inner.config.identity {
            Some(Identity::Token(token)) => Ok(token.clone()),
            Some(Identity::File(path)) => {
                let unusable = |reason: String| Error::Credential {
                    path: path.clone(),
                    reason,
                };
                let bytes = read_small(path).map_err(unusable)?;
                let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text".to_owned()))?;
                let token = text.trim();
                if token.is_empty() {
                    return Err(unusable("it is empty".to_owned()));
                }
                Ok(Sensitive::from(token))
            }
            None => Err(Error::Request("this client has no identity for /v1/k8s".to_owned())),
        }
    }

    /// Sends a call and reads its answer, both before the deadline.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Error> {
        let deadline = self.inner.config.timeout;
        match tokio::time::timeout(deadline, self.exchange(call)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout(deadline)),
        }
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Answer, Error> {
        let name = call.name();
        let secret = call.bearer;
        let request = self.request(call)?;
        let response = self.inner.http.connections()?.request(request).await.map_err(|error| {
            let text = error_chain(&error);
            Error::Network(text, Some(Box::new(error)))
        })?;
        let (parts, body) = response.into_parts();
        if let Some(date) = date(&parts.headers) {
            *self.inner.date.lock() = Some((date, Instant::now()));
        }
        let limit = self.inner.config.max_response_bytes;
        let body = match Limited::new(body, limit).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Error::TooLarge { limit }),
            Err(error) => return Err(Error::Network(error_chain(error.as_ref()), Some(error))),
        };
        if parts.status.is_success() {
            return Ok(Answer {
                call: name,
                headers: parts.headers,
                body,
            });
        }
        Err(refused(parts.status, &parts.headers, &body, secret))
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, Error> {
        let bad = |error: http::Error| Error::Request(error.to_string());
        let mut builder = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.inner.base.url, call.path))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, self.inner.config.user_agent.as_str());
        if let Some(token) = call.bearer {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| Error::Request("the bearer token holds characters that no header can".to_owned()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(key) = call.idempotency_key {
            builder = builder.header("Idempotency-Key", key);
        }
        if let Some(proof) = call.proof {
            builder = builder.header(PROOF_HEADER, proof);
        }
        if call.body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(call.body.unwrap_or_default()));
        builder.body(body).map_err(bad)
    }
}

/// The header `Date` (RFC 9110 §5.6.7).
fn date(headers: &HeaderMap) -> Option<UnixSeconds> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = OffsetDateTime::from(httpdate::parse_http_date(text).ok()?);
    Some(date.into())
}

fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8], secret: Option<&Sensitive>) -> Error {
    let mut text: String = String::from_utf8_lossy(body).chars().take(MAX_KEPT_BODY).collect();
    let mut problem: Problem = serde_json::from_str(&text).unwrap_or_else(|_| Problem {
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        detail: "the answer has no problem body: is this URL a broker's?".to_owned(),
        ..Problem::default()
    });
    if let Some(secret) = secret {
        text = text.replace(secret.expose(), "***");
        problem.detail = problem.detail.replace(secret.expose(), "***");
    }
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    let refusal = Box::new(Refusal {
        status: status.as_u16(),
        problem,
        retry_after,
        body: text,
    });
    match refusal.status {
        502..=504 => Error::Overloaded(refusal),
        _ => Error::Refused(refusal),
    }
}
