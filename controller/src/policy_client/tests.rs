use agentwrit_client::{ClientConfig, Identity};
use agentwrit_protocol::k8s::PolicyKind;
use agentwrit_protocol::{ErrorCode, Problem};
use agentwrit_testkit::{FakeBroker, FakeReply};
use serde_json::json;

use super::*;

fn client(broker: &FakeBroker) -> PolicyClient {
    let config = ClientConfig {
        identity: Some(Identity::Token("the-controllers-own-token".into())),
        ..ClientConfig::new(format!("http://{}", broker.address))
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    PolicyClient::new(BrokerClient::new(config).unwrap(), Leadership::fixed(Some(1)), metrics)
}

#[tokio::test]
async fn a_broker_known_to_be_away_isnt_asked_for_each_removal() {
    let away = json!(Problem::new(ErrorCode::Unavailable, "the store is away"));
    let broker = FakeBroker::start(move |_| FakeReply::json(503, &away)).await;
    let client = client(&broker);
    client.refresh().await.unwrap_err();
    let asked = broker.calls().len();
    for number in 0..100 {
        let key = PolicyKey {
            kind: PolicyKind::LaunchToken,
            namespace: "shop".into(),
            name: format!("reader-{number}"),
        };
        let removed = client.remove(&key, &format!("u{number}").into(), true).await;
        assert!(matches!(removed, Err(BrokerError::Unavailable { .. })), "{removed:?}");
    }
    assert_eq!(broker.calls().len(), asked);
}
