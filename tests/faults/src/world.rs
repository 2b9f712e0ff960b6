//! Three replicas on one database, the clients that load them, and what these know.

mod versions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentwrit_crash::check::{Which, check};
use agentwrit_crash::client::{AGENT_TTL, Access, Client};
use agentwrit_crash::ledger::{End, Ledger};
use agentwrit_crash::line::{Line, Manner, Reply};
use agentwrit_crash::random::seeded;
use agentwrit_crash::trail::Trail;
use agentwrit_protocol::wire::{LaunchTokenResponse, ValidateResponse};
use agentwrit_store_postgres::testing::Server;
use agentwrit_testkit::load::agent::{self, launch_request, validation};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::Connection;
use agentwrit_testkit::load::moment;
use agentwrit_testkit::load::process::{Broker, Settings, free_address};
use fastrand::Rng;
use tokio::task::JoinHandle;

use crate::{Fault, Options, Outcome};

/// Replicas of the broker.
pub(crate) const REPLICAS: usize = 3;
/// Clients under load.
const CLIENTS: usize = 12;
/// How long service may take to return by itself.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a fault may go unfelt: what isn't felt by then proves nothing.
const LONGEST_UNFELT: Duration = Duration::from_secs(30);
/// How long a revocation may take to all replicas.
const HEARD: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Purpose of the generator that chooses moments.
const MOMENTS: u64 = u64::MAX;

/// Three replicas on one database.
pub(crate) struct World {
    pub(crate) server: Server,
    /// Its database.
    pub(crate) database: String,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) admin: String,
    pub(crate) launch: String,
    /// Chooses moments.
    pub(crate) random: Rng,
    /// What came of it so far.
    pub(crate) outcome: Outcome,
    settings: Vec<Settings>,
    auditor: Settings,
    brokers: Vec<Option<Broker>>,
    stop: Arc<AtomicBool>,
    /// Of the clients, while they don't work.
    ledgers: Vec<Ledger>,
    /// Of what the world itself has done.
    pub(crate) own: Ledger,
    trail: Trail,
    seed: u64,
    loads: usize,
    /// Refusals and broken connections before the fault of this round.
    felt: u64,
    /// The same while clients work, since the load of this round began.
    felt_now: Arc<AtomicU64>,
    /// Whether each client has one replica: so what one of them can't do isn't done by the next.
    pub(crate) is_pinned: bool,
}

/// Clients at work.
pub(crate) type Clients = Vec<JoinHandle<Result<Ledger>>>;

/// Runs what blocks, where that holds nobody up.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl World {
    /// On a database of this server, which the brokers reach at the URL that is made of its name. `environment` is asked for
    /// each replica, and last for the broker that checks.
    pub(crate) async fn begin(
        fault: Fault,
        options: &Options,
        server: Server,
        url: impl FnOnce(&Server, &str) -> String,
        environment: impl Fn(usize) -> Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let folder = std::path::absolute(options.folder.join(fault.name()));
        let folder = folder.map_err(Failure::system("find the folder"))?;
        let database = blocking(|| server.database());
        let url = url(&server, &database);
        let settings = |name: String, more: Vec<(&'static str, String)>| {
            let own: PathBuf = folder.join(name);
            let mut environment = vec![
                ("AA_DATABASE_URL", url.clone()),
                ("AA_SIGNING_KEY_PATH", folder.join("signing.key").display().to_string()),
                ("AA_STORE_MARK", own.join("store.mark").display().to_string()),
            ];
            environment.extend(more);
            Settings {
                program: options.program.clone(),
                folder: own,
                cores: None,
                environment,
                arguments: options.arguments.clone(),
            }
        };
        let replicas: Vec<Settings> = (0..REPLICAS)
            .map(|number| settings(format!("replica-{number}"), environment(number)))
            .collect();
        let mut brokers = Vec::new();
        let mut addresses = Vec::new();
        for settings in &replicas {
            let address = free_address()?;
            brokers.push(Some(Broker::start_at(settings, address).await?));
            addresses.push(address);
        }
        let first = addresses.first().copied();
        let mut connection = Connection::open(first.unwrap_or(free_address()?)).await?;
        let admin = agent::login(&mut connection).await?;
        let launch = agent::launch(&mut connection, &admin, false, AGENT_TTL).await?;
        Ok(Self {
            addresses,
            admin,
            launch,
            random: seeded(options.seed, MOMENTS),
            outcome: Outcome::new(fault, options.rounds(fault)),
            auditor: settings("auditor".to_owned(), environment(REPLICAS)),
            settings: replicas,
            brokers,
            database,
            server,
            stop: Arc::default(),
            ledgers: vec![Ledger::default(); CLIENTS],
            own: Ledger::default(),
            trail: Trail::default(),
            seed: options.seed,
            loads: 0,
            felt: 0,
            felt_now: Arc::default(),
            is_pinned: false,
        })
    }

    /// All ledgers, in one order.
    pub(crate) fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        self.ledgers.iter().chain(std::iter::once(&self.own))
    }

    /// Loads the replicas.
    pub(crate) fn load(&mut self, manner: Manner) -> Clients {
        self.stop = Arc::default();
        self.felt_now = Arc::default();
        let access = Access {
            addresses: self.addresses.clone(),
            manner,
            stop: Arc::clone(&self.stop),
            felt: Arc::clone(&self.felt_now),
            admin: self.admin.clone(),
            app: None,
            launch: self.launch.clone(),
            delegation: true,
        };
        let mut clients = Vec::new();
        for (number, ledger) in std::mem::take(&mut self.ledgers).into_iter().enumerate() {
            let purpose = u64::try_from(self.loads * CLIENTS + number).unwrap_or_default();
            let mut access = access.clone();
            if self.is_pinned {
                access.addresses = access.addresses.get(number % REPLICAS).copied().into_iter().collect();
            }
            let client = Client::new(number, access, ledger, seeded(self.seed, purpose));
            clients.push(tokio::spawn(client.work()));
        }
        self.loads += 1;
        clients
    }

    /// Ends the load, and takes the ledgers. A client that got an answer that it must not get is a finding.
    pub(crate) async fn unload(&mut self, clients: Clients) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        for client in clients {
            let done = client
                .await
                .map_err(|error| Failure::Broker(format!("a client: {error}")))?;
            self.ledgers.push(done?);
        }
        Ok(())
    }

    /// For so long, from the earliest to the latest, milliseconds.
    pub(crate) async fn a_while(&mut self, earliest: u64, latest: u64) -> Duration {
        let time = Duration::from_millis(self.random.u64(earliest..latest));
        tokio::time::sleep(time).await;
        time
    }

    /// Waits until a client has noticed something of the fault; on a busy machine that takes a while. When none does,
    /// [`World::must_be_felt`] says so.
    pub(crate) async fn until_felt(&self) {
        let begun = moment::now();
        while self.felt_now.load(Ordering::SeqCst) == 0 && begun.elapsed() < LONGEST_UNFELT {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// kill -9 of a replica.
    pub(crate) fn kill(&mut self, replica: usize) -> Result<()> {
        match self.brokers.get_mut(replica).and_then(Option::take) {
            Some(mut broker) => broker.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM to a replica, and waits for its end with code 0.
    pub(crate) async fn end(&mut self, replica: usize) -> Result<()> {
        match self.brokers.get_mut(replica).and_then(Option::take) {
            Some(broker) => broker.stop().await,
            None => Ok(()),
        }
    }

    /// Starts a replica again, at its address.
    pub(crate) async fn start(&mut self, replica: usize) -> Result<()> {
        let (Some(settings), Some(address)) = (self.settings.get(replica), self.addresses.get(replica)) else {
            return Err(Failure::Broker(format!("no replica {replica}")));
        };
        let broker = Broker::start_at(settings, *address).await?;
        self.brokers.get_mut(replica).map(|slot| slot.replace(broker));
        Ok(())
    }

    /// Waits until every replica commits again; how long that took.
    pub(crate) async fn back(&mut self) -> Result<Duration> {
        let begun = moment::now();
        let mut tasks = Vec::new();
        for address in self.addresses.clone() {
            tasks.push(tokio::spawn(commits(address, self.admin.clone())));
        }
        for task in tasks {
            let ledger = task.await.map_err(|error| Failure::Broker(error.to_string()))??;
            let own = &mut self.own;
            own.launches += ledger.launches;
            own.launches_in_doubt += ledger.launches_in_doubt;
            own.confirmed += ledger.confirmed;
            own.slowest = own.slowest.max(ledger.slowest);
        }
        let took = begun.elapsed();
        self.outcome.back = Some(self.outcome.back.unwrap_or_default().max(took));
        Ok(took)
    }

    /// Holds the ledgers against what a broker says that opens the store now.
    pub(crate) async fn check(&mut self, which: Which) -> Result<usize> {
        let before = self.outcome.findings.count;
        let auditor = self.audit().await?;
        let mut connection = Connection::open(auditor.address).await?;
        self.trail.read(&mut connection, &self.admin).await?;
        let ended = self.ended(which);
        self.ledgers.push(std::mem::take(&mut self.own));
        let checked = check(&mut connection, &self.trail, &mut self.ledgers, which).await;
        self.own = self.ledgers.pop().unwrap_or_default();
        let findings = checked?;
        self.outcome.findings.join(findings);
        if which == Which::All {
            let mut whole = Trail::default();
            whole.read(&mut connection, &self.admin).await?;
            if let Some(text) = self.trail.differs(&whole) {
                self.outcome.findings.add(text);
            }
        }
        auditor.stop().await?;
        self.all_refuse(&ended).await?;
        self.count();
        Ok(self.outcome.findings.count - before)
    }

    /// Clients must have noticed something of the fault of this round, a refusal or an answer that took so long: what nobody
    /// notices proves nothing.
    pub(crate) fn must_be_felt(&mut self, slow: Duration) {
        let felt = self.ledgers().map(|ledger| ledger.refused + ledger.broken).sum();
        let slowest = self.ledgers().map(|ledger| ledger.slowest).max();
        if felt == self.felt && slowest.unwrap_or_default() < slow {
            let text = "no client has noticed anything of the fault: it proves nothing".to_owned();
            self.outcome.findings.add(text);
        }
        self.felt = felt;
    }

    /// No client must have noticed anything since the last round.
    pub(crate) fn must_not_be_felt(&mut self) {
        let felt = self.ledgers().map(|ledger| ledger.refused + ledger.broken).sum();
        if felt > self.felt {
            let text = format!("{} requests were refused or broke", felt - self.felt);
            self.outcome.findings.add(text);
        }
        self.felt = felt;
    }

    /// A broker that was not there before, on the same store.
    pub(crate) async fn audit(&self) -> Result<Broker> {
        // What it remembers of an earlier time would be another check.
        let _ = std::fs::remove_file(self.auditor.folder.join("store.mark"));
        let auditor = Broker::start(&self.auditor).await?;
        if auditor.health().await?.db_connected {
            Ok(auditor)
        } else {
            Err(Failure::Broker("a new broker doesn't open the store".to_owned()))
        }
    }

    /// A broker on another database of the server.
    pub(crate) async fn start_on(&self, database: &str) -> Result<Broker> {
        let mut settings = self.auditor.clone();
        settings.folder.push(database);
        for (name, value) in &mut settings.environment {
            match *name {
                "AA_DATABASE_URL" => *value = self.server.url("owner", database),
                "AA_STORE_MARK" => *value = settings.folder.join("store.mark").display().to_string(),
                _ => {}
            }
        }
        Broker::start(&settings).await
    }

    /// Tokens that are good for nothing any more, as was confirmed.
    fn ended(&self, which: Which) -> Vec<String> {
        let agents = self.ledgers().flat_map(|ledger| &ledger.agents);
        let touched = agents.filter(|agent| which == Which::All || agent.touched);
        let ended = touched.filter(|agent| matches!(agent.end, Some(End::Released | End::Revoked)));
        ended.map(|agent| agent.token.clone()).collect()
    }

    /// Every replica refuses these, a second after the last of them ended.
    async fn all_refuse(&mut self, tokens: &[String]) -> Result<()> {
        for address in self.addresses.clone() {
            let mut connection = Connection::open(address).await?;
            let begun = moment::now();
            for token in tokens {
                while stands(&mut connection, token).await? {
                    if begun.elapsed() > HEARD {
                        let text = format!("replica {address} doesn't refuse a token that was ended a second ago");
                        self.outcome.findings.add(text);
                        break;
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
        Ok(())
    }

    /// Sums up what the clients have heard.
    pub(crate) fn count(&mut self) {
        self.outcome.acknowledged = self.ledgers().map(|ledger| ledger.confirmed).sum();
        self.outcome.refused = self.ledgers().map(|ledger| ledger.refused).sum();
        self.outcome.broken = self.ledgers().map(|ledger| ledger.broken).sum();
        self.outcome.events = self.trail.len();
        // Of the round: the next one begins anew.
        let slowest = self
            .ledgers
            .iter_mut()
            .map(|ledger| std::mem::take(&mut ledger.slowest));
        self.outcome.slowest = slowest.fold(self.outcome.slowest, Duration::max);
    }

    /// A reading of the trail at the first replica.
    pub(crate) async fn whole_trail(&self) -> Result<Trail> {
        let first = self.addresses.first().copied();
        let first = first.ok_or_else(|| Failure::Broker("no replicas".to_owned()))?;
        let mut trail = Trail::default();
        trail.read(&mut Connection::open(first).await?, &self.admin).await?;
        Ok(trail)
    }

    /// Ends all replicas, which must go with code 0.
    pub(crate) async fn finish(mut self) -> Result<Outcome> {
        for replica in 0..REPLICAS {
            self.end(replica).await?;
        }
        Ok(self.outcome)
    }
}

/// Whether a token is called valid.
pub(crate) async fn stands(connection: &mut Connection, token: &str) -> Result<bool> {
    let answer: ValidateResponse = connection.send(&validation(token)).await?.expect("validate", 200)?;
    Ok(answer.valid)
}

/// Commits something at this replica, however often that takes.
async fn commits(address: SocketAddr, admin: String) -> Result<Ledger> {
    let begun = moment::now();
    let mut ledger = Ledger::default();
    loop {
        let mut line = Line::new(&[address], 0, Manner::Ends);
        let sent: Result<Reply> = line.send(&launch_request(&admin, true, AGENT_TTL)).await;
        ledger.heard(line.counts);
        match sent {
            Ok(reply) if reply.status == 503 => {}
            Ok(reply) => {
                let _: LaunchTokenResponse = reply.expect("launch token", 201)?;
                ledger.launches += 1;
                ledger.confirmed += 1;
                return Ok(ledger);
            }
            Err(Failure::Connection(_)) => ledger.launches_in_doubt += 1,
            Err(other) => return Err(other),
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Broker(format!(
                "replica {address} commits nothing {PATIENCE:?} after the fault"
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
