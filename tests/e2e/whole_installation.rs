//! The documents' commands that replace or remove the whole installation, as a reader types them.

use agentwrit_client::AuditQuery;
use agentwrit_protocol::audit::AuditEvent;
use agentwrit_tests::documents::{Block, blocks_of};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use crate::support::broker::Broker;
use crate::support::cluster::{self, SYSTEM, alone, kubectl, rolled_out, run, script};
use crate::support::node;
use crate::support::pod::PodSpec;
use crate::support::reader::Reader;
use crate::support::registry::Registry;
use crate::support::shop::{Shop, from};
use crate::support::wait::{eventually, seconds};

const RESOURCES: &str = "agentapps,launchtokens";
const CRDS: [&str; 2] = ["crd/agentapps.agentwrit.io", "crd/launchtokens.agentwrit.io"];

/// Installs again whatever happens, so that the other tests have their cluster.
struct InstalledAgain;

impl Drop for InstalledAgain {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the process.
            let _ = run(&format!("{}/scripts/install.sh", cluster::REPO), &[]);
        } else {
            script("install.sh", &[]);
        }
    }
}

/// The blocks of the list, one after the other.
struct Steps {
    blocks: std::vec::IntoIter<Block>,
    reader: Reader,
}

impl Steps {
    /// Runs the next block, which must be of this page and have these words.
    async fn next(&mut self, page: &str, words: &str) {
        let block = self.blocks.next().expect("the list has a block for each step");
        assert_eq!(block.page, page, "{}", block.place());
        assert!(block.text.contains(words), "{}: no {words:?}", block.place());
        self.reader.runs(&block).await.unwrap();
    }
}

fn both_rolled_out() {
    for workload in ["statefulset/agentwrit-broker", "deployment/agentwrit-controller"] {
        rolled_out(workload).unwrap();
    }
}

async fn events_of(event_type: &str) -> Vec<AuditEvent> {
    let broker = Broker::open(&cluster::client().await).await.unwrap();
    let query = AuditQuery {
        event_type: Some(event_type.to_owned()),
        ..AuditQuery::default()
    };
    broker.client.audit_events(&broker.admin, &query).await.unwrap().events
}

/// Writes your-images.yaml with the digests that skopeo left, as docs/install.md shows it.
async fn writes_the_digests(reader: &mut Reader, registry: &Registry) {
    let repository = format!("{}/platform/agentwrit-$name", registry.name);
    let write = format!(
        "for name in broker controller sidecar; do\n  \
         printf '%s:\\n  image: {{repository: %s, digest: \"%s\"}}\\n' $name \"{repository}\" \"$(cat $name.digest)\"\n\
         done > your-images.yaml"
    );
    reader.terminal.run(&write, None).await.unwrap();
}

/// Images of the containers of agentwrit-system, and of the sidecar of a pod.
fn images(namespace: &str, path: &str) -> Vec<String> {
    let output = format!("--output=jsonpath={{range .items[*]}}{{{path}}}{{\"\\n\"}}{{end}}");
    let found = kubectl(&["--namespace", namespace, "get", "pods", &output]).unwrap();
    found.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_commands_for_the_whole_installation_work() {
    let blocks = blocks_of(file!()).unwrap();
    let _installation = alone().await;
    let registry = Registry::start().await;
    let mut reader = Reader::new();
    registry.write_client_settings(reader.terminal.folder());
    reader.registry = Some(registry.name.clone());
    let mut steps = Steps {
        blocks: blocks.into_iter(),
        reader,
    };
    let _again = InstalledAgain;

    steps.next("docs/install.md", "skopeo copy").await;
    // The nodes of kind have a loopback of their own; there the images are those that were loaded.
    if node::shares_the_loopback() {
        writes_the_digests(&mut steps.reader, &registry).await;
    }
    steps.next("docs/values.md", "broker.logLevel=trace").await;
    steps.next("docs/operate.md", "delete pod agentwrit-broker-0").await;
    steps.next("docs/operate.md", "broker.acceptClock=true").await;
    both_rolled_out();
    steps.next("docs/backup.md", "cronjob/agentwrit-backup").await;
    steps.next("docs/backup.md", "exec agentwrit-broker-0").await;
    steps.next("docs/backup.md", "broker.restored=").await;
    both_rolled_out();
    let restored = events_of("store_restored").await;
    let last = restored.last().expect("the restore is in the trail");
    assert!(last.detail.contains("declared"), "{}", last.detail);

    steps.next("docs/install.md", "delete launchtokens,agentapps").await;
    for left in [&CRDS[..], &["namespace/agentwrit-system"]].concat() {
        assert_eq!(kubectl(&["get", left, "--ignore-not-found"]).unwrap(), "", "{left}");
    }

    script("cluster.sh", &["reclaim-volumes"]);
    steps.next("docs/install.md", "helm install agentwrit").await;
    both_rolled_out();
    let shop = Shop::open("whole").await;
    shop.running_pod(&PodSpec::reader("reader")).await;
    if node::shares_the_loopback() {
        let system = images(SYSTEM, ".spec.containers[0].image");
        let sidecar = images(&shop.namespace, ".spec.initContainers[0].image");
        for image in [system, sidecar].concat() {
            let pulled = image.starts_with(&registry.name) && image.contains("@sha256:");
            assert!(pulled, "{image} is not of {}", registry.name);
        }
    }
    steps
        .next("docs/install.md", "controller.webhookClientCA.configMap")
        .await;
    both_rolled_out();
    // The API server of the tests has no client certificate.
    let pods: Api<Pod> = shop.api();
    let spec = PodSpec::reader("refused");
    eventually("the webhook asks for a certificate", seconds(30), async || {
        match pods
            .create(
                &PostParams {
                    dry_run: true,
                    ..PostParams::default()
                },
                &from(spec.0.clone()),
            )
            .await
        {
            Err(error) if error.to_string().contains("certificate required") => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("the pod is admitted".to_owned()),
        }
    })
    .await;

    steps.next("README.md", "helm uninstall agentwrit").await;
    steps.next("helm/agentwrit/README.md", "helm install agentwrit").await;
    both_rolled_out();
    shop.ready("order-reader").await;
    steps.next("docs/install.md", "helm uninstall agentwrit").await;
    let namespace = ["--namespace", shop.namespace.as_str()];
    kubectl(&[&namespace[..], &["delete", RESOURCES, "--all", "--wait=false"]].concat()).unwrap();
    let left = || kubectl(&[&namespace[..], &["get", RESOURCES, "--output=name"]].concat()).unwrap();
    assert_eq!(left().lines().count(), 2, "their finalizers keep them");
    steps.next("docs/install.md", "finalizers").await;
    eventually("the custom resources go", seconds(20), async || match left() {
        nothing if nothing.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    assert_eq!(steps.blocks.next(), None, "no step runs it");
}
