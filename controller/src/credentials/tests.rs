use super::*;

#[test]
fn what_is_shown_of_a_secret_stays_until_it_was_looked_at() {
    for (reason, stays) in [("SecretNotOwned", true), ("SecretNotWritten", true), ("Synced", false)] {
        let app = serde_json::json!({
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {"scopes": ["read:orders:*"]},
            "status": {"conditions": [{
                "type": "Ready", "status": "False", "reason": reason, "message": "why",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        let shown = shown(&serde_json::from_value(app).unwrap());
        let told = shown.map(|shown| (shown.reason.as_str(), shown.message));
        assert_eq!(told, stays.then(|| (reason, "why".to_owned())));
    }
}

#[test]
fn each_reason_to_have_no_client_has_its_sentence() {
    let only_shop = || Where::In(BTreeSet::from(["shop".to_owned()]));
    let table = [
        (Where::Everywhere, true, None),
        (only_shop(), true, None),
        (
            Where::In(BTreeSet::from(["bank".to_owned()])),
            true,
            Some("clientCredentials.namespaces"),
        ),
        (Where::Nowhere, true, Some("clientCredentials.enabled")),
        (Where::Everywhere, false, Some("until the broker is upgraded")),
        (only_shop(), false, Some("until the broker is upgraded")),
        // What a person can do something about at once.
        (Where::Nowhere, false, Some("clientCredentials.enabled")),
    ];
    for (allowed, broker_knows, wanted) in table {
        let refusal = Credentials::new(allowed.clone()).refusal("shop", broker_knows);
        assert_eq!(refusal.is_some(), wanted.is_some(), "{allowed:?} {broker_knows}");
        let sentence = refusal.unwrap_or_default();
        assert!(sentence.contains(wanted.unwrap_or_default()), "{allowed:?}: {sentence}");
    }
}
