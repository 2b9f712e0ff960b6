//! Two brokers on a PostgreSQL: what pods have goes on while one of them is torn away, and nobody can tell which answers.

use agentwrit_protocol::audit::AuditEvent;
use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::inject;
use agentwrit_tests::documents::blocks_of;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::support::broker::Broker;
use crate::support::cluster::{self, SYSTEM, alone, kubectl, rolled_out};
use crate::support::database::Database;
use crate::support::node;
use crate::support::pod::{POD_START, PodSpec, app, is_ready, sidecar};
use crate::support::shop::Shop;
use crate::support::terminal::Terminal;
use crate::support::wait::{eventually, seconds};

const BROKER: &str = "deployment/agentwrit-broker";

/// One of the brokers, asked by itself.
struct Replica {
    name: String,
    container: String,
    broker: Broker,
}

/// The brokers that are ready, when there are two.
async fn two_replicas(client: &Client) -> [Replica; 2] {
    rolled_out(BROKER).unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let ours = ListParams::default().labels("app.kubernetes.io/component=broker");
    let look = async || {
        let found = pods.list(&ours).await.map_err(|error| error.to_string())?.items;
        let living = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
        let ready: Vec<Pod> = found.into_iter().filter(living).collect();
        let mut replicas = Vec::new();
        for pod in ready {
            let container = app(&pod)
                .and_then(|status| status.container_id.clone())
                .ok_or("no id")?;
            let name = pod.metadata.name.ok_or("no name")?;
            let broker = Broker::open_at(client, &format!("pod/{name}")).await?;
            replicas.push(Replica {
                name,
                container,
                broker,
            });
        }
        <[Replica; 2]>::try_from(replicas).map_err(|others| format!("{} replicas are ready", others.len()))
    };
    eventually("two replicas answer", seconds(60), look).await.0
}

/// The claims of the pod's token of this moment, as this broker has them.
async fn claims(shop: &Shop, broker: &Broker) -> Result<Claims, String> {
    broker.claims(&shop.token("reader")?).await
}

/// Waits for two more tokens: the first may have been on its way before.
async fn renewed_twice(shop: &Shop, broker: &Broker, session: &Claims) {
    let mut seen = Vec::new();
    eventually("the token is renewed twice", seconds(75), async || {
        let now = claims(shop, broker).await?;
        assert_eq!(now.sid, session.sid, "the pod never had to register again");
        if !seen.contains(&now.jti) {
            seen.push(now.jti);
        }
        if seen.len() > 2 {
            Ok(())
        } else {
            Err(format!("{} tokens", seen.len()))
        }
    })
    .await;
}

/// What the chart made of the values: nothing of SQLite, and no password where pods can be read.
fn assert_moved(password: &str) {
    let objects = |kinds: &str, output: &str| {
        let label = "--selector=app.kubernetes.io/component=broker";
        kubectl(&["--namespace", SYSTEM, "get", kinds, label, output]).unwrap()
    };
    assert_eq!(
        objects("statefulsets,deployments", "--output=name").trim(),
        "deployment.apps/agentwrit-broker"
    );
    let shown = objects("deployments,replicasets,pods,configmaps", "--output=yaml");
    assert!(!shown.contains(password), "the password is in an object of the broker");
    let volume = kubectl(&["--namespace", SYSTEM, "get", "pvc", "data-agentwrit-broker-0"]);
    volume.expect("the volume of before is left as it is");
}

/// All hashes and signatures, from the first event on.
async fn assert_chain_verifies(broker: &Broker) {
    let port = broker.port();
    let verify = format!(
        "export AACTL_BROKER_URL=https://localhost:{port} AACTL_CA_CERT=ca.crt\n\
         kubectl -n {SYSTEM} get configmap agentwrit-ca -o jsonpath='{{.data.ca\\.crt}}' > ca.crt\n\
         AACTL_ADMIN_SECRET=$(kubectl -n {SYSTEM} get secret agentwrit-admin -o jsonpath='{{.data.admin-secret}}' | base64 -d)\n\
         export AACTL_ADMIN_SECRET\n\
         awrit audit verify"
    );
    Terminal::open().run(&verify, None).await.expect("the chain verifies");
}

#[tokio::test]
async fn a_pods_story_goes_on_while_replicas_are_torn_away() {
    let blocks = blocks_of(file!()).unwrap();
    let [move_store] = &blocks[..] else {
        panic!("one block is run here, not {}", blocks.len());
    };
    let _installation = alone().await;
    let client = cluster::client().await;
    let shop = Shop::open("replicas").await;
    shop.orders_service();
    let uid_before = shop.running_pod(&PodSpec::reader("before")).await;
    let trail_before = Broker::open(&client).await.unwrap().trail(&uid_before).await;
    assert!(!trail_before.is_empty());
    let database = Database::start(client.clone());
    database.enter(move_store).await;
    assert_moved(&database.password);
    // What was before the move has come along, event by event.
    let [first, _] = two_replicas(&client).await;
    let trail = first.broker.trail(&uid_before).await;
    let hashes = |trail: &[AuditEvent]| trail.iter().map(|event| event.hash.clone()).collect::<Vec<_>>();
    let known = hashes(&trail_before);
    assert_eq!(hashes(&trail).get(..known.len()), Some(&known[..]));
    // Its token has expired meanwhile, and its sidecar asks less often by now.
    shop.pod_ready("before", POD_START * 3).await;

    // Another pod gets a token, and uses it.
    let spec = PodSpec::reader("reader").annotation(inject::ANNOTATION_TTL_SECONDS, "20");
    let uid = shop.running_pod(&spec).await;
    shop.log_line("reader", "app", &["GET /orders -> 200"], seconds(20))
        .await;
    let [first, second] = two_replicas(&client).await;
    let session = eventually("both replicas know the token", seconds(10), async || {
        let (one, other) = (
            claims(&shop, &first.broker).await?,
            claims(&shop, &second.broker).await?,
        );
        if one.sid == other.sid {
            Ok(one)
        } else {
            Err("of two sessions".to_owned())
        }
    })
    .await
    .0;

    // It renews it, whichever replica its sidecar spoke with: each is torn away once, the other one goes on.
    kubectl(&[
        "--namespace",
        SYSTEM,
        "delete",
        "pod",
        &first.name,
        "--grace-period=0",
        "--force",
    ])
    .unwrap();
    renewed_twice(&shop, &second.broker, &session).await;
    let replicas = two_replicas(&client).await;
    let [old, new] = if replicas[0].name == second.name {
        replicas
    } else {
        let [new, old] = replicas;
        [old, new]
    };
    assert_eq!(old.name, second.name, "the other replica was left alone");
    node::kill_container(&old.container);
    renewed_twice(&shop, &new.broker, &session).await;
    let log = shop.logs("reader", "app");
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("-> 401") || line.contains("no token"))
        .collect();
    assert_eq!(refused, Vec::<&str>::new(), "the application never noticed");
    let pod = shop.pod("reader").await;
    assert_eq!(
        (sidecar(&pod).unwrap().restart_count, app(&pod).unwrap().restart_count),
        (0, 0)
    );

    // It loses it, at both within what is promised.
    let [one, other] = two_replicas(&client).await;
    let token = shop.token("reader").unwrap();
    one.broker.claims(&token).await.expect("the token stands");
    shop.delete_pod("reader", false).await;
    shop.pod_gone("reader").await;
    let ((), after) = eventually("both refuse the token", seconds(20), async || {
        one.broker.refuses(&token).await?;
        other.broker.refuses(&token).await
    })
    .await;
    assert!(
        after <= seconds(2),
        "refused {:.1} s after the pod's end",
        after.as_secs_f32()
    );

    // What happened is on record once, in one chain, whoever is asked.
    one.broker.records(&uid, "pod_ended").await;
    let trail = one.broker.trail_types(&uid).await;
    assert_eq!(other.broker.trail_types(&uid).await, trail);
    let count = |wanted: &str| trail.iter().filter(|found| *found == wanted).count();
    assert_eq!(
        (count("agent_registered"), count("token_released"), count("pod_ended")),
        (1, 1, 1),
        "{trail:?}"
    );
    assert!(count("token_renewed") >= 4, "{trail:?}");
    assert_chain_verifies(&other.broker).await;
    drop(shop);
    database.leave().await;
}
