//! Rate limits (token buckets of the governor crate, on the broker's clock) and what is done about denials.
#![deny(missing_docs)]

mod buckets;
mod divided;
mod gate;
mod limit;
mod sessions;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{Clock, PodUid, SessionId};
use agentwrit_server::Source;
use agentwrit_store::{DenialDraft, DenialGate, EventDraft};
use governor::Quota;
use prometheus::IntCounter;

use self::gate::Gate;
use self::limit::Limit;
use self::sessions::Sessions;
pub use self::sessions::{Place, SessionAction};
pub use agentwrit_store::Asker;

const ADMIN_AUTH_PER_SECOND: u32 = 5;
const ADMIN_AUTH_BURST: u32 = 10;
/// Ten logins a minute for each client.
const APP_AUTH_EVERY: Duration = Duration::from_secs(6);
const APP_AUTH_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
/// Of one source whatever the clients: many apps may share an address, and what costs is bounded elsewhere.
const APP_AUTH_PER_SECOND: u32 = 10;
const APP_AUTH_SOURCE_BURST: u32 = 50;
/// `TokenReview`s of one source: one each 50 ms, and as many at once as a node has pods to start.
const REVIEWS_PER_SECOND: u32 = 20;
const REVIEWS_BURST: u32 = 250;
/// One audited rate-limit hit for each source and endpoint in this time.
const HITS_EVERY: Duration = Duration::from_secs(10);

/// So many a second, so many at once; `None` (no limit) when either is 0.
fn per_second(rate: u32, burst: u32) -> Option<Quota> {
    let (rate, burst) = NonZeroU32::new(rate).zip(NonZeroU32::new(burst))?;
    Some(Quota::per_second(rate).allow_burst(burst))
}

/// The limits that can be set; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Challenges of one source in a second.
    pub challenge_rate: u32,
    /// Registrations of one source in a second.
    pub register_rate: u32,
    /// Denials of one source, or one subject, that are audited in a second.
    pub denial_audit_rate: u32,
    /// Renewals, and delegations, of one session in a second; not of attested agents.
    pub session_rate: u32,
    /// Delegations that stand under one session; not of attested agents.
    pub max_open_delegations: usize,
}

/// Every limit of the broker.
pub struct Limits {
    admin_auth: Limit,
    app_auth: Limit,
    app_auth_source: Limit,
    challenge: Limit,
    register: Limit,
    reviews: Limit,
    gate: Gate,
    hits: Limit,
    sessions: Sessions,
}

impl Limits {
    /// The limits that the settings ask for. `suppressed` counts the denials that the trail holds only as a number.
    pub fn new(settings: &Settings, clock: &Arc<dyn Clock>, suppressed: IntCounter) -> Self {
        let twice = |rate: u32| rate.saturating_mul(2);
        let denials = per_second(settings.denial_audit_rate, settings.denial_audit_rate);
        Self {
            admin_auth: Limit::new(per_second(ADMIN_AUTH_PER_SECOND, ADMIN_AUTH_BURST), clock),
            app_auth: Limit::new(
                Quota::with_period(APP_AUTH_EVERY).map(|quota| quota.allow_burst(APP_AUTH_BURST)),
                clock,
            ),
            app_auth_source: Limit::new(per_second(APP_AUTH_PER_SECOND, APP_AUTH_SOURCE_BURST), clock),
            challenge: Limit::new(
                per_second(settings.challenge_rate, twice(settings.challenge_rate)),
                clock,
            ),
            register: Limit::new(per_second(settings.register_rate, twice(settings.register_rate)), clock),
            reviews: Limit::new(per_second(REVIEWS_PER_SECOND, REVIEWS_BURST), clock),
            gate: Gate::new(denials, clock, suppressed),
            sessions: Sessions::new(settings, clock),
            hits: Limit::new(Quota::with_period(HITS_EVERY), clock),
        }
    }

    /// Whether this source may try another admin login now.
    pub fn admin_auth(&self, source: IpAddr) -> bool {
        self.admin_auth.allows(Source::of(source))
    }

    /// Whether this client, or a source that names none, may try another app login now.
    pub fn app_auth(&self, client_id: Option<&str>, source: IpAddr) -> bool {
        let source = client_id.is_none().then(|| Source::of(source));
        self.app_auth.allows((client_id, source))
    }

    /// Whether this source may try another app login now, whichever the client.
    pub fn app_auth_source(&self, source: IpAddr) -> bool {
        self.app_auth_source.allows(Source::of(source))
    }

    /// Whether this source may have another challenge now.
    pub fn challenge(&self, source: IpAddr) -> bool {
        self.challenge.allows(Source::of(source))
    }

    /// Whether this source may try another registration now.
    pub fn register(&self, source: IpAddr) -> bool {
        self.register.allows(Source::of(source))
    }

    /// Whether another `TokenReview` may be made for this source now.
    pub fn review(&self, source: Source) -> bool {
        self.reviews.allows(source)
    }

    /// The event of a denial; `None` when this asker has had so many of late that it is only counted.
    pub fn pass(&self, asker: Asker<'_>, denial: DenialDraft) -> Option<EventDraft> {
        denial.through(self, asker)
    }

    /// Whether a 429 to this source at this endpoint is audited. The others are no suppressed denials: that there are
    /// more of them is what the one in the trail says.
    pub fn audits_hit(&self, source: IpAddr, path: &str) -> bool {
        self.hits.allows((Source::of(source), path))
    }

    /// Counts one against the rate that the bearer of a verified token has for this action.
    ///
    /// # Errors
    /// When the rate is used up: in how many seconds the bearer may try again.
    pub fn check_rate(&self, action: SessionAction, bearer: &Claims) -> Result<(), u32> {
        self.sessions.check_rate(action, bearer)
    }

    /// How many delegations may stand under the session of a bearer; `None` for any number.
    pub fn most_open(&self, bearer: &Claims) -> Option<usize> {
        self.sessions.most_open(bearer)
    }

    /// The delegation by the session itself that a bearer descends from, and how many may stand below it; `None` for
    /// as many as under the session.
    pub fn most_below<'b>(&self, bearer: &'b Claims) -> Option<(&'b SessionId, usize)> {
        self.sessions.most_below(bearer)
    }

    /// Takes a place for a delegation under this session, or below this delegation.
    pub fn take_place(&self, root: &SessionId) -> Place {
        self.sessions.open_delegations().take(root)
    }

    /// Remembers how many places under this session a count has found.
    pub fn set_places_left(&self, root: &SessionId, left: usize) {
        self.sessions.open_delegations().set_left(root, left);
    }

    /// Counts a denial that the trail will hold only as a number.
    pub fn suppress(&self) {
        self.gate.suppress();
    }

    /// How many denials were counted since the last call, and the event that says so; `None` for none.
    pub fn take_suppressed(&self) -> Option<(u64, EventDraft)> {
        self.gate.take_suppressed()
    }

    /// Counts those again whose event could not be written.
    pub fn restore_suppressed(&self, suppressed: u64) {
        self.gate.restore_suppressed(suppressed);
    }

    /// Forgets whose buckets are full again.
    pub fn prune(&self) {
        for limit in [
            &self.admin_auth,
            &self.app_auth,
            &self.app_auth_source,
            &self.challenge,
            &self.register,
            &self.reviews,
            &self.hits,
        ] {
            limit.prune();
        }
        self.gate.prune();
        self.sessions.prune();
    }
}

impl DenialGate for Limits {
    fn admits(&self, asker: Asker<'_>) -> bool {
        self.gate.admits(asker)
    }

    fn feeds(&self, pod_uid: &PodUid) -> bool {
        self.gate.feeds(pod_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::audit::EventType;
    use agentwrit_protocol::clock::ManualClock;

    const SETTINGS: Settings = Settings {
        challenge_rate: 1000,
        register_rate: 1000,
        denial_audit_rate: 1000,
        session_rate: 0,
        max_open_delegations: 10_000,
    };

    fn limits(settings: &Settings, clock: &Arc<dyn Clock>) -> Limits {
        Limits::new(settings, clock, IntCounter::new("suppressed", "suppressed").unwrap())
    }

    #[test]
    fn the_addresses_of_one_network_share_a_bucket() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let limits = limits(
            &Settings {
                challenge_rate: 1,
                ..SETTINGS
            },
            &clock,
        );
        let allowed = |text: &str| limits.challenge(text.parse().unwrap());
        assert!(allowed("2001:db8::1") && allowed("2001:db8::2"));
        assert!(!allowed("2001:db8::3"));
        assert!(allowed("2001:db8:0:1::1"));
        assert!(allowed("192.0.2.1") && allowed("192.0.2.1") && !allowed("192.0.2.1"));
        assert!(allowed("192.0.2.2"));
    }

    #[test]
    fn app_logins_are_limited_by_client_and_by_source() {
        let manual = Arc::new(ManualClock::at(0));
        let clock: Arc<dyn Clock> = manual.clone();
        let limits = limits(&SETTINGS, &clock);
        let source = IpAddr::from([192, 0, 2, 1]);
        let taken = |client: Option<&str>| (0..10).filter(|_| limits.app_auth(client, source)).count();
        assert_eq!((taken(Some("a")), taken(Some("b")), taken(None)), (3, 3, 3));
        assert!(
            !limits.app_auth(Some("a"), IpAddr::from([192, 0, 2, 2])),
            "from wherever"
        );
        assert!(limits.app_auth(None, IpAddr::from([192, 0, 2, 2])));
        manual.advance(6);
        assert_eq!((taken(Some("a")), taken(None)), (1, 1));
        manual.advance(54);
        assert_eq!(taken(Some("a")), 3);
        assert_eq!((0..100).filter(|_| limits.app_auth_source(source)).count(), 50);
        manual.advance(1);
        assert_eq!((0..100).filter(|_| limits.app_auth_source(source)).count(), 10);
    }

    #[test]
    fn reviews_are_limited_by_source() {
        let manual = Arc::new(ManualClock::at(0));
        let clock: Arc<dyn Clock> = manual.clone();
        let limits = limits(&SETTINGS, &clock);
        let source = |last: u8| Source::of(IpAddr::from([192, 0, 2, last]));
        let taken = |last: u8| (0..1000).filter(|_| limits.review(source(last))).count();
        assert_eq!((taken(1), taken(2)), (250, 250));
        manual.advance_millis(49);
        assert_eq!(taken(1), 0);
        manual.advance_millis(1);
        assert_eq!(taken(1), 1);
        manual.advance(1);
        assert_eq!((taken(1), taken(2)), (20, 21));
    }

    #[test]
    fn denials_beyond_the_rate_are_counted_by_source_and_by_subject() {
        let manual = Arc::new(ManualClock::at(0));
        let clock: Arc<dyn Clock> = manual.clone();
        let limits = limits(
            &Settings {
                denial_audit_rate: 3,
                ..SETTINGS
            },
            &clock,
        );
        let source = IpAddr::from([192, 0, 2, 1]);
        let passes = |asker: Asker<'_>| {
            let denial = DenialDraft::denied(EventType::ScopeViolation, "no");
            limits.pass(asker, denial).is_some()
        };
        let taken = |asker: Asker<'_>| (0..10).filter(|_| passes(asker)).count();
        assert_eq!((taken(Asker::Source(source)), taken(Asker::Known("a"))), (3, 3));
        assert!(passes(Asker::Known("b")) && passes(Asker::Source([192, 0, 2, 2].into())));
        assert_eq!(
            (0..5).filter(|_| limits.audits_hit(source, "/v1/admin/auth")).count(),
            1
        );
        assert!(limits.audits_hit(source, "/v1/register"));
        assert!(
            passes(Asker::Pod(&"a".into())),
            "no token hides what the pod's launches are refused for"
        );
        let of_delegate = |branch: &str| {
            let branch = &branch.into();
            taken(Asker::Delegate { session: "a", branch })
        };
        assert_eq!(["b", "c", "d"].map(of_delegate), [1; 3], "half of the rate at most");
        assert_eq!(of_delegate("e"), 0, "all delegates of one session");
        let (suppressed, event) = limits.take_suppressed().unwrap();
        assert_eq!((suppressed, event.detail.as_str()), (7 + 7 + 27 + 10, "suppressed=51"));
        assert!(limits.take_suppressed().is_none());
        limits.restore_suppressed(suppressed);
        assert_eq!(limits.take_suppressed().unwrap().0, 51);
        manual.advance(10);
        assert!(limits.audits_hit(source, "/v1/admin/auth") && passes(Asker::Known("a")));
    }
}
