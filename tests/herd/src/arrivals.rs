//! What arrived, second by second.

use serde::Serialize;

use crate::broker::Request;

/// One second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Requests for a launch token.
    pub launch: u32,
    /// Requests for a nonce.
    pub challenge: u32,
    /// Registrations.
    pub register: u32,
    /// Renewals.
    pub renew: u32,
    /// Validations.
    pub validate: u32,
    /// Tries of any kind that met no broker.
    pub unanswered: u32,
    /// Pods that have no token at its end.
    pub without_token: u32,
}

impl Second {
    /// All that arrived at the broker.
    pub fn arrived(&self) -> u32 {
        self.launch + self.challenge + self.register + self.renew + self.validate
    }

    pub(crate) fn count(&mut self, request: Request) {
        *match request {
            Request::Launch => &mut self.launch,
            Request::Challenge => &mut self.challenge,
            Request::Register => &mut self.register,
            Request::Renew => &mut self.renew,
            Request::Validate => &mut self.validate,
        } += 1;
    }
}

/// The seconds of a run, in order.
#[derive(Debug, Default)]
pub struct Arrivals {
    seconds: Vec<Second>,
    now: Second,
}

impl Arrivals {
    /// Goes to the second of `at` milliseconds; the seconds passed are over, with so many pods `without_token`.
    pub(crate) fn at(&mut self, at: u64, without_token: u32) -> &mut Second {
        let number = usize::try_from(at / 1_000).unwrap_or(usize::MAX);
        while self.seconds.len() < number {
            let over = std::mem::take(&mut self.now);
            self.seconds.push(Second { without_token, ..over });
        }
        &mut self.now
    }

    /// The seconds that are over, from the begin of the run.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// Those from `from` on, before `to`.
    pub fn between(&self, from: u64, to: u64) -> &[Second] {
        let place = |second: u64| usize::try_from(second).unwrap_or(usize::MAX).min(self.seconds.len());
        self.seconds.get(place(from)..place(to)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_in_its_second() {
        let mut arrivals = Arrivals::default();
        arrivals.at(999, 2).count(Request::Launch);
        arrivals.at(3_000, 1).count(Request::Renew);
        arrivals.at(4_000, 0);
        let seen: Vec<(u32, u32, u32)> = arrivals
            .seconds()
            .iter()
            .map(|second| (second.launch, second.renew, second.without_token))
            .collect();
        assert_eq!(seen, [(1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 1, 0)]);
        assert_eq!(arrivals.between(3, 9).len(), 1);
        assert!(arrivals.between(5, 2).is_empty());
    }
}
