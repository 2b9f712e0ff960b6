//! What happens to pods and broker.

use std::ops::Range;

/// A run: seconds, but where it says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// How many pods.
    pub pods: u32,
    /// Life of a token.
    pub ttl: u64,
    /// The pods start one after the other within this time.
    pub starts_within: u64,
    /// When the broker is away: connections fail. Empty for never.
    pub away: Range<u64>,
    /// Meanwhile it answers 503, as when its store is away.
    pub answers_503: bool,
    /// How many launches in a second the broker can attest; it has no other bound.
    pub launches_a_second: Option<u64>,
    /// The end of the run.
    pub ends: u64,
    /// The steady rate is that of these seconds.
    pub steady: Range<u64>,
    /// Of all randomness.
    pub seed: u64,
}

/// What can be run, in order.
const ALL: [(&str, &str); 10] = [
    ("outage", "the broker is away for five minutes, tokens live 300 s"),
    ("ttl-60", "the broker is away for five minutes, tokens live 60 s"),
    ("ttl-900", "the broker is away for five minutes, tokens live 900 s"),
    ("ttl-3600", "the broker is away for five minutes, tokens live 3600 s"),
    ("store", "the broker answers 503 for five minutes, tokens live 300 s"),
    (
        "busy",
        "the broker is away for five minutes, then attests a hundredth of the pods a second",
    ),
    ("rollout", "the broker is away for 10 s, tokens live 300 s"),
    ("node-pool", "all pods start within a minute, tokens live 300 s"),
    ("cold", "the same, and the broker comes two minutes after the first pod"),
    (
        "cold-60",
        "the same, and the broker comes one minute after the first pod",
    ),
];

impl Scenario {
    /// All, with so many pods.
    pub fn all(pods: u32) -> Vec<Self> {
        ALL.iter().filter_map(|(name, _)| Self::named(name, pods)).collect()
    }

    /// One of them; `None` for a name that there isn't.
    pub fn named(name: &str, pods: u32) -> Option<Self> {
        let (name, what) = *ALL.iter().find(|(known, _)| *known == name)?;
        let mut scenario = match name {
            "ttl-60" => Self::outage(60, 300),
            "ttl-900" => Self::outage(900, 300),
            "ttl-3600" => Self::outage(3_600, 300),
            "rollout" => Self::outage(300, 10),
            "node-pool" => Self::restart(0),
            "cold" => Self::restart(120),
            "cold-60" => Self::restart(60),
            _ => Self::outage(300, 300),
        };
        scenario.answers_503 = name == "store";
        scenario.launches_a_second = (name == "busy").then(|| u64::from(pods).div_ceil(100));
        Some(Self {
            name,
            what,
            pods,
            seed: 1,
            ..scenario
        })
    }

    /// Pods that started over one span between renewals; once they are steady, the broker is away for `seconds`.
    fn outage(ttl: u64, seconds: u64) -> Self {
        let starts_within = (ttl * 4 / 5).max(240);
        let away = starts_within + ttl + 180;
        let back = away + seconds;
        Self {
            ttl,
            starts_within,
            away: away..back,
            ends: back + (ttl * 13 / 10).max(900),
            steady: away - 120..away,
            ..Self::default()
        }
    }

    /// Pods that all start within a minute, and a broker that is away until `back`.
    fn restart(back: u64) -> Self {
        Self {
            ttl: 300,
            starts_within: 60,
            away: 0..back,
            ends: back + 2_400,
            steady: back + 1_800..back + 2_400,
            ..Self::default()
        }
    }

    /// Seconds that are counted as one: with few pods longer, so that chance weighs as much as with 10,000.
    pub fn bin(&self) -> u64 {
        u64::from(10_000 / self.pods.clamp(1, 10_000))
    }
}
