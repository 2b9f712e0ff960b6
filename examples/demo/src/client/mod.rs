//! The client: an application that knows a file, and nothing of AgentWrit.

mod token_file;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::TypedValueParser as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

pub use token_file::{Shown, TokenFileError, read};

use crate::stop::stopped;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Settings of the client.
#[derive(Debug, Args)]
pub struct Settings {
    /// The token file; the webhook sets the variable in every container that gets the token.
    #[arg(long, env = "AGENTWRIT_TOKEN_FILE")]
    pub token_file: PathBuf,
    /// The orders service.
    #[arg(long, env = "DEMO_SERVICE_URL", default_value = "http://orders:8080")]
    pub service_url: String,
    /// Seconds between two rounds.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600).map(Duration::from_secs))]
    pub interval: Duration,
    /// One round, then exit: 0 when the read was allowed.
    #[arg(long)]
    pub once: bool,
}

/// Why the client ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No signal handlers.
    #[error("can't wait for signals: {0}")]
    Signals(#[source] std::io::Error),
    /// With `--once`: the read was not allowed.
    #[error("GET /orders was not answered with 200")]
    NotAllowed,
}

/// Calls until SIGTERM, or once.
///
/// # Errors
/// See [`Error`].
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut stop = Box::pin(stopped().map_err(Error::Signals)?);
    let mut caller = Caller::new(&settings.service_url, settings.token_file);
    loop {
        let allowed = tokio::select! {
            allowed = caller.round() => allowed,
            () = &mut stop => return Ok(()),
        };
        if settings.once {
            return if allowed { Ok(()) } else { Err(Error::NotAllowed) };
        }
        tokio::select! {
            () = tokio::time::sleep(settings.interval) => {}
            () = &mut stop => return Ok(()),
        }
    }
}

struct Caller {
    http: Client<HttpConnector, String>,
    url: String,
    token_file: PathBuf,
    last: Option<Shown>,
}

impl Caller {
    fn new(service_url: &str, token_file: PathBuf) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("{}/orders", service_url.trim_end_matches('/')),
            token_file,
            last: None,
        }
    }

    /// Both calls, each with the token that the file holds at that moment; whether the first was allowed.
    async fn round(&mut self) -> bool {
        let allowed = self.call(Method::GET, "").await == Some(StatusCode::OK);
        self.call(Method::POST, r#"{"item": "more tea"}"#).await;
        allowed
    }

    async fn call(&mut self, method: Method, body: &str) -> Option<StatusCode> {
        let (token, shown) = match read(&self.token_file) {
            Ok(read) => read,
            Err(error) => {
                say(&format!("no token: {error}"));
                return None;
            }
        };
        self.tell(shown);
        let exchange = self.exchange(method.clone(), &token, body);
        match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
            Ok(Ok((status, text))) => {
                say(&format!("{method} /orders -> {} {}", status.as_u16(), summary(&text)));
                Some(status)
            }
            Ok(Err(error)) => {
                say(&format!("{method} /orders -> no answer: {error}"));
                None
            }
            Err(_) => {
                say(&format!(
                    "{method} /orders -> no answer within {} s",
                    CALL_TIMEOUT.as_secs()
                ));
                None
            }
        }
    }

    async fn exchange(&self, method: Method, token: &str, body: &str) -> Result<(StatusCode, String), String> {
        let mut credential =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token file holds no token".to_owned())?;
        credential.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(&self.url)
            .header(AUTHORIZATION, credential)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .map_err(|error| error.to_string())?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| agentwrit_protocol::error_chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Says whose token it is, the first time, and when it is another one.
    fn tell(&mut self, shown: Shown) {
        match &self.last {
            Some(last) if *last == shown => return,
            Some(last) => say(&format!(
                "the token was renewed: jti {} -> {}, good for {} s",
                last.jti, shown.jti, shown.life
            )),
            None => say(&format!(
                "I am {}, scopes {}, jti {}, good for {} s",
                shown.sub,
                shown.scope.join(" "),
                shown.jti,
                shown.life
            )),
        }
        self.last = Some(shown);
    }
}

/// What matters of an answer: the detail of a problem, or how many orders.
fn summary(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(detail) = value.get("detail").and_then(serde_json::Value::as_str) {
        return detail.to_owned();
    }
    match value.get("orders").and_then(serde_json::Value::as_array) {
        Some(orders) => format!("{} orders", orders.len()),
        None => String::new(),
    }
}

/// One line on stdout; nobody reading it is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
