//! Faults under load: three replicas of the broker on one PostgreSQL, and what they stand on breaks.
//!
//! Clients keep a ledger of what was confirmed to them, as in [`agentwrit_crash`]. After each fault a broker that was not
//! there before opens the store, and the ledgers are held against what it says: each acknowledged operation is there once,
//! what was under way is there wholly or not at all, and the audit chain verifies. Meanwhile no other refusal is heard than
//! a 503 problem with Retry-After, and the replicas come back without a restart.
#![deny(missing_docs)]

pub mod command_line;
mod disk;
mod faults;
mod outcome;
mod proxy;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use agentwrit_crash::check::Findings;
use agentwrit_testkit::load::failure::Result;

pub use self::faults::upgrade::AS_VERSION;
pub use self::outcome::Outcome;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None: losses made by hand, which the check must find.
    Proof,
    /// kill -9 of a replica.
    KillBroker,
    /// kill -9 of the server.
    KillPostgres,
    /// Connections to the server stall, and are cut.
    Cut,
    /// The file system of the data, or of the write-ahead log, is full.
    DiskFull,
    /// Many want the same at once.
    Races,
    /// How long a revocation takes to the other replicas.
    RevokeDelay,
    /// All replicas are restarted, one by one.
    Rolling,
    /// The signing key changes, at each replica at another moment.
    Rotation,
    /// The clock of one replica jumps.
    Clock,
    /// A backup is put back.
    Restore,
    /// All replicas are replaced by those of a newer version, one by one. It needs a program of three versions, and is no part
    /// of all: `cargo test -p agentwrit-faults --test upgrade`.
    Upgrade,
}

/// All of them but the upgrade, with their names.
const FAULTS: [(&str, Fault); 11] = [
    ("proof", Fault::Proof),
    ("kill-broker", Fault::KillBroker),
    ("kill-postgres", Fault::KillPostgres),
    ("cut", Fault::Cut),
    ("disk-full", Fault::DiskFull),
    ("races", Fault::Races),
    ("revoke-delay", Fault::RevokeDelay),
    ("rolling", Fault::Rolling),
    ("rotation", Fault::Rotation),
    ("clock", Fault::Clock),
    ("restore", Fault::Restore),
];

/// One or all of them, as a person names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// This one.
    One(Fault),
    /// All.
    All,
}

impl Named {
    /// # Errors
    /// The names that there are.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let found = FAULTS.iter().find(|(name, _)| *name == text);
        found.map(|(_, fault)| Self::One(*fault)).ok_or_else(|| {
            let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
            format!("must be all, or of {}", names.join(", "))
        })
    }

    /// Those that are named.
    pub fn each(self) -> Vec<Fault> {
        match self {
            Self::One(fault) => vec![fault],
            Self::All => FAULTS.iter().map(|(_, fault)| *fault).collect(),
        }
    }
}

impl Fault {
    /// As a person names it.
    pub fn name(self) -> &'static str {
        let found = FAULTS.iter().find(|(_, fault)| *fault == self);
        found.map_or("upgrade", |(name, _)| name)
    }

    /// Rounds when nobody says how many: in `make test`, and otherwise.
    const fn rounds(self) -> (u32, u32) {
        match self {
            Self::Proof | Self::Upgrade => (1, 1),
            Self::KillBroker | Self::KillPostgres => (2, 20),
            Self::Cut => (2, 4),
            Self::DiskFull => (2, 10),
            Self::Races => (2, 1000),
            Self::RevokeDelay => (30, 1000),
            Self::Rolling | Self::Rotation => (1, 5),
            Self::Clock => (1, 2),
            Self::Restore => (1, 4),
        }
    }
}

/// How to break it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker's program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<&'static str>,
    /// A new folder.
    pub folder: PathBuf,
    /// The library that gives a broker a clock of its own.
    pub clock: PathBuf,
    /// How often, if not as often as each fault says.
    pub rounds: Option<u32>,
    /// How long connections stall and are cut.
    pub cut: Duration,
    /// Whether there is little time.
    pub short: bool,
    /// What repeats the choices of a run.
    pub seed: u64,
}

impl Options {
    /// How many rounds of a fault.
    pub fn rounds(&self, fault: Fault) -> u32 {
        let (short, long) = fault.rounds();
        self.rounds.unwrap_or(if self.short { short } else { long })
    }
}

/// Who hears what happens.
pub type Progress<'a> = &'a dyn Fn(&str);

/// Breaks it, and says what came of it.
pub async fn break_it(fault: Fault, options: &Options, progress: Progress<'_>) -> Outcome {
    let rounds = options.rounds(fault);
    progress(&format!("{}: {rounds} rounds", fault.name()));
    let done: Result<Outcome> = match fault {
        Fault::Proof => faults::proof::run(options, progress).await,
        Fault::KillBroker => faults::kill_broker::run(options, progress).await,
        Fault::KillPostgres => faults::kill_postgres::run(options, progress).await,
        Fault::Cut => faults::cut::run(options, progress).await,
        Fault::DiskFull => faults::disk_full::run(options, progress).await,
        Fault::Races => faults::races::run(options, progress).await,
        Fault::RevokeDelay => faults::revoke_delay::run(options, progress).await,
        Fault::Rolling => faults::rolling::run(options, progress).await,
        Fault::Rotation => faults::rotation::run(options, progress).await,
        Fault::Clock => faults::clock::run(options, progress).await,
        Fault::Restore => faults::restore::run(options, progress).await,
        Fault::Upgrade => faults::upgrade::run(options, progress).await,
    };
    done.unwrap_or_else(|error| Outcome {
        findings: Findings::one(&error.to_string()),
        ..Outcome::new(fault, rounds)
    })
}
