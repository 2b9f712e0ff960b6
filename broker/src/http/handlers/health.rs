//! Health and readiness.

use std::sync::atomic::Ordering;
use std::time::Duration;

use agentwrit_protocol::wall_clock::{disagreement, is_wrong};
use agentwrit_protocol::wire::{HealthResponse, WIRE_VERSION};
use agentwrit_store::{DiskSpace, StoreError};
use serde::Serialize;

use crate::broker::Broker;

/// What `/v1/health` says, always with 200.
pub fn health(broker: &Broker) -> HealthResponse {
    let uptime = broker.clock.monotonic().saturating_sub(broker.started);
    HealthResponse {
        status: "ok".to_owned(),
        version: WIRE_VERSION.to_owned(),
        uptime: i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX),
        db_connected: broker.store.persistent() && broker.store.connected(),
        audit_events_count: broker.store.event_count(),
    }
}

/// What `/readyz` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// `ready`, `degraded` (it answers, but some calls are refused) or `unready`.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(ready|degraded|unready)$", examples("ready"))
    )]
    pub status: &'static str,
    /// The product's version.
    #[cfg_attr(feature = "openapi", schema(examples("0.1.0")))]
    pub version: &'static str,
    /// What is failing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<Failing>,
    /// What will fail soon.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Failing>,
    /// The disk of the store; absent for a store in memory.
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

impl Readiness {
    /// Whether it should get requests: a broker whose disk is full still validates and revokes.
    pub fn serves(&self) -> bool {
        self.status != UNREADY
    }
}

/// Room on the disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = DiskRoom))]
pub struct Disk {
    /// Bytes that are left.
    pub free_bytes: u64,
    /// Bytes beside them that are kept for what takes authority away.
    pub reserve_bytes: u64,
}

const UNREADY: &str = "unready";

/// A dependency that fails, or will soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = FailingDependency))]
pub struct Failing {
    /// `store`, `clock`, `signing_key` or `revocation_feed`, or `process` when it is on its way to its end.
    pub dependency: &'static str,
    /// A word; never a driver's text.
    pub reason: &'static str,
    /// Both times when it is the clock, the bytes that are left when it is the disk.
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What the disk lets the broker do.
fn of_disk(room: DiskSpace) -> Failing {
    let left = format!("{} bytes are free beside a reserve of {}", room.free, room.reserve);
    let (reason, detail) = if room.full {
        (
            "disk_full",
            format!("{left}: only what takes authority away is written"),
        )
    } else {
        (
            "disk_nearly_full",
            format!("{left}: denials of strangers are only counted"),
        )
    };
    Failing {
        dependency: "store",
        reason,
        detail: Some(detail),
    }
}

/// What a feed that is cut means.
fn of_feed(age: Duration) -> String {
    let asks = "each request asks the store whether its token is revoked";
    if age == Duration::MAX {
        return format!("the revocation view was never loaded: {asks}");
    }
    let tenths = age.as_millis() / 100;
    format!("the revocation view is {}.{} s old: {asks}", tenths / 10, tenths % 10)
}

/// Whether the broker can do all of its work.
pub fn readiness(broker: &Broker) -> Readiness {
    let store = broker.store.failure().map(|reason| Failing {
        dependency: "store",
        reason,
        detail: broker.store.failure_advice().map(str::to_owned),
    });
    let times = broker.judging.times();
    let min_iat = broker.tokens.view.min_iat();
    let clock = is_wrong(times, min_iat).then(|| Failing {
        dependency: "clock",
        reason: "clock",
        detail: Some(disagreement(times, min_iat)),
    });
    let skew = broker.clock_skew().map(|detail| Failing {
        dependency: "clock",
        reason: "skew",
        detail: Some(detail),
    });
    let stopping = broker.stopping.load(Ordering::SeqCst).then_some(Failing {
        dependency: "process",
        reason: "stopping",
        detail: None,
    });
    let key = (!broker.tokens.keys.can_sign()).then(|| Failing {
        dependency: "signing_key",
        reason: "not_held",
        detail: Some(StoreError::SigningKey.to_string()),
    });
    let feed = broker.store.view_age().filter(|_| store.is_none()).map(|age| Failing {
        dependency: "revocation_feed",
        reason: "stale",
        detail: Some(of_feed(age)),
    });
    let checks = [stopping, store, clock, skew, key, feed];
    let mut failing: Vec<Failing> = checks.into_iter().flatten().collect();
    let room = broker.store.disk_space();
    let disk = |full: bool| room.filter(|room| room.scarce && room.full == full).map(of_disk);
    let trail = broker.store.refuses().then(|| Failing {
        dependency: "store",
        reason: StoreError::AuditFull.kind(),
        detail: Some(StoreError::AuditFull.to_string()),
    });
    let refusing: Vec<Failing> = disk(true).into_iter().chain(trail).collect();
    let status = match (failing.is_empty(), refusing.is_empty()) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => UNREADY,
    };
    failing.extend(refusing);
    Readiness {
        status,
        version: env!("CARGO_PKG_VERSION"),
        failing,
        warnings: disk(false).into_iter().collect(),
        disk: room.map(|room| Disk {
            free_bytes: room.free,
            reserve_bytes: room.reserve,
        }),
    }
}
