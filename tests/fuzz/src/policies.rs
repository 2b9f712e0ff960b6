//! Policy documents of the controller.

use agentwrit_broker::parsers::{InputError, Write};
use agentwrit_json::{Trailing, read};
use agentwrit_protocol::Scope;
use agentwrit_protocol::k8s::{AppSpec, LaunchTokenSpec, PutPolicy, WriteOrder};
use agentwrit_store::policy::PolicyKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Any bytes as the body of a single write. An item of many is read in the same way, after its address.
pub fn run(input: &[u8]) {
    single::<AppSpec>(input, |put| Write::app(PolicyKey::app("shop", "orders"), put));
    single::<LaunchTokenSpec>(input, |put| {
        Write::launch_token(PolicyKey::launch_token("shop", "reader"), put)
    });
}

fn single<S>(input: &[u8], check: impl Fn(PutPolicy<S>) -> Result<Write, InputError>)
where
    S: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug,
{
    let Ok(put) = read::<PutPolicy<S>>(input, Trailing::Refused) else {
        return;
    };
    let text = serde_json::to_vec(&put).unwrap();
    assert_eq!(read::<PutPolicy<S>>(&text, Trailing::Refused).unwrap(), put);
    let later = PutPolicy {
        order: WriteOrder {
            lease_epoch: 9,
            sequence: 9,
        },
        ..put.clone()
    };
    assert_eq!(later.digest(), put.digest(), "the order is no part of the digest");
    judge(check(put));
}

/// What is accepted can be enforced; what is refused is said in a sentence.
fn judge(checked: Result<Write, InputError>) {
    match checked {
        Ok(write) => {
            assert_eq!(write.digest.len(), 64);
            assert!(write.generation >= 0 && write.order.lease_epoch >= 0 && write.order.sequence >= 0);
            let (scopes, ttl) = match &write.spec {
                agentwrit_store::policy::PolicySpec::App(spec) => (&spec.scopes, spec.max_agent_ttl_seconds),
                agentwrit_store::policy::PolicySpec::LaunchToken(spec) => (&spec.allowed_scopes, spec.max_ttl_seconds),
            };
            assert!((60..=86_400).contains(&ttl));
            assert!((1..=64).contains(&scopes.len()));
            for text in scopes {
                let scope: Scope = text.parse().unwrap();
                assert!(!scope.is_reserved() && text.len() <= 256 && !text.contains(char::is_whitespace));
            }
        }
        Err(error) => {
            assert_eq!(error.code.status() / 100, 4);
            assert!(!error.detail.is_empty());
        }
    }
}
