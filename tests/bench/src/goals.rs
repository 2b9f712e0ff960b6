//! The goals of the broker's speed, as data, and how a figure is held against them.

use serde::Serialize;

use crate::baseline::{Beside, Rate};
use crate::measure::Sample;

/// What a figure is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Yardstick {
    /// What so many verifications and signatures alone would allow.
    Signatures {
        /// Verifications an operation.
        verifies: u32,
        /// Signatures an operation.
        signs: u32,
    },
    /// The empty POST route.
    EmptyRoute,
    /// One fsync after the other.
    Fsync,
}

impl Yardstick {
    /// Its rate a second, by the wall clock and by CPU time.
    pub fn rate(self, beside: &Beside) -> Rate {
        let raw = &beside.raw;
        match self {
            Self::Signatures { verifies, signs } => {
                let alone = |verify: f64, sign: f64| 1.0 / (f64::from(verifies) / verify + f64::from(signs) / sign);
                Rate {
                    wall: alone(raw.verify().wall, raw.sign().wall),
                    cpu: alone(raw.verify().cpu, raw.sign().cpu),
                }
            }
            Self::EmptyRoute => Rate {
                wall: beside.empty.per_second,
                cpu: 1e6 / beside.empty.server_cpu_us,
            },
            Self::Fsync => raw.fsync,
        }
    }

    /// For people.
    pub fn label(self) -> String {
        match self {
            Self::Signatures { verifies: 0, signs } => format!("{signs} sign"),
            Self::Signatures { verifies, signs: 0 } => format!("{verifies} verify"),
            Self::Signatures { verifies, signs } => format!("{verifies} verify + {signs} sign"),
            Self::EmptyRoute => "empty route".into(),
            Self::Fsync => "fsync".into(),
        }
    }
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At least this share of the yardstick.
    Share(f64),
    /// p99 at most so many times p50.
    Tail(f64),
    /// At least so many a second.
    Rate(f64),
    /// At least so many operations share a commit: not bound by single fsyncs.
    PerCommit(f64),
}

impl Goal {
    /// For people.
    pub fn label(self) -> String {
        match self {
            Self::Share(share) => format!("{:.0} %", share * 100.0),
            Self::Tail(times) => format!("p99/p50 {times:.0}"),
            Self::Rate(rate) => format!("{rate:.0}/s"),
            Self::PerCommit(count) => format!("{count:.0} a commit"),
        }
    }

    /// Whether a sample meets it.
    pub fn met(self, sample: &Sample, yardstick: Rate) -> bool {
        match self {
            Self::Share(share) => sample.per_second >= share * yardstick.wall,
            Self::Tail(times) => f64::from(sample.p99_us) <= times * f64::from(sample.p50_us),
            Self::Rate(rate) => sample.per_second >= rate,
            Self::PerCommit(count) => sample.per_commit >= count,
        }
    }
}

/// Clients at which the goals are meant.
pub const GOAL_CLIENTS: usize = 64;

/// One operation: its yardstick, and its goals at [`GOAL_CLIENTS`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Target {
    /// As on the command line and in the table.
    pub operation: Operation,
    /// What it is a share of.
    pub yardstick: Yardstick,
    /// What must hold.
    pub goals: &'static [Goal],
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Challenge and registration with a launch token for many.
    Register,
    /// Single-use launch token, challenge, registration.
    LaunchRegister,
    /// Renewal of a token.
    Renew,
    /// Delegation by one agent to another.
    Delegate,
    /// Revocation of a token by an admin.
    Revoke,
    /// Validation of tokens that were never seen before.
    ValidateNew,
    /// Validation of 1,000 tokens in rotation.
    ValidateRepeated,
    /// The first 100 of 50,000 events.
    Audit,
    /// The first 100 of 25,000 of one type among 50,000.
    AuditByType,
    /// The events of one agent among 50,000.
    AuditByAgent,
}

impl Operation {
    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::LaunchRegister => "launch token + register",
            Self::Renew => "renew",
            Self::Delegate => "delegate",
            Self::Revoke => "revoke",
            Self::ValidateNew => "validate, new tokens",
            Self::ValidateRepeated => "validate, 1,000 tokens",
            Self::Audit => "audit, 100 of 50k",
            Self::AuditByType => "audit, event_type",
            Self::AuditByAgent => "audit, agent_id",
        }
    }
}

const fn signatures(verifies: u32, signs: u32) -> Yardstick {
    Yardstick::Signatures { verifies, signs }
}

const fn target(operation: Operation, yardstick: Yardstick, goals: &'static [Goal]) -> Target {
    Target {
        operation,
        yardstick,
        goals,
    }
}

/// Every operation, in the order of the table.
///
/// The yardstick is the signature work of an operation as the contract describes it, whether a broker does it or knows the
/// outcome already: a renewal verifies its bearer and signs a token, a delegation verifies its bearer and signs a record
/// and a token.
pub const TARGETS: [Target; 10] = [
    target(
        Operation::Register,
        signatures(1, 1),
        &[Goal::Share(0.30), Goal::Tail(4.0)],
    ),
    target(Operation::LaunchRegister, signatures(1, 1), &[]),
    target(
        Operation::Renew,
        signatures(1, 1),
        &[Goal::Share(0.40), Goal::Tail(4.0)],
    ),
    target(Operation::Delegate, signatures(1, 2), &[Goal::Share(0.30)]),
    target(Operation::Revoke, Yardstick::Fsync, &[Goal::PerCommit(8.0)]),
    target(Operation::ValidateNew, signatures(1, 0), &[Goal::Share(0.60)]),
    target(Operation::ValidateRepeated, Yardstick::EmptyRoute, &[Goal::Share(0.70)]),
    target(Operation::Audit, Yardstick::EmptyRoute, &[Goal::Rate(2000.0)]),
    target(Operation::AuditByType, Yardstick::EmptyRoute, &[Goal::Rate(2000.0)]),
    target(Operation::AuditByAgent, Yardstick::EmptyRoute, &[Goal::Rate(2000.0)]),
];

/// Longest start, whatever the history, milliseconds.
pub const START_MS: f64 = 100.0;
/// Resident memory of a broker that has done nothing yet, KiB.
pub const IDLE_KIB: u64 = 12 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Raw;

    fn sample(per_second: f64, p50_us: u32, p99_us: u32, per_commit: f64) -> Sample {
        Sample {
            clients: 64,
            operations: 1,
            per_second,
            p50_us,
            p99_us,
            server_cpu_us: 10.0,
            server_core: 1.0,
            client_core: 0.5,
            disk_kib: 0.0,
            per_commit,
            database: None,
        }
    }

    fn beside() -> Beside {
        let rate = |wall: f64| Rate { wall, cpu: wall };
        let raw = Raw {
            sign_aws: rate(60.0),
            verify_aws: rate(20.0),
            sign_dalek: rate(50.0),
            verify_dalek: rate(30.0),
            fsync: rate(5.0),
            ..Raw::default()
        };
        Beside {
            raw,
            empty: sample(80.0, 1, 1, 0.0),
        }
    }

    #[test]
    fn a_yardstick_is_what_the_better_library_would_allow() {
        let rate = |yardstick: Yardstick| yardstick.rate(&beside()).wall;
        assert!((rate(signatures(1, 1)) - 20.0).abs() < 1e-9, "1 / (1/30 + 1/60)");
        assert!((rate(signatures(0, 2)) - 30.0).abs() < 1e-9);
        assert!((rate(Yardstick::EmptyRoute) - 80.0).abs() < 1e-9);
        assert!((rate(Yardstick::Fsync) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn goals_are_met_at_their_bound_and_missed_beyond_it() {
        let yardstick = Rate { wall: 20.0, cpu: 20.0 };
        let table = [
            (Goal::Share(0.3), sample(6.0, 1, 1, 0.0), true),
            (Goal::Share(0.3), sample(5.9, 1, 1, 0.0), false),
            (Goal::Tail(4.0), sample(1.0, 10, 40, 0.0), true),
            (Goal::Tail(4.0), sample(1.0, 10, 41, 0.0), false),
            (Goal::Rate(2000.0), sample(2000.0, 1, 1, 0.0), true),
            (Goal::Rate(2000.0), sample(1999.0, 1, 1, 0.0), false),
            (Goal::PerCommit(8.0), sample(1.0, 1, 1, 8.0), true),
            (Goal::PerCommit(8.0), sample(1.0, 1, 1, 7.9), false),
        ];
        for (goal, sample, met) in table {
            assert_eq!(goal.met(&sample, yardstick), met, "{goal:?}");
        }
    }
}
