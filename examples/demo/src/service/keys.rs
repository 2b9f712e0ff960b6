//! The broker's public keys, cached.

use std::collections::HashMap;
use std::sync::Arc;

use agentwrit_client::{BrokerClient, Jwks};
use agentwrit_protocol::{Clock, Ttl, UnixSeconds};
use axum::http::StatusCode;
use jsonwebtoken::DecodingKey;
use tokio::sync::Mutex;

/// Keys are asked for again after this time, so that a retired one is forgotten.
const MAX_AGE: Ttl = Ttl::seconds(300);
/// An unknown kid asks the broker at most this often: tokens are made by strangers, too.
const MIN_AGE: Ttl = Ttl::seconds(5);

/// Where key sets come from.
pub trait KeySource: Send + Sync {
    /// The present key set.
    fn fetch(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<Jwks, FetchError>> + Send + '_>>;
}

/// Why there is no key set.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker's keys can't be had: {0}")]
pub struct FetchError(pub String);

impl FetchError {
    /// The status of an answer that fails for this reason: it is not the caller's fault.
    pub const STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
}

impl KeySource for BrokerClient {
    fn fetch(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<Jwks, FetchError>> + Send + '_>> {
        Box::pin(async {
            self.jwks()
                .await
                .map_err(|error| FetchError(agentwrit_protocol::error_chain(&error)))
        })
    }
}

struct Cached {
    keys: HashMap<String, Arc<DecodingKey>>,
    /// When the broker was last asked, with or without success.
    asked_at: Option<UnixSeconds>,
    failed: Option<FetchError>,
}

/// The key set: fetched on first use, on an unknown kid, and when it is old.
pub struct KeyCache {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    cached: Mutex<Cached>,
}

impl KeyCache {
    /// An empty cache.
    pub fn new(source: Arc<dyn KeySource>, clock: Arc<dyn Clock>) -> Self {
        let cached = Cached {
            keys: HashMap::new(),
            asked_at: None,
            failed: None,
        };
        Self {
            source,
            clock,
            cached: Mutex::new(cached),
        }
    }

    /// The Ed25519 key of this id, if the broker publishes it.
    ///
    /// # Errors
    /// When no key set could be had at all. Keys that were had before stay in use while the broker is away.
    pub async fn key(&self, kid: &str) -> Result<Option<Arc<DecodingKey>>, FetchError> {
        let mut cached = self.cached.lock().await;
        let age = cached.asked_at.map(|at| self.clock.unix_seconds() - at);
        let unknown = !cached.keys.contains_key(kid);
        let due = match age {
            None => true,
            Some(age) => !(Ttl::ZERO..MAX_AGE).contains(&age) || (unknown && age >= MIN_AGE),
        };
        if due {
            self.refresh(&mut cached).await;
        }
        match (cached.keys.get(kid), &cached.failed) {
            (Some(key), _) => Ok(Some(key.clone())),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Ok(None),
        }
    }

    /// Whether a key set was ever had; asks for it when not.
    pub async fn ready(&self) -> bool {
        let mut cached = self.cached.lock().await;
        if cached.keys.is_empty() {
            self.refresh(&mut cached).await;
        }
        !cached.keys.is_empty()
    }

    async fn refresh(&self, cached: &mut Cached) {
        cached.asked_at = Some(self.clock.unix_seconds());
        match self.source.fetch().await {
            Ok(set) => {
                cached.keys = usable(&set);
                cached.failed = None;
                let kids: Vec<&str> = cached.keys.keys().map(String::as_str).collect();
                tracing::info!(?kids, "the broker's keys");
            }
            Err(error) => {
                tracing::warn!("{error}");
                cached.failed = Some(error);
            }
        }
    }
}

/// The Ed25519 keys of a set; others are none of ours.
fn usable(set: &Jwks) -> HashMap<String, Arc<DecodingKey>> {
    let ours = set
        .keys
        .iter()
        .filter(|key| key.kty == "OKP" && key.crv == "Ed25519" && !key.kid.is_empty());
    ours.filter_map(|key| {
        let decoding = DecodingKey::from_ed_components(&key.x).ok()?;
        Some((key.kid.clone(), Arc::new(decoding)))
    })
    .collect()
}
