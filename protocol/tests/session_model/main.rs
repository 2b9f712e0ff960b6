//! The rules against an independent account of what must hold, over interleavings of register, renew, delegate, release,
//! revoke, supersession, pod end and the passing of time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

mod account;
mod examples;
mod world;

use std::time::Duration;

use agentwrit_protocol::Ttl;
use agentwrit_protocol::session::*;
use proptest::prelude::*;
use world::{Token, World};

const MAX_TTL: Ttl = Ttl::seconds(40);
const OVERLAP: Duration = Duration::from_secs(2);
const LIMITS: RenewLimits = RenewLimits {
    max_ttl: MAX_TTL,
    max_session_age: Ttl::seconds(0),
};

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    Register,
    Renew { token: usize, overlap: bool },
    Delegate { token: usize, to: usize, ttl: Ttl },
    Release { token: usize },
    Revoke { level: RevocationLevel, token: usize },
    Supersede { token: usize },
    EndPod { token: usize },
    Pass { time: Duration },
    Prune,
}

fn op() -> impl Strategy<Value = Op> {
    let token = 0_usize..1000;
    prop_oneof![
        2 => Just(Op::Register),
        5 => (token.clone(), any::<bool>()).prop_map(|(token, overlap)| Op::Renew { token, overlap }),
        6 => (token.clone(), token.clone(), 1_i64..60)
            .prop_map(|(token, to, ttl)| Op::Delegate { token, to, ttl: Ttl::seconds(ttl) }),
        2 => token.clone().prop_map(|token| Op::Release { token }),
        2 => (prop::sample::select(RevocationLevel::ALL.to_vec()), token.clone())
            .prop_map(|(level, token)| Op::Revoke { level, token }),
        1 => token.clone().prop_map(|token| Op::Supersede { token }),
        1 => token.prop_map(|token| Op::EndPod { token }),
        4 => (1_u64..9_000).prop_map(|millis| Op::Pass { time: Duration::from_millis(millis) }),
        1 => Just(Op::Prune),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn exactly_the_tokens_that_must_be_valid_are_valid(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
    }
}
