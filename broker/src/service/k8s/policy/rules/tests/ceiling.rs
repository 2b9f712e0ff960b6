//! A namespace's ceiling takes away, and never adds.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn listed(scopes: &[&str]) -> Ceiling {
    Ceiling::Listed(Arc::new(ScopeSet::parse(scopes).unwrap()))
}

fn under(ceiling: Ceiling) -> Pair {
    Pair { ceiling, ..pair() }
}

#[test]
fn a_policy_beyond_its_ceiling_counts_as_withdrawn() {
    let read = under(listed(&["read:orders:*"]));
    assert_eq!(read.launchable(), Err(DenialKind::AppNotReady), "the app writes too");
    let mut narrow = under(listed(&["read:orders:7"]));
    narrow.app.as_mut().unwrap().accepted.as_mut().unwrap().spec = PolicySpec::App(app_spec(&["read:orders:7"]));
    assert_eq!(narrow.launchable(), Err(DenialKind::LaunchTokenNotReady));
    let wide = under(listed(&["read:orders:*", "write:orders:*"]));
    assert_eq!(wide.launchable().unwrap().scopes.to_strings(), ["read:orders:*"]);
    assert_eq!(under(Ceiling::Unlisted).launchable(), Err(DenialKind::AppNotReady));
}

#[test]
fn what_a_narrower_ceiling_covers_goes_on_and_the_rest_ends() {
    let narrow = under(listed(&["read:orders:7"]));
    let table: [(&[&str], bool); 3] = [
        (&["read:orders:7"], true),
        (&["read:orders:8"], false),
        (&["read:orders:7", "read:orders:8"], false),
    ];
    for (items, stands) in table {
        let ends = (!stands).then_some(EndReason::PolicyChanged);
        assert_eq!(narrow.ends(&attested(), &scope(items)), ends, "{items:?}");
        let refused = if stands { Ok(()) } else { Err(DenialKind::PolicyChanged) };
        assert_eq!(narrow.still_stands(&attested(), &scope(items)), refused, "{items:?}");
    }
    for nothing in [Ceiling::Unlisted, listed(&[])] {
        let pair = under(nothing);
        assert_eq!(pair.ends(&attested(), &[]), Some(EndReason::PolicyChanged));
        assert_eq!(pair.still_stands(&attested(), &[]), Err(DenialKind::PolicyChanged));
    }
}

fn scopes() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab]:[ab]:[12*]", 0..5)
}

fn ceiling() -> impl Strategy<Value = Ceiling> {
    prop_oneof![
        Just(Ceiling::Unlisted),
        scopes().prop_map(|scopes| Ceiling::Listed(Arc::new(ScopeSet::parse(scopes).unwrap()))),
    ]
}

proptest! {
    #[test]
    fn a_ceiling_only_takes_away(app in scopes(), token in scopes(), held in scopes(), ceiling in ceiling()) {
        let texts = |scopes: &[String]| -> Vec<String> { scopes.to_vec() };
        let mut open = pair();
        open.token.accepted.as_mut().unwrap().spec = PolicySpec::LaunchToken(LaunchTokenSpec {
            allowed_scopes: texts(&token),
            ..token_spec(&[])
        });
        open.app.as_mut().unwrap().accepted.as_mut().unwrap().spec = PolicySpec::App(AppSpec {
            scopes: texts(&app),
            ..app_spec(&[])
        });
        let under = Pair { ceiling: ceiling.clone(), ..open.clone() };
        let (wide, narrow) = (open.effective().unwrap(), under.effective().unwrap());
        prop_assert!(wide.scopes.covers_all(&narrow.scopes));
        prop_assert!(ceiling.beyond(&narrow.scopes.to_strings()).is_empty());
        // And no more than it has to.
        let both: ScopeSet = held.iter().filter_map(|scope| scope.parse().ok()).filter(|scope| {
            wide.scopes.covers(scope) && ceiling.beyond(&[scope.to_string()]).is_empty()
        }).collect();
        prop_assert!(narrow.scopes.covers_all(&both));
        if let Ok(launched) = under.launchable() {
            prop_assert_eq!(&launched, &open.launchable().unwrap());
            prop_assert!(ceiling.allows(&launched.scopes.to_strings()));
        }
        if under.ends(&attested(), &held).is_none() {
            prop_assert!(open.ends(&attested(), &held).is_none() && ceiling.allows(&held));
        }
        if under.still_stands(&attested(), &held).is_ok() {
            prop_assert!(open.still_stands(&attested(), &held).is_ok() && ceiling.allows(&held));
        }
    }
}
