//! The signing key changes under load, and each replica gets the file of the new key at another moment: no request fails,
//! and the tokens of both keys are good at every replica.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_crash::ledger::Agent;
use agentwrit_crash::line::Manner;
use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::{Value, json};

use super::{by_socket, server, which};
use crate::world::{REPLICAS, World, stands};
use crate::{Fault, Options, Outcome, Progress};

/// How long a key is published before it signs, seconds. A replica whose file is late has as long again.
const PUBLISH_SECONDS: u64 = 3;
/// When the later replicas get the file: before the key signs, and after. Milliseconds since it was published.
const LATE: [(u64, u64); REPLICAS - 1] = [(200, 2_500), (3_200, 5_000)];
/// How long a replica may take to sign with the new key once it has it and the time has come.
const TAKEN_UP: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Tokens of each key that every replica is asked about.
const ASKED: usize = 40;
/// What a PKCS#8 file of an Ed25519 key begins with; the 32 bytes of the key follow (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The folders of keys: one of each replica, and the auditor's.
struct Folders(Vec<PathBuf>);

impl Folders {
    fn new(base: &Path) -> Result<Self> {
        let folders: Vec<PathBuf> = (0..=REPLICAS)
            .map(|number| base.join(format!("keys-{number}")))
            .collect();
        for folder in &folders {
            std::fs::create_dir_all(folder).map_err(Failure::system("make a folder of keys"))?;
        }
        Ok(Self(folders))
    }

    /// What a broker is told of its folder.
    fn path(&self, number: usize) -> String {
        let folder = self.0.get(number).map(|folder| folder.display().to_string());
        folder.unwrap_or_default() + "/"
    }

    /// A file appears at once as a whole, as in a mounted Secret.
    fn put(&self, number: usize, name: &str, pem: &str) -> Result<()> {
        let folder = self.0.get(number);
        let folder = folder.ok_or_else(|| Failure::Broker(format!("no folder {number}")))?;
        let hidden = folder.join(format!(".{name}"));
        std::fs::write(&hidden, pem).map_err(Failure::system("write a key"))?;
        std::fs::rename(&hidden, folder.join(name)).map_err(Failure::system("write a key"))
    }
}

/// The file of a new key.
fn new_key(random: &mut Rng) -> String {
    let mut bytes = PKCS8.to_vec();
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(32));
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(bytes)
    )
}

pub(crate) async fn run(options: &Options, progress: Progress<'_>) -> Result<Outcome> {
    let fault = Fault::Rotation;
    let base = std::path::absolute(options.folder.join(fault.name())).map_err(Failure::system("find a folder"))?;
    let folders = Folders::new(&base)?;
    let mut keys = agentwrit_crash::random::seeded(options.seed, 1);
    let first = new_key(&mut keys);
    for number in 0..=REPLICAS {
        folders.put(number, "first.key", &first)?;
    }
    let environment = |number: usize| {
        vec![
            ("AA_SIGNING_KEY_PATH", folders.path(number)),
            ("AA_KEY_PUBLISH_SECONDS", PUBLISH_SECONDS.to_string()),
        ]
    };
    let mut world = World::begin(fault, options, server(), by_socket, environment).await?;
    let rounds = options.rounds(fault);
    let mut kid = signer(&mut world, 0).await?;
    for round in 1..=rounds {
        let clients = world.load(Manner::Doubts);
        world.a_while(200, 500).await;
        let new = rotate(&mut world, &folders, round, &new_key(&mut keys), &kid).await?;
        world.a_while(200, 500).await;
        world.unload(clients).await?;
        world.must_not_be_felt();
        let asked = good_everywhere(&mut world, [&kid, &new]).await?;
        kid = new;
        let findings = world.check(which(round, rounds)).await?;
        progress(&format!(
            "rotation: round {round}: another key signs at {REPLICAS} replicas, {asked} tokens asked about at each, {findings} findings"
        ));
    }
    let figures = json!({"rotations": rounds});
    world.outcome.notes.push(("no request failed".to_owned(), figures));
    world.finish().await
}

/// Brings a new key to one replica after the other, and waits until all sign with it; its id.
async fn rotate(world: &mut World, folders: &Folders, round: u32, pem: &str, before: &str) -> Result<String> {
    let name = format!("key-{round}.key");
    let mut order: Vec<usize> = (0..REPLICAS).collect();
    world.random.shuffle(&mut order);
    let mut rest = order.into_iter();
    for number in rest.next().into_iter().chain([REPLICAS]) {
        folders.put(number, &name, pem)?;
    }
    let published = moment::now();
    for (number, (earliest, latest)) in rest.zip(LATE) {
        let due = Duration::from_millis(world.random.u64(earliest..latest));
        tokio::time::sleep(due.saturating_sub(published.elapsed())).await;
        folders.put(number, &name, pem)?;
    }
    let mut all = Vec::new();
    for number in 0..REPLICAS {
        loop {
            let kid = signer(world, number).await?;
            if kid != before {
                all.push(kid);
                break;
            }
            if published.elapsed() > Duration::from_secs(2 * PUBLISH_SECONDS) + TAKEN_UP {
                return Err(Failure::Broker(format!(
                    "replica {number} doesn't sign with the new key"
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    all.dedup();
    match all.as_slice() {
        [kid] => Ok(kid.clone()),
        _ => Err(Failure::Broker(format!("the replicas sign with {} keys", all.len()))),
    }
}

/// Id of the key with which this replica signs what it issues now.
async fn signer(world: &mut World, replica: usize) -> Result<String> {
    let address = world.addresses.get(replica).copied();
    let address = address.ok_or_else(|| Failure::Broker(format!("no replica {replica}")))?;
    let mut connection = Connection::open(address).await?;
    let listed = connection
        .send(&request("GET", "/v1/admin/keys", &world.admin, ""))
        .await?;
    let listed: Value = listed.expect("keys", 200)?;
    let keys = listed
        .get("keys")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    // Whoever has not got the key that signs goes on with the one before.
    let signs = |key: &&Value| matches!(text(key, "state"), Some("active" | "previous"));
    let held = keys.iter().filter(|key| key.get("held") == Some(&Value::Bool(true)));
    let newest = held.filter(signs).max_by_key(|key| text(key, "signs_from"));
    let kid = newest.and_then(|key| text(key, "kid"));
    kid.map(str::to_owned)
        .ok_or_else(|| Failure::Broker(format!("replica {replica} has no key that signs")))
}

/// Asks every replica about tokens of each key; how many.
async fn good_everywhere(world: &mut World, kids: [&str; 2]) -> Result<usize> {
    let mut tokens = Vec::new();
    for kid in kids {
        let living = world
            .ledgers()
            .flat_map(|ledger| &ledger.agents)
            .filter(|agent| is_sure(agent));
        let of_it = living
            .map(|agent| &agent.token)
            .filter(|token| kid_of(token).as_deref() == Some(kid));
        let of_it: Vec<String> = of_it.take(ASKED).cloned().collect();
        if of_it.is_empty() {
            let text = format!("no living token is signed with {kid}: nothing is proven of it");
            world.outcome.findings.add(text);
        }
        tokens.extend(of_it);
    }
    for address in world.addresses.clone() {
        let mut connection = Connection::open(address).await?;
        for token in &tokens {
            if !stands(&mut connection, token).await? {
                let text = format!(
                    "replica {address} refuses a token of {}",
                    kid_of(token).unwrap_or_default()
                );
                world.outcome.findings.add(text);
            }
        }
    }
    Ok(tokens.len())
}

fn is_sure(agent: &Agent) -> bool {
    agent.lives() && agent.doubt.is_none()
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

/// The key that a token names.
fn kid_of(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    text(&header, "kid").map(str::to_owned)
}
