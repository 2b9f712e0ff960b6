//! The documents' commands, as a reader types them.

use std::net::{Ipv4Addr, TcpStream};

use agentwrit_tests::documents::blocks_of;

use crate::support::cluster::{self, RELEASE, REPO, SYSTEM, alone, kubectl, rolled_out, run, script};
use crate::support::reader::Reader;
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

/// What docs/install.md binds to a group, for the whole cluster.
struct Binding;

impl Drop for Binding {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "clusterrolebinding", "platform-team", "--ignore-not-found"]);
    }
}

/// The installation as it is before the first block of docs/operate.md: without a Secret, and nobody can log in.
fn without_admin_login() -> Result<(), String> {
    let chart = format!("{REPO}/helm/agentwrit");
    let upgrade = [
        "upgrade",
        RELEASE,
        &chart,
        "--namespace",
        SYSTEM,
        "--reset-then-reuse-values",
    ];
    let output = run("helm", &[&upgrade[..], &["--set", "admin.existingSecret="]].concat())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    kubectl(&["--namespace", SYSTEM, "delete", "secret", "agentwrit-admin"])?;
    rolled_out("statefulset/agentwrit-broker")?;
    Ok(())
}

#[tokio::test]
async fn the_commands_of_the_documents_work_as_written() {
    let blocks = blocks_of(file!()).unwrap();
    let (login, others) = blocks.split_first().unwrap();
    assert!(
        login.text.contains("create secret generic agentwrit-admin"),
        "{}",
        login.place()
    );
    let mut reader = Reader::new();
    let _binding = Binding;

    // It replaces the broker's pod.
    let installation = alone().await;
    let done = match without_admin_login() {
        Ok(()) => reader.runs(login).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        // So that the other tests have their installation.
        script("install.sh", &[]);
    }
    done.unwrap();
    let _installation = installation.downgrade();
    eventually("the port leads to the broker", seconds(20), async || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, reader.port)).map_err(|error| error.to_string())
    })
    .await;

    // Where examples/shop is applied; a demo may have left it there.
    kubectl(&["delete", "namespace", "shop", "--ignore-not-found", "--timeout=90s"]).unwrap();
    let shop = Shop {
        client: cluster::client().await,
        namespace: "shop".to_owned(),
    };
    for block in others {
        reader.runs(block).await.unwrap();
        if block.page == "examples/README.md" {
            reader.looks_for_the_pod(&shop).await;
        }
    }
}
