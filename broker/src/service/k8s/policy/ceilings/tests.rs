use agentwrit_protocol::k8s::{AppSpec, PutPolicy, WriteOrder};

use agentwrit_store::policy::PolicyKey;

use super::*;

fn write(state: PolicyState, scopes: &[&str]) -> Write {
    let put = PutPolicy {
        uid: "uid".into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 1,
            sequence: 1,
        },
        state,
        reason: None,
        spec: AppSpec {
            scopes: scopes.iter().map(ToString::to_string).collect(),
            max_agent_ttl_seconds: 300,
            audiences: Vec::new(),
            delegation_namespaces: Vec::new(),
            client: None,
        },
    };
    Write::app(PolicyKey::app("shop", "orders"), put).unwrap()
}

#[test]
fn only_what_would_put_scopes_into_force_is_refused() {
    let ceilings = ScopeCeilings::parse(br#"{"tenancy":"open","scopeCeilings":{"shop":["read:orders:*"]}}"#).unwrap();
    let told = |state, scopes: &[&str]| refusal(&ceilings, &write(state, scopes));
    let beyond: &[&str] = &["read:orders:1", "write:orders:1"];
    let sentence = told(PolicyState::Ready, beyond).unwrap();
    assert!(
        sentence.starts_with("spec.scopes: write:orders:1: beyond the ceiling"),
        "{sentence}"
    );
    assert_eq!(told(PolicyState::Ready, &["read:orders:1"]), None);
    for state in [PolicyState::NotReady, PolicyState::Suspended] {
        assert_eq!(told(state, beyond), None, "{state:?} takes away");
    }
}

#[test]
fn a_write_held_back_is_withdrawn_under_a_digest_of_its_own() {
    let asked = write(PolicyState::Ready, &["write:orders:1"]);
    let held = withdrawn(asked.clone());
    assert_eq!(
        (held.state, held.reason.as_deref()),
        (PolicyState::NotReady, Some(BEYOND))
    );
    assert_ne!(held.digest, asked.digest);
}
