//! What a person has revoked stays revoked.

use crate::support::cluster::shared;
use crate::support::pod::{PodSpec, app, is_ready};
use crate::support::shop::Shop;
use crate::support::wait::{always, eventually, seconds};

#[tokio::test]
async fn a_persons_revocation_holds_until_the_pod_is_released() {
    let _installation = shared().await;
    let shop = Shop::open("revoked").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    let agent = broker.claims(&token).await.unwrap().sub;
    broker.client.revoke(&broker.admin, "agent", &agent).await.unwrap();
    broker.refuses(&token).await.expect("refused at once");

    // Within 30 s the file is gone and the pod unready.
    shop.log_line("reader", "app", &["no token: ", "No such file"], seconds(35))
        .await;
    eventually("the pod is unready", seconds(10), async || {
        if is_ready(&shop.pod("reader").await) {
            Err("still Ready")
        } else {
            Ok(())
        }
    })
    .await;
    always("it stays so", seconds(8), async || {
        if is_ready(&shop.pod("reader").await) {
            return Err("the pod is Ready again".to_owned());
        }
        shop.token("reader")
            .map_or(Ok(()), |_| Err("there is a token again".to_owned()))
    })
    .await;
    let types = broker.trail_types(&uid).await;
    assert!(types.iter().any(|found| found == "pod_quarantined"), "{types:?}");

    // The sidecar asks once a minute.
    let released = broker.client.pod_release(&broker.admin, &uid.as_str().into()).await;
    let released = released.unwrap();
    assert!(released.released);
    shop.pod_ready("reader", seconds(100)).await;
    let again = broker.claims(&shop.token("reader").unwrap()).await.unwrap();
    assert_ne!(again.sub, agent, "a new agent, in the same pod");
    let types = broker.trail_types(&uid).await;
    assert!(types.iter().any(|found| found == "pod_released"), "{types:?}");
    assert_eq!(app(&shop.pod("reader").await).unwrap().restart_count, 0);
    broker.refuses(&token).await.expect("what was revoked stays revoked");
}
