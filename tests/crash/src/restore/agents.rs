//! Many pods that notice, each by itself, that their tokens no longer count, and register again.
//!
//! Each does what a sidecar does (`sidecar/src/schedule.rs`): it has its token checked every 24 to 29 seconds, tries a
//! renewal when that says no, and then launches and registers; what fails is tried again, later and later.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentwrit_protocol::k8s::PodLaunchResponse;
use agentwrit_protocol::wire::{RegisterResponse, ValidateResponse};
use agentwrit_testkit::load::agent::{challenge, validation};
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use agentwrit_testkit::load::process::{Broker, Settings};
use agentwrit_testkit::{Keys, Pod};
use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cluster::{self, Controller};
use super::report::{Arrival, Report};
use super::{backup, put_back};
use crate::random::seeded;
use crate::run::{Options, Progress, Summary};
use crate::store::{Store, dump, put_back_dump};

/// Between two checks of a token, milliseconds.
const CHECKED: std::ops::Range<u64> = 24_000..29_000;
/// Pauses after failures: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(80);
/// Pods that start in one second at the beginning.
const STARTS: usize = 400;
/// Until all have tokens: at the beginning, and what is promised after a restore.
const PATIENCE: Duration = Duration::from_mins(10);
const PROMISED: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const COPY: &str = "copy.db";

/// How many pods, and how fast their time goes.
#[derive(Debug, Clone, Copy)]
pub struct Pods {
    /// So many.
    pub agents: usize,
    /// All pauses of pods and controller, and what is promised, are so many times shorter.
    pub pace: u32,
}

/// What the pods share.
struct World {
    broker: watch::Receiver<SocketAddr>,
    pace: u32,
    /// The token of each.
    tokens: Mutex<Vec<Option<String>>>,
    /// When registrations were first asked for.
    asked: Mutex<Vec<Instant>>,
    /// Those that were answered.
    arrivals: Mutex<Vec<Arrival>>,
    /// Tokens that the broker has called invalid, and renewals that it has refused.
    rejected: AtomicU64,
    /// What went wrong on the way to a token, and how often.
    failures: Mutex<BTreeMap<String, u64>>,
}

impl World {
    fn has_token(&self, number: usize, token: Option<String>) {
        if let Some(slot) = self.tokens.lock().get_mut(number) {
            *slot = token;
        }
    }

    /// How many have registered since this was last reset.
    fn arrived(&self) -> usize {
        self.arrivals.lock().len()
    }

    async fn all_arrived(&self, agents: usize, within: Duration) -> bool {
        let begun = moment::now();
        while self.arrived() < agents {
            if begun.elapsed() > within {
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        true
    }
}

struct Agent {
    number: usize,
    pod: Pod,
    keys: Keys,
    /// Each pod is a source of its own.
    own: Ipv4Addr,
    random: Rng,
    world: Arc<World>,
}

impl Agent {
    fn new(number: usize, seed: u64, world: Arc<World>) -> Self {
        let wide = u64::try_from(number).unwrap_or_default();
        let [.., high, low] = (wide + 1).to_be_bytes();
        Self {
            number,
            pod: cluster::pod(number),
            keys: Keys::numbered(wide),
            own: Ipv4Addr::new(127, 1, high, low),
            random: seeded(seed, wide),
            world,
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let address = *self.world.broker.borrow();
        Connection::open_from(self.own, address).await
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time / self.world.pace).await;
    }

    async fn live(mut self, begins: Duration) {
        tokio::time::sleep(begins).await;
        loop {
            let token = self.registered().await;
            self.world.has_token(self.number, Some(token.clone()));
            loop {
                let next = self.random.u64(CHECKED);
                self.pause(Duration::from_millis(next)).await;
                // One that can't be asked says nothing of the token.
                if matches!(self.is_refused(&token).await, Ok(true)) {
                    break;
                }
            }
            self.world.rejected.fetch_add(1, Ordering::SeqCst);
            self.world.has_token(self.number, None);
        }
    }

    /// Registers, however often it takes; the token.
    async fn registered(&mut self) -> String {
        let asked = moment::now();
        self.world.asked.lock().push(asked);
        let mut longest = FIRST_PAUSE;
        loop {
            match self.register().await {
                Ok(token) => {
                    let done = moment::now();
                    self.world.arrivals.lock().push(Arrival { asked, done });
                    return token;
                }
                Err(error) => *self.world.failures.lock().entry(kind(&error)).or_default() += 1,
            }
            let half = longest / 2;
            let drawn = half.mul_f64(self.random.f64());
            self.pause(half + drawn).await;
            longest = longest.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    async fn register(&self) -> Result<String> {
        let mut connection = self.connect().await?;
        let body = json!({"policy": self.pod.policy, "public_key": self.keys.public(), "renewal_proof": true});
        let ask = request("POST", "/v1/k8s/launch-tokens", &self.pod.bearer(), &body.to_string());
        let launched: PodLaunchResponse = connection.send(&ask).await?.expect("launch", 201)?;
        let nonce = challenge(&mut connection).await?;
        let ids = json!({
            "orch_id": launched.orch_id, "task_id": launched.task_id,
            "requested_scope": launched.policy.allowed_scope,
        });
        let body = self.keys.registration(launched.launch_token.expose(), &nonce, &ids);
        let ask = request("POST", "/v1/register", "", &body.to_string());
        let registered: RegisterResponse = connection.send(&ask).await?.expect("register", 200)?;
        Ok(registered.access_token.expose().to_owned())
    }

    /// Whether the token no longer counts, and is not renewed either.
    async fn is_refused(&self, token: &str) -> Result<bool> {
        let mut connection = self.connect().await?;
        let answer: ValidateResponse = connection.send(&validation(token)).await?.expect("validate", 200)?;
        if answer.valid {
            return Ok(false);
        }
        let renewed = connection.send(&request("POST", "/v1/token/renew", token, "")).await?;
        if renewed.status != 401 {
            return Err(renewed.unexpected("renewal of a token of before"));
        }
        Ok(true)
    }
}

/// A failure without what differs each time.
fn kind(failure: &Failure) -> String {
    match failure {
        Failure::Answer { what, status, body } => {
            let code = body
                .split_once("\"error_code\":\"")
                .and_then(|(_, rest)| rest.split('"').next());
            format!("{what} {status} {}", code.unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// Has so many pods register, puts a backup back under them, and waits until all have tokens again.
///
/// # Errors
/// When the broker doesn't start, or answers what it must not.
pub async fn pods(options: &Options, pods: Pods, progress: Progress<'_>) -> Result<Summary> {
    let folder = options.folder.join("pods");
    let mut environment = cluster::start(pods.agents, &folder)?;
    let store = Store::new(options.store, &folder);
    environment.push(store.setting());
    let settings = Settings {
        program: options.program.clone(),
        environment,
        folder,
        cores: None,
        arguments: vec![],
    };
    let mut broker = Broker::start(&settings).await?;
    let (address, listens) = watch::channel(broker.address);
    let world = Arc::new(World {
        broker: listens.clone(),
        pace: pods.pace,
        tokens: Mutex::new(vec![None; pods.agents]),
        asked: Mutex::default(),
        arrivals: Mutex::default(),
        rejected: AtomicU64::new(0),
        failures: Mutex::default(),
    });
    let controller = Controller::new(listens);
    controller.push().await?;
    // Ended when this is dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&controller).work(pods.pace));
    for number in 0..pods.agents {
        let begins = Duration::from_secs(1).mul_f64(moment::float(u64::try_from(number / STARTS).unwrap_or_default()));
        tasks.spawn(Agent::new(number, options.seed, Arc::clone(&world)).live(begins));
    }
    if !world.all_arrived(pods.agents, PATIENCE).await {
        return Err(Failure::Broker(format!("only {} pods have tokens", world.arrived())));
    }
    progress(&format!("{} pods have tokens", pods.agents));
    progress(&back_up(&store, &settings).await?);
    // What the copy doesn't know.
    controller.generation.store(2, Ordering::SeqCst);
    controller.push().await?;
    let old: Vec<String> = world.tokens.lock().iter().flatten().cloned().collect();
    broker.kill()?;
    match &store {
        Store::File(folder) => put_back(folder, COPY)?,
        Store::Database(server, name) => put_back_dump(server, name)?,
    }
    world.asked.lock().clear();
    world.arrivals.lock().clear();
    world.rejected.store(0, Ordering::SeqCst);
    world.failures.lock().clear();
    let declared = Settings {
        arguments: vec!["--restored"],
        ..settings.clone()
    };
    let broker = Broker::start(&declared).await?;
    let begun = moment::now();
    address.send_replace(broker.address);
    let in_time = world.all_arrived(pods.agents, PROMISED / pods.pace).await;
    let report = Report::new(
        begun,
        &world.asked.lock(),
        &world.arrivals.lock(),
        &world.failures.lock(),
    );
    report.lines(pods.pace).iter().for_each(|line| progress(line));
    let mut findings = Vec::new();
    if !in_time {
        let (arrived, promised) = (world.arrived(), PROMISED / pods.pace);
        findings.push(format!(
            "only {arrived} of {} pods have tokens after {promised:?}",
            pods.agents
        ));
    }
    let rejected = world.rejected.load(Ordering::SeqCst);
    if in_time && rejected != u64::try_from(pods.agents).unwrap_or_default() {
        findings.push(format!(
            "{rejected} pods were told that their tokens no longer count, not {}",
            pods.agents
        ));
    }
    tokens_are_as_they_must(&broker, &world, &old, &mut findings).await?;
    policies_are_back(&controller, pods.pace, &mut findings).await?;
    drop(tasks);
    broker.stop().await?;
    let mut summary = Summary::default();
    summary.count_texts(&findings, progress);
    Ok(summary)
}

/// Copies the store while the broker runs; what a person is told of it.
async fn back_up(store: &Store, settings: &Settings) -> Result<String> {
    match store {
        Store::File(folder) => {
            let made = backup(&settings.program, folder, COPY).await?;
            let size = made.bytes / 1024;
            Ok(format!(
                "copied {} events, {size} KiB, in {} s",
                made.sequence, made.seconds
            ))
        }
        Store::Database(server, name) => {
            let begun = moment::now();
            let (server, name) = (Arc::clone(server), name.clone());
            // The pods go on meanwhile.
            let dumped = tokio::task::spawn_blocking(move || dump(&server, &name)).await;
            dumped.map_err(|error| Failure::Broker(format!("dump: {error}")))??;
            Ok(format!("dumped in {:.3} s", begun.elapsed().as_secs_f64()))
        }
    }
}

/// Those of before are refused, those of now stand.
async fn tokens_are_as_they_must(
    broker: &Broker,
    world: &World,
    old: &[String],
    findings: &mut Vec<String>,
) -> Result<()> {
    let mut connection = Connection::open(broker.address).await?;
    let new: Vec<String> = world.tokens.lock().iter().flatten().cloned().collect();
    let (mut alive, mut dead) = (0, 0);
    for (token, wanted) in old
        .iter()
        .map(|token| (token, false))
        .chain(new.iter().map(|token| (token, true)))
    {
        let answer: ValidateResponse = connection.send(&validation(token)).await?.expect("validate", 200)?;
        match (answer.valid, wanted) {
            (true, false) => alive += 1,
            (false, true) => dead += 1,
            _ => {}
        }
    }
    if alive > 0 {
        findings.push(format!("{alive} tokens of before stand"));
    }
    if dead > 0 {
        findings.push(format!("{dead} new tokens are refused"));
    }
    Ok(())
}

/// The controller has noticed the new epoch, and what the copy didn't know is there again.
async fn policies_are_back(controller: &Controller, pace: u32, findings: &mut Vec<String>) -> Result<()> {
    let begun = moment::now();
    while controller.pushed_again.load(Ordering::SeqCst) == 0 && begun.elapsed() < PROMISED / pace {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let times = controller.pushed_again.load(Ordering::SeqCst);
    if times != 1 {
        findings.push(format!("the controller has pushed its policies again {times} times"));
    }
    if !controller.has_arrived(2).await? {
        findings.push("the broker lacks the policies that were changed after the copy".to_owned());
    }
    Ok(())
}
