//! What must be there before a window: admin token, launch tokens, agents, tokens that nobody has seen.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentwrit_protocol::Ttl;
use agentwrit_protocol::claims::Claims;
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{self, claims};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use agentwrit_testkit::load::process::{Broker, Usage};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer, SigningKey};

use crate::database::{Counters, Database};
use crate::measure::{Idle, Sample, Server, window};
use crate::operations::Register;

const COMMITS: &str = "agentwrit_audit_write_duration_seconds_count ";
/// Clients that prepare.
const HANDS: usize = 16;
const LONG: Duration = Duration::from_mins(10);

/// A broker or replicas of one, and what their clients hold.
pub struct World {
    /// The process, or the first of the replicas.
    pub broker: Broker,
    /// The other replicas.
    others: Vec<Broker>,
    /// Where their store is, when it is a database.
    database: Option<Arc<Database>>,
    /// Counts connections, which go to each in turn.
    connections: AtomicUsize,
    /// Admin token.
    pub admin: String,
    /// Launch token for any number of registrations.
    pub launch: String,
}

impl World {
    /// Logs in and makes the launch token, for agents' tokens of this life, seconds.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn new(broker: Broker, max_ttl: u32) -> Result<Self> {
        let mut connection = Connection::open(broker.address).await?;
        let admin = agent::login(&mut connection).await?;
        let launch = agent::launch(&mut connection, &admin, false, max_ttl).await?;
        Ok(Self {
            broker,
            others: Vec::new(),
            database: None,
            connections: AtomicUsize::new(0),
            admin,
            launch,
        })
    }

    /// The same with other replicas, on this database.
    #[must_use]
    pub fn with_replicas(mut self, others: Vec<Broker>, database: &Arc<Database>) -> Self {
        self.others = others;
        self.database = Some(Arc::clone(database));
        self
    }

    /// Whether the store is a database.
    pub const fn has_database(&self) -> bool {
        self.database.is_some()
    }

    fn brokers(&self) -> impl Iterator<Item = &Broker> {
        std::iter::once(&self.broker).chain(&self.others)
    }

    /// A connection to the broker, or to the next of the replicas.
    ///
    /// # Errors
    /// When it doesn't listen.
    pub async fn connect(&self) -> Result<Connection> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        let broker = self.brokers().nth(number).unwrap_or(&self.broker);
        Connection::open(broker.address).await
    }

    /// Ends all of them.
    ///
    /// # Errors
    /// When one doesn't end as it should.
    pub async fn stop(self) -> Result<()> {
        for broker in std::iter::once(self.broker).chain(self.others) {
            broker.stop().await?;
        }
        Ok(())
    }

    /// Registers this many agents, measured.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn register_many(&self, count: usize) -> Result<Sample> {
        let left = Countdown::new(count);
        let mut loads = Vec::new();
        for number in 0..64 {
            loads.push(Register::new(self, number).await?.until(&left));
        }
        window(loads, LONG, self, Idle::Sleeps).await
    }

    /// Registers this many agents; their tokens.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn tokens(&self, count: usize) -> Result<Vec<String>> {
        let left = Countdown::new(count);
        let mut tasks = Vec::new();
        for number in 0..HANDS {
            let (mut connection, left, launch) = (self.connect().await?, left.clone(), self.launch.clone());
            tasks.push(tokio::spawn(async move {
                let keys = Keys::numbered(u64::try_from(number).unwrap_or_default());
                let mut tokens = Vec::new();
                while left.take().is_some() {
                    let registered = agent::register(&mut connection, &keys, &launch, "prepared").await?;
                    tokens.push(registered.access_token.expose().to_owned());
                }
                Ok::<_, Failure>(tokens)
            }));
        }
        let mut tokens = Vec::with_capacity(count);
        for task in tasks {
            let of_one = task
                .await
                .map_err(|error| Failure::Broker(format!("a client: {error}")))??;
            tokens.extend(of_one);
        }
        Ok(tokens)
    }
}

impl Server for World {
    fn usage(&self) -> Result<Usage> {
        let mut sum = Usage::default();
        for broker in self.brokers() {
            let its = broker.usage()?;
            sum.cpu += its.cpu;
            sum.written_bytes += its.written_bytes;
        }
        Ok(sum)
    }

    fn apart(&self) -> bool {
        self.broker.apart
    }

    async fn commits(&self) -> Result<u64> {
        let mut sum = 0;
        for broker in self.brokers() {
            sum += commits(broker).await?;
        }
        Ok(sum)
    }

    fn database(&self) -> Result<Option<Counters>> {
        self.database.as_deref().map(Database::counters).transpose()
    }
}

/// A number that clients share and count down.
#[derive(Debug, Clone)]
pub struct Countdown(Arc<AtomicUsize>);

impl Countdown {
    /// Starts here.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(count)))
    }

    /// The next number, down to 0; then `None`.
    pub fn take(&self) -> Option<usize> {
        let step = |left: usize| left.checked_sub(1);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()?;
        before.checked_sub(1)
    }
}

/// Tokens as the broker makes them, signed here with its key: good ones that it has never seen.
///
/// # Errors
/// When the key can't be read.
pub fn unseen(folder: &Path, like: &str, count: usize) -> Result<Vec<String>> {
    let path = folder.join("signing.key");
    let pem = fs::read_to_string(&path).map_err(Failure::system("read the broker's signing key"))?;
    let key =
        SigningKey::from_pkcs8_pem(pem.trim()).map_err(|error| Failure::Broker(format!("signing key: {error}")))?;
    let header = like.split('.').next().unwrap_or_default();
    let mut claims: Claims = claims(like)?;
    claims.exp = moment::unix_seconds() + Ttl::seconds(3600);
    let mut tokens = Vec::with_capacity(count);
    for number in 0..count {
        claims.jti = format!("{number:032x}").into();
        claims.sid = format!("{:032x}", usize::MAX - number).into();
        let payload = serde_json::to_vec(&claims).map_err(|error| Failure::Broker(format!("claims: {error}")))?;
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
        tokens.push(format!("{message}.{signature}"));
    }
    Ok(tokens)
}

/// Transactions that a broker has committed, as its metrics count them.
async fn commits(broker: &Broker) -> Result<u64> {
    let mut connection = Connection::open(broker.address).await?;
    let answer = connection.send(&request("GET", "/v1/metrics", "", "")).await?;
    let text = String::from_utf8_lossy(answer.body);
    let line = text.lines().find_map(|line| line.strip_prefix(COMMITS));
    line.and_then(|count| count.trim().parse().ok())
        .ok_or_else(|| Failure::Broker(format!("no {COMMITS:?} in /v1/metrics")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_gives_each_number_once() {
        let left = Countdown::new(2);
        assert_eq!((left.take(), left.take(), left.take()), (Some(1), Some(0), None));
    }
}
