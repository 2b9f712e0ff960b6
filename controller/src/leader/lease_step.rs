//! What to do about the present Lease, decided from its record, our own and the monotonic clock alone.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

/// What to do about the present Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none: make it, with this epoch.
    Create(i64),
    /// It is ours: renew it.
    Renew,
    /// It is free, expired, or of an earlier process of ours: take it, with this epoch.
    TakeOver(i64),
    /// Another one holds it.
    Wait,
}

/// What an elector remembers of the Lease between two reads.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Our epoch, while we believe to hold it.
    pub(super) epoch: Option<i64>,
    /// The broker has seen this epoch: ours must be higher.
    pub(super) above: i64,
    /// The last foreign record, and since when it is unchanged.
    pub(super) foreign: Option<(Option<MicroTime>, Option<String>, Instant)>,
}

impl Memory {
    /// The claim ran out while the Lease may still be ours. What should have been written meanwhile wasn't: to lead
    /// again is a new lead, with an epoch of its own, and everything is compared again.
    pub(super) fn lapse(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            self.above = self.above.max(epoch);
        }
    }
}

fn transitions(lease: &Lease) -> i64 {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_transitions)
        .unwrap_or(0)
        .into()
}

pub(super) fn decide(memory: &mut Memory, identity: &str, lease: Option<&Lease>, now: Instant) -> Step {
    let next = |seen: i64| seen.max(memory.epoch.unwrap_or(0)).max(memory.above).saturating_add(1);
    let Some(lease) = lease else {
        return Step::Create(next(0));
    };
    let spec = lease.spec.as_ref();
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let seen = transitions(lease);
    if holder == identity {
        return match memory.epoch {
            Some(epoch) if epoch == seen && epoch > memory.above => Step::Renew,
            // An earlier process of this pod, which is gone; or the broker knows a higher epoch.
            _ => Step::TakeOver(next(seen)),
        };
    }
    if holder.is_empty() {
        return Step::TakeOver(next(seen));
    }
    let record = (spec.and_then(|spec| spec.renew_time.clone()), Some(holder.to_owned()));
    let take = next(seen);
    match &memory.foreign {
        Some((renewed, by, since)) if (renewed, by) == (&record.0, &record.1) => {
            let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(15);
            let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(15));
            if now.duration_since(*since) >= duration {
                return Step::TakeOver(take);
            }
        }
        _ => memory.foreign = Some((record.0, record.1, now)),
    }
    Step::Wait
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::jiff::Timestamp;
    use kube::api::ObjectMeta;

    use super::*;

    pub(in crate::leader) fn lease(holder: &str, transitions: i32, renewed: i64) -> Lease {
        Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(transitions),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn every_start_raises_the_epoch() {
        let now = Instant::now();
        assert_eq!(decide(&mut Memory::default(), "a", None, now), Step::Create(1));
        let free = lease("", 4, 1);
        assert_eq!(decide(&mut Memory::default(), "a", Some(&free), now), Step::TakeOver(5));
        let own_before = lease("a", 4, 1);
        assert_eq!(
            decide(&mut Memory::default(), "a", Some(&own_before), now),
            Step::TakeOver(5)
        );
    }

    #[test]
    fn the_holder_renews_and_keeps_its_epoch() {
        let mut memory = Memory {
            epoch: Some(5),
            ..Memory::default()
        };
        assert_eq!(
            decide(&mut memory, "a", Some(&lease("a", 5, 1)), Instant::now()),
            Step::Renew
        );
    }

    #[test]
    fn a_lead_that_lapsed_comes_back_with_a_higher_epoch() {
        let mut memory = Memory {
            epoch: Some(5),
            ..Memory::default()
        };
        memory.lapse();
        let now = Instant::now();
        assert_eq!(
            decide(&mut memory, "a", Some(&lease("a", 5, 1)), now),
            Step::TakeOver(6)
        );
        assert_eq!(
            decide(&mut memory, "a", None, now),
            Step::Create(6),
            "also of a deleted Lease"
        );
    }

    #[test]
    fn a_foreign_lease_expires_by_our_own_clock_only() {
        let start = Instant::now();
        let mut memory = Memory::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Its wall-clock time is far in the past: that alone says nothing.
        assert_eq!(decide(&mut memory, "a", Some(&lease("b", 2, 10)), at(0)), Step::Wait);
        assert_eq!(decide(&mut memory, "a", Some(&lease("b", 2, 10)), at(14)), Step::Wait);
        assert_eq!(
            decide(&mut memory, "a", Some(&lease("b", 2, 14)), at(14)),
            Step::Wait,
            "renewed"
        );
        assert_eq!(decide(&mut memory, "a", Some(&lease("b", 2, 14)), at(28)), Step::Wait);
        assert_eq!(
            decide(&mut memory, "a", Some(&lease("b", 2, 14)), at(29)),
            Step::TakeOver(3)
        );
    }

    #[test]
    fn a_deleted_lease_doesnt_lower_the_epoch() {
        let mut memory = Memory {
            epoch: Some(7),
            ..Memory::default()
        };
        assert_eq!(decide(&mut memory, "a", None, Instant::now()), Step::Create(8));
    }

    #[test]
    fn a_higher_epoch_at_the_broker_is_passed_by_one() {
        let mut memory = Memory {
            epoch: Some(1),
            above: 9,
            foreign: None,
        };
        assert_eq!(
            decide(&mut memory, "a", Some(&lease("a", 1, 1)), Instant::now()),
            Step::TakeOver(10)
        );
    }
}
