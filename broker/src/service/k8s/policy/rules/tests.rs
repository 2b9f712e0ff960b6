#![allow(clippy::unwrap_used)]

use agentwrit_store::policy::PolicyKey;

use super::*;

mod authority;
mod ceiling;

fn policy(key: PolicyKey, spec: PolicySpec) -> Policy {
    Policy {
        key,
        uid: "uid".into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 2,
            sequence: 5,
        },
        state: PolicyState::Ready,
        reason: None,
        digest: "digest".into(),
        accepted: Some(Accepted {
            spec,
            generation: 1,
            unchanged_since: 1,
            client_instance: None,
        }),
        app_id: None,
        issued: 0,
        room_until: 0,
    }
}

fn app_spec(scopes: &[&str]) -> AppSpec {
    AppSpec {
        scopes: scopes.iter().map(ToString::to_string).collect(),
        max_agent_ttl_seconds: 3600,
        audiences: Vec::new(),
        delegation_namespaces: Vec::new(),
        client: None,
    }
}

fn token_spec(scopes: &[&str]) -> LaunchTokenSpec {
    LaunchTokenSpec {
        app: "orders".into(),
        agent_name: "reader".into(),
        allowed_scopes: scopes.iter().map(ToString::to_string).collect(),
        max_ttl_seconds: 300,
        service_account_names: vec!["reader".into()],
        pod_selector: None,
        max_active_agents: None,
    }
}

fn pair() -> Pair {
    Pair {
        token: policy(
            PolicyKey::launch_token("shop", "reader"),
            PolicySpec::LaunchToken(token_spec(&["read:orders:*"])),
        ),
        app: Some(policy(
            PolicyKey::app("shop", "orders"),
            PolicySpec::App(app_spec(&["read:orders:*", "write:orders:*"])),
        )),
        ceiling: Ceiling::Open,
    }
}

fn attested() -> Attested {
    Attested {
        policy_uid: "uid".into(),
        app_uid: "uid".into(),
        namespace: "shop".into(),
        policy_name: "reader".into(),
        pod_uid: "pod".into(),
        pod_name: "reader-1".into(),
        node: String::new(),
        service_account: "reader".into(),
        public_key: String::new(),
        orch_id: "k8s.shop.orders".into(),
        task_id: "pod".into(),
        policy_generation: 1,
        app_generation: 1,
        renewal_proof: false,
    }
}

fn scope(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn a_write_is_fenced_by_epoch_globally_and_by_order_per_object() {
    let held = policy(PolicyKey::app("shop", "orders"), PolicySpec::App(app_spec(&[])));
    let order = |lease_epoch, sequence| WriteOrder { lease_epoch, sequence };
    let table = [
        (2, None, order(1, 99), Some("digest"), Fence::Stale),
        (2, None, order(2, 0), Some("digest"), Fence::Apply),
        (2, Some(&held), order(2, 4), Some("digest"), Fence::Stale),
        (2, Some(&held), order(2, 5), Some("digest"), Fence::Repeated),
        (2, Some(&held), order(2, 5), Some("other"), Fence::Stale),
        (2, Some(&held), order(2, 5), None, Fence::Stale),
        (2, Some(&held), order(2, 6), None, Fence::Apply),
        (2, Some(&held), order(3, 0), Some("other"), Fence::Apply),
        (3, Some(&held), order(2, 6), Some("other"), Fence::Stale),
    ];
    for (epoch, held, order, digest, wanted) in table {
        assert_eq!(
            fence(epoch, held, order, digest),
            wanted,
            "{epoch} {order:?} {digest:?}"
        );
    }
}

#[test]
fn both_must_allow_a_scope() {
    let table: [(&[&str], &[&str], &[&str]); 6] = [
        (&["read:orders:*"], &["read:orders:*"], &["read:orders:*"]),
        (&["read:orders:*"], &["read:orders:7"], &["read:orders:7"]),
        (&["read:orders:7"], &["read:orders:*"], &["read:orders:7"]),
        (&["read:orders:*"], &["write:orders:*"], &[]),
        (
            &["read:a:*", "read:b:1"],
            &["read:b:*", "read:a:1"],
            &["read:b:1", "read:a:1"],
        ),
        (&["read:a:*", "read:a:1"], &["read:a:*"], &["read:a:*"]),
    ];
    for (app, token, wanted) in table {
        assert_eq!(
            intersection(&readable(&scope(app)), &readable(&scope(token))).to_strings(),
            wanted,
            "{app:?} {token:?}"
        );
    }
}

#[test]
fn the_shorter_life_counts() {
    let mut pair = pair();
    assert_eq!(pair.effective().unwrap().max_ttl, Ttl::seconds(300));
    let mut spec = app_spec(&["read:orders:*"]);
    spec.max_agent_ttl_seconds = 60;
    pair.app.as_mut().unwrap().accepted.as_mut().unwrap().spec = PolicySpec::App(spec);
    assert_eq!(pair.effective().unwrap().max_ttl, Ttl::seconds(60));
}

#[test]
fn each_state_has_its_refusal_at_launch() {
    use PolicyState::{NotReady, Ready, Suspended};
    let table = [
        (NotReady, Some(Ready), DenialKind::LaunchTokenNotReady),
        (Suspended, Some(Ready), DenialKind::LaunchTokenSuspended),
        (Suspended, None, DenialKind::LaunchTokenSuspended),
        (Ready, Some(NotReady), DenialKind::AppNotReady),
        (Ready, Some(Suspended), DenialKind::AppSuspended),
        (Ready, None, DenialKind::AppNotReady),
    ];
    for (token, app, wanted) in table {
        let mut pair = pair();
        pair.token.state = token;
        match app {
            Some(state) => pair.app.as_mut().unwrap().state = state,
            None => pair.app = None,
        }
        assert_eq!(pair.launchable(), Err(wanted), "{token:?} {app:?}");
    }
    assert_eq!(pair().launchable().unwrap().scopes.to_strings(), ["read:orders:*"]);
}

#[test]
fn withdrawal_keeps_the_accepted_spec_and_renewals_go_on() {
    let mut pair = pair();
    let narrower = PolicySpec::LaunchToken(token_spec(&["read:orders:7"]));
    pair.token.accepted = accept(Some(&pair.token), PolicyState::NotReady, 2, narrower);
    pair.token.state = PolicyState::NotReady;
    pair.token.generation = 2;
    assert_eq!(pair.ends(&attested(), &scope(&["read:orders:1"])), None);
    assert_eq!(pair.still_stands(&attested(), &scope(&["read:orders:1"])), Ok(()));
    assert_eq!(pair.launchable(), Err(DenialKind::LaunchTokenNotReady));
}

#[test]
fn narrowing_ends_what_is_no_longer_covered_and_nothing_else() {
    let mut pair = pair();
    let narrower = PolicySpec::LaunchToken(token_spec(&["read:orders:7"]));
    pair.token.accepted = accept(Some(&pair.token), PolicyState::Ready, 2, narrower);
    assert_eq!(
        pair.ends(&attested(), &scope(&["read:orders:1"])),
        Some(EndReason::PolicyChanged)
    );
    assert_eq!(pair.ends(&attested(), &scope(&["read:orders:7"])), None);
    assert_eq!(
        pair.still_stands(&attested(), &scope(&["read:orders:7"])),
        Err(DenialKind::PolicyChanged)
    );
}

#[test]
fn widening_and_life_wait_for_the_next_renewal() {
    let wider = token_spec(&["read:orders:*", "write:orders:*"]);
    let mut longer = token_spec(&["read:orders:*"]);
    longer.max_ttl_seconds = 600;
    for changed in [wider, longer] {
        let mut pair = pair();
        pair.token.accepted = accept(
            Some(&pair.token),
            PolicyState::Ready,
            2,
            PolicySpec::LaunchToken(changed),
        );
        assert_eq!(pair.ends(&attested(), &scope(&["read:orders:1"])), None);
        assert_eq!(
            pair.still_stands(&attested(), &scope(&["read:orders:1"])),
            Err(DenialKind::PolicyChanged)
        );
    }
}

#[test]
fn a_change_that_does_not_matter_to_sessions_disturbs_none() {
    let mut pair = pair();
    let mut renamed = token_spec(&["read:orders:*"]);
    renamed.agent_name = "other".into();
    renamed.service_account_names.push("another".into());
    pair.token.accepted = accept(
        Some(&pair.token),
        PolicyState::Ready,
        2,
        PolicySpec::LaunchToken(renamed),
    );
    assert_eq!(pair.still_stands(&attested(), &scope(&["read:orders:1"])), Ok(()));
    pair.token.accepted.as_mut().unwrap().spec = {
        let mut spec = token_spec(&["read:orders:*"]);
        spec.service_account_names = vec!["another".into()];
        PolicySpec::LaunchToken(spec)
    };
    assert_eq!(
        pair.ends(&attested(), &scope(&["read:orders:1"])),
        Some(EndReason::PolicyChanged)
    );
}

#[test]
fn a_recreated_object_is_another_policy() {
    let mut pair = pair();
    pair.token.uid = "new".into();
    assert_eq!(pair.still_stands(&attested(), &[]), Err(DenialKind::PolicyRemoved));
    let mut pair = self::pair();
    pair.app.as_mut().unwrap().uid = "new".into();
    assert_eq!(pair.still_stands(&attested(), &[]), Err(DenialKind::PolicyChanged));
    pair.app = None;
    assert_eq!(pair.still_stands(&attested(), &[]), Err(DenialKind::PolicyRemoved));
}

#[test]
fn suspension_of_either_ends_sessions() {
    for which in ["token", "app"] {
        let mut pair = pair();
        match which {
            "token" => pair.token.state = PolicyState::Suspended,
            _ => pair.app.as_mut().unwrap().state = PolicyState::Suspended,
        }
        assert_eq!(
            pair.ends(&attested(), &scope(&["read:orders:1"])),
            Some(EndReason::Suspended)
        );
        let refused = pair.still_stands(&attested(), &scope(&["read:orders:1"])).unwrap_err();
        assert_eq!(refused.code(), agentwrit_protocol::ErrorCode::Suspended, "{which}");
    }
}
