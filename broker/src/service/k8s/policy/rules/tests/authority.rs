//! Which writes take authority away.

use agentwrit_protocol::k8s::{LabelOperator, LabelRequirement};

use super::*;

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn whatever_a_new_spec_gives_less_of_takes_authority_away() {
    let app = |scopes: &[&str], ttl| {
        PolicySpec::App(AppSpec {
            max_agent_ttl_seconds: ttl,
            ..app_spec(scopes)
        })
    };
    let token = |change: &dyn Fn(&mut LaunchTokenSpec)| {
        let mut spec = token_spec(&["read:orders:*"]);
        change(&mut spec);
        PolicySpec::LaunchToken(spec)
    };
    let selector = |tier: &str| {
        Some(LabelSelector(vec![LabelRequirement {
            key: "tier".into(),
            operator: LabelOperator::In,
            values: vec![tier.into()],
        }]))
    };
    let lists = |audiences: &[&str], namespaces: &[&str]| {
        PolicySpec::App(AppSpec {
            audiences: scope(audiences),
            delegation_namespaces: scope(namespaces),
            ..app_spec(&["read:orders:*"])
        })
    };
    let selecting = token(&|spec| spec.pod_selector = selector("web"));
    let (limited, listing) = (
        token(&|spec| spec.max_active_agents = Some(2)),
        lists(&["a"], &["bank"]),
    );
    let (wide_app, whole) = (app(&["read:orders:*"], 300), token(&|_| ()));
    let table = [
        ("the same app", &wide_app, app(&["read:orders:*"], 300), false),
        ("a longer life", &wide_app, app(&["read:orders:*"], 301), false),
        (
            "more scopes",
            &wide_app,
            app(&["read:orders:*", "read:data:x"], 300),
            false,
        ),
        ("a shorter life", &wide_app, app(&["read:orders:*"], 299), true),
        ("a narrower scope", &wide_app, app(&["read:orders:7"], 300), true),
        ("the same launch token", &whole, token(&|_| ()), false),
        (
            "a longer life of agents",
            &whole,
            token(&|spec| spec.max_ttl_seconds = 301),
            false,
        ),
        (
            "one more account",
            &whole,
            token(&|spec| spec.service_account_names.push("writer".into())),
            false,
        ),
        (
            "another name of its agents",
            &whole,
            token(&|spec| spec.agent_name = "x".into()),
            false,
        ),
        ("another app", &whole, token(&|spec| spec.app = "other".into()), true),
        (
            "a shorter life of agents",
            &whole,
            token(&|spec| spec.max_ttl_seconds = 299),
            true,
        ),
        (
            "another account",
            &whole,
            token(&|spec| spec.service_account_names = vec!["writer".into()]),
            true,
        ),
        ("no scope", &whole, token(&|spec| spec.allowed_scopes.clear()), true),
        (
            "a selector",
            &whole,
            token(&|spec| spec.pod_selector = selector("web")),
            true,
        ),
        (
            "another selector",
            &selecting,
            token(&|spec| spec.pod_selector = selector("api")),
            true,
        ),
        (
            "the same selector",
            &selecting,
            token(&|spec| spec.pod_selector = selector("web")),
            false,
        ),
        ("no selector any more", &selecting, token(&|_| ()), false),
        ("a limit", &whole, token(&|spec| spec.max_active_agents = Some(2)), true),
        (
            "a lower limit",
            &limited,
            token(&|spec| spec.max_active_agents = Some(1)),
            true,
        ),
        (
            "a higher limit",
            &limited,
            token(&|spec| spec.max_active_agents = Some(3)),
            false,
        ),
        ("no limit any more", &limited, token(&|_| ()), false),
        ("an audience more", &listing, lists(&["a", "b"], &["bank"]), false),
        ("an audience less", &listing, lists(&[], &["bank"]), true),
        ("a namespace more", &listing, lists(&["a"], &["bank", "mill"]), false),
        ("a namespace less", &listing, lists(&["a"], &[]), true),
        ("another kind", &whole, app(&[], 1), false),
    ];
    for (what, before, after, wanted) in table {
        let key = || PolicyKey::launch_token("shop", "reader");
        let (before, after) = (policy(key(), before.clone()), policy(key(), after));
        assert_eq!(takes_away(&before, &after), wanted, "{what}");
    }
}

#[test]
fn a_worse_state_takes_authority_away() {
    let in_state = |state| Policy { state, ..pair().token };
    let order = [PolicyState::Ready, PolicyState::NotReady, PolicyState::Suspended];
    for (at, before) in order.into_iter().enumerate() {
        for (to, after) in order.into_iter().enumerate() {
            assert_eq!(
                takes_away(&in_state(before), &in_state(after)),
                to > at,
                "{before:?} {after:?}"
            );
        }
    }
}
