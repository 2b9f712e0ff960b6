//! The rounds, and the proof that the check can fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentwrit_testkit::load::agent;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::process::{Broker, Settings};
use fastrand::Rng;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::check::{Findings, Which, check};
use crate::client::{AGENT_TTL, Access, Client};
use crate::ledger::Ledger;
use crate::line::Manner;
use crate::random::seeded;
use crate::store::{Kind, Store};
use crate::tamper::{TAMPERS, Tamper};
use crate::trail::Trail;

const CLIENTS: usize = 24;
/// The broker dies this long after the clients have begun, milliseconds.
const EARLIEST_MS: usize = 100;
const LATEST_MS: usize = 800;
/// Findings shown of one proof.
const SHOWN: usize = 20;
/// Purpose of the generator that chooses the moments.
const MOMENTS: u64 = u64::MAX;
/// The finding when the broker itself refuses the store.
pub const NOT_OPEN: &str = "the broker did not open the store";

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker's program.
    pub program: PathBuf,
    /// A new folder.
    pub folder: PathBuf,
    /// How often the broker is killed.
    pub rounds: usize,
    /// Which store the broker has.
    pub store: Kind,
    /// What repeats the choices of a run.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Rounds, or proofs, that went as they must.
    pub passed: usize,
    /// The others.
    pub failed: usize,
}

/// Who hears what happens.
pub type Progress<'a> = &'a dyn Fn(&str);

/// A broker that is loaded, and what its clients know.
pub(crate) struct Run {
    settings: Settings,
    store: Store,
    random: Rng,
    seed: u64,
    admin: String,
    app: Option<String>,
    launch: String,
    ledgers: Vec<Ledger>,
    trail: Trail,
}

/// Clients at work.
pub(crate) type Clients = Vec<JoinHandle<Result<Ledger>>>;

#[derive(Deserialize)]
struct App {
    client_id: String,
    client_secret: String,
}

#[derive(Deserialize)]
struct AppToken {
    access_token: String,
}

fn settings(options: &Options, folder: PathBuf, store: &Store) -> Settings {
    Settings {
        program: options.program.clone(),
        folder,
        cores: None,
        // A store that can't open must not be stood in for by memory.
        environment: vec![("AA_STORE_REQUIRED", "true".into()), store.setting()],
        arguments: vec![],
    }
}

/// Kills the broker under load, again and again.
///
/// # Errors
/// When the broker doesn't start, or answers what it must not.
pub async fn rounds(options: &Options, progress: Progress<'_>) -> Result<Summary> {
    let (mut run, mut broker) = Run::begin(options).await?;
    let mut summary = Summary::default();
    for round in 1..=options.rounds {
        let before = run.in_doubt();
        let millis = run.load_and_kill(&mut broker, round).await?;
        let in_doubt = run.in_doubt() - before;
        broker = Broker::start(&run.settings).await?;
        let which = if round == options.rounds {
            Which::All
        } else {
            Which::Touched
        };
        let findings = run.check(&broker, which).await?;
        let confirmed: u64 = run.ledgers.iter().map(|ledger| ledger.confirmed).sum();
        let refused: u64 = run.ledgers.iter().map(|ledger| ledger.refused).sum();
        progress(&format!(
            "round {round}: killed after {millis} ms with {in_doubt} operations under way; so far {confirmed} confirmed, {refused} refused with 503, {} events; {} findings",
            run.trail.len(),
            findings.count
        ));
        summary.count(&findings, progress);
    }
    // From the beginning: what earlier rounds have read must still be there, unchanged.
    let mut whole = Trail::default();
    whole
        .read(&mut Connection::open(broker.address).await?, &run.admin)
        .await?;
    let difference = run.trail.differs(&whole);
    if let Some(text) = difference.as_ref().or(whole.findings().first()) {
        progress(text);
        summary.failed += 1;
    }
    broker.stop().await?;
    Ok(summary)
}

/// Shows that the check finds what it is for: an untouched copy of a killed broker's store has no findings, and each
/// tampered one has.
///
/// # Errors
/// When the broker doesn't start, or answers what it must not.
pub async fn self_test(options: &Options, progress: Progress<'_>) -> Result<Summary> {
    let (mut run, mut broker) = Run::begin(options).await?;
    run.load_and_kill(&mut broker, 1).await?;
    // Once more with a clean end, so that nothing is in doubt any more.
    let broker = Broker::start(&run.settings).await?;
    let findings = run.check(&broker, Which::All).await?;
    let mut summary = Summary::default();
    summary.count(&findings, progress);
    broker.stop().await?;
    for tamper in TAMPERS {
        let folder = options.folder.join(tamper.name);
        copy_folder(&run.settings.folder, &folder)?;
        let store = run.store.copy(&folder);
        (tamper.apply)(&store, &run.ledgers)?;
        let findings = run.check_copy(options, folder, &store).await?;
        summary.proof(tamper, &findings, progress);
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, findings: &Findings, progress: Progress<'_>) {
        if findings.count == 0 {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        for text in &findings.texts {
            progress(&format!("  {text}"));
        }
    }

    /// Counts a proof that has these findings.
    pub(crate) fn count_texts(&mut self, texts: &[String], progress: Progress<'_>) {
        let findings = Findings {
            texts: texts.iter().take(SHOWN).cloned().collect(),
            count: texts.len(),
            ..Findings::default()
        };
        self.count(&findings, progress);
    }

    fn proof(&mut self, tamper: &Tamper, findings: &Findings, progress: Progress<'_>) {
        let is_it = |text: &&String| tamper.found.iter().any(|found| text.contains(found));
        let found = findings.texts.iter().find(is_it);
        if let Some(text) = found {
            self.passed += 1;
            return progress(&format!("{}: found: {text}", tamper.name));
        }
        self.failed += 1;
        progress(&format!(
            "{}: NOT found; {} other findings",
            tamper.name, findings.count
        ));
        for text in &findings.texts {
            progress(&format!("  {text}"));
        }
    }
}

impl Run {
    pub(crate) async fn begin(options: &Options) -> Result<(Self, Broker)> {
        let folder = options.folder.join("broker");
        let store = Store::new(options.store, &folder);
        let settings = settings(options, folder, &store);
        let broker = Broker::start(&settings).await?;
        let mut connection = Connection::open(broker.address).await?;
        let admin = agent::login(&mut connection).await?;
        let launch = agent::launch(&mut connection, &admin, false, AGENT_TTL).await?;
        let app = app_token(&mut connection, &admin).await?;
        let run = Self {
            settings,
            store,
            random: seeded(options.seed, MOMENTS),
            seed: options.seed,
            admin,
            app,
            launch,
            ledgers: vec![Ledger::default(); CLIENTS],
            trail: Trail::default(),
        };
        Ok((run, broker))
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Admin token.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Launch token for any number of registrations.
    pub(crate) fn launch(&self) -> &str {
        &self.launch
    }

    /// What was confirmed to the clients, once they have ended.
    pub(crate) fn ledgers(&self) -> &[Ledger] {
        &self.ledgers
    }

    /// Starts the broker again, with these arguments.
    pub(crate) async fn start_with(&self, arguments: Vec<&'static str>) -> Result<Broker> {
        let settings = Settings {
            arguments,
            ..self.settings.clone()
        };
        Broker::start(&settings).await
    }

    /// Starts a broker on other files.
    pub(crate) async fn start_in(&self, folder: PathBuf) -> Result<Broker> {
        let mut settings = self.settings.clone();
        settings.environment.retain(|(name, _)| *name != self.store.setting().0);
        settings.environment.push(self.store.copy(&folder).setting());
        settings.folder = folder;
        Broker::start(&settings).await
    }

    /// Loads the broker until it dies.
    pub(crate) async fn start_clients(&mut self, broker: &Broker, round: usize) -> Result<Clients> {
        let mut connection = Connection::open(broker.address).await?;
        let probe = connection.send(&request("POST", "/v1/delegate", "", "{}")).await?;
        let access = Access {
            felt: Arc::default(),
            addresses: vec![broker.address],
            manner: Manner::Ends,
            stop: Arc::default(),
            admin: self.admin.clone(),
            app: self.app.clone(),
            launch: self.launch.clone(),
            delegation: probe.status != 404,
        };
        let mut clients = Vec::new();
        for (number, ledger) in std::mem::take(&mut self.ledgers).into_iter().enumerate() {
            let purpose = u64::try_from(round * CLIENTS + number).unwrap_or_default();
            let random = seeded(self.seed, purpose);
            let client = Client::new(number, access.clone(), ledger, random);
            clients.push(tokio::spawn(client.work()));
        }
        Ok(clients)
    }

    /// Waits for the clients of a broker that is dead, and takes their ledgers.
    pub(crate) async fn end_clients(&mut self, clients: Clients) -> Result<()> {
        for client in clients {
            let ledger = client
                .await
                .map_err(|error| Failure::Broker(format!("a client: {error}")))??;
            self.ledgers.push(ledger);
        }
        Ok(())
    }

    /// Loads the broker and kills it at a random moment; returns that moment.
    async fn load_and_kill(&mut self, broker: &mut Broker, round: usize) -> Result<usize> {
        let clients = self.start_clients(broker, round).await?;
        let millis = self.random.usize(EARLIEST_MS..LATEST_MS);
        tokio::time::sleep(Duration::from_millis(u64::try_from(millis).unwrap_or_default())).await;
        broker.kill()?;
        self.end_clients(clients).await?;
        Ok(millis)
    }

    fn in_doubt(&self) -> u64 {
        self.ledgers.iter().map(Ledger::in_doubt).sum()
    }

    async fn check(&mut self, broker: &Broker, which: Which) -> Result<Findings> {
        if !broker.health().await?.db_connected {
            return Ok(Findings::one(NOT_OPEN));
        }
        let mut connection = Connection::open(broker.address).await?;
        self.trail.read(&mut connection, &self.admin).await?;
        check(&mut connection, &self.trail, &mut self.ledgers, which).await
    }

    /// Checks a broker on a copy of the store, with copies of the ledgers.
    async fn check_copy(&self, options: &Options, folder: PathBuf, store: &Store) -> Result<Findings> {
        let broker = Broker::start(&settings(options, folder, store)).await?;
        if !broker.health().await?.db_connected {
            return Ok(Findings::one(NOT_OPEN));
        }
        let mut connection = Connection::open(broker.address).await?;
        let mut trail = Trail::default();
        trail.read(&mut connection, &self.admin).await?;
        let mut ledgers = self.ledgers.clone();
        check(&mut connection, &trail, &mut ledgers, Which::All).await
    }
}

/// An app's token, on brokers that have apps.
async fn app_token(connection: &mut Connection, admin: &str) -> Result<Option<String>> {
    let body = format!(r#"{{"name":"load","scopes":["{}"],"token_ttl":86400}}"#, agent::ALLOWED);
    let answer = connection
        .send(&request("POST", "/v1/admin/apps", admin, &body))
        .await?;
    if answer.status == 404 {
        return Ok(None);
    }
    let app: App = answer.expect("app registration", 201)?;
    let body = format!(
        r#"{{"client_id":"{}","client_secret":"{}"}}"#,
        app.client_id, app.client_secret
    );
    let answer = connection.send(&request("POST", "/v1/app/auth", "", &body)).await?;
    let granted: AppToken = answer.expect("app login", 200)?;
    Ok(Some(granted.access_token))
}

/// Copies the files of a stopped broker.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let failed = |error| Failure::System {
        what: format!("copy {} to {}", from.display(), to.display()),
        source: error,
    };
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
        }
    }
    Ok(())
}
