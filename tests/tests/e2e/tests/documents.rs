//! The documents' commands, as a reader types them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use agentwrit_tests::documents::{Block, blocks_of};

use crate::cluster::{self, RELEASE, REPO, SYSTEM, alone, kubectl, run, script};
use crate::pod::POD_START;
use crate::shop::Shop;
use crate::terminal::Terminal;
use crate::wait::{eventually, seconds};

/// What the documents write where each reader has a word of his own.
const PLACEHOLDERS: [&str; 6] = ["POD_UID", "POD", "NAMESPACE", "NODE", "HASH", "1042"];
/// The id that docs/operate.md shows for an app, and how to learn the one that `awrit app register` made.
const APP_ID: &str = "app-order-service-3f9a1c";
const REGISTERED_APP_ID: &str = r#""$(awrit app list | sed -n 's/.* \(app-order-service-[^ ]*\) .*/\1/p')""#;
/// What docs/install.md binds to a group, for the whole cluster.
const BINDING: &str = "platform-team";

/// A reader with a terminal.
struct Reader {
    terminal: Terminal,
    /// Local port that leads to the broker, instead of 8443, which may be taken on the machine of the tests.
    port: u16,
    words: BTreeMap<&'static str, String>,
}

impl Reader {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            terminal: Terminal::open(),
            port: listener.local_addr().unwrap().port(),
            words: BTreeMap::new(),
        }
    }

    async fn runs(&mut self, block: &Block) -> Result<(), String> {
        self.prepares(&block.text).await?;
        let text = self.fills_in(&block.text)?;
        let printed = self.terminal.run(&text, block.until.as_deref()).await;
        let printed = printed.map_err(|error| format!("{}: {error}", block.place()))?;
        match block.prints.iter().find(|words| !printed.contains(words.as_str())) {
            Some(words) => Err(format!(
                "{}: {words:?} is not in what it printed:\n{printed}",
                block.place()
            )),
            None => Ok(()),
        }
    }

    /// What the text around a block has the reader do before it.
    async fn prepares(&mut self, block: &str) -> Result<(), String> {
        if block.contains("your-images.yaml") {
            let values = format!("helm get values {RELEASE} --namespace {SYSTEM} --output yaml > your-images.yaml");
            self.terminal.run(&values, None).await?;
        }
        if block.contains("audit-*.jsonl") {
            // As the broker names what it exports.
            self.terminal.run("cp events.jsonl audit-0-1-9.jsonl", None).await?;
        }
        if block.contains("HASH") {
            let verdict = self.terminal.run("awrit audit verify", None).await?;
            let value = |name: &str| {
                let mut rows = verdict.lines().map(str::split_whitespace);
                let found = rows.find_map(|mut row| row.next().filter(|word| *word == name).and_then(|_| row.next()));
                found
                    .map(str::to_owned)
                    .ok_or_else(|| format!("no {name} in:\n{verdict}"))
            };
            self.words.insert("1042", value("COUNT")?);
            self.words.insert("HASH", value("HEAD")?);
        }
        Ok(())
    }

    fn fills_in(&self, block: &str) -> Result<String, String> {
        let block = block
            .replace("8443:8443", &format!("{}:8443", self.port))
            .replace("https://localhost:8443", &format!("https://localhost:{}", self.port))
            .replace(APP_ID, REGISTERED_APP_ID);
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut filled = String::new();
        let mut rest = block.as_str();
        while let Some(begin) = rest.find(is_of_word) {
            let end = rest[begin..]
                .find(|c| !is_of_word(c))
                .map_or(rest.len(), |length| begin + length);
            let word = &rest[begin..end];
            filled.push_str(&rest[..begin]);
            match self.words.get(word) {
                Some(value) => filled.push_str(value),
                None if PLACEHOLDERS.contains(&word) => return Err(format!("{word} is not known yet: {block}")),
                None => filled.push_str(word),
            }
            rest = &rest[end..];
        }
        Ok(filled + rest)
    }

    /// Takes the pod of examples/shop for the placeholders.
    async fn looks_for_the_pod(&mut self, shop: &Shop) {
        let path = "--output=jsonpath={.items[0].metadata.name} {.items[0].metadata.uid} {.items[0].spec.nodeName}";
        let namespace = shop.namespace.as_str();
        let found = kubectl(&[
            "--namespace",
            namespace,
            "get",
            "pods",
            "--selector=app=order-reader",
            path,
        ])
        .unwrap();
        let found: Vec<&str> = found.split(' ').collect();
        let [pod, uid, node] = found[..] else {
            panic!("{found:?}")
        };
        shop.pod_ready(pod, POD_START).await;
        for (name, value) in [("POD", pod), ("POD_UID", uid), ("NODE", node), ("NAMESPACE", namespace)] {
            self.words.insert(name, value.to_owned());
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "clusterrolebinding", BINDING, "--ignore-not-found"]);
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
    let broker = ["rollout", "status", "statefulset/agentwrit-broker", "--timeout=90s"];
    kubectl(&[&["--namespace", SYSTEM], &broker[..]].concat())?;
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

#[test]
fn placeholders_are_filled_in_by_whole_words() {
    let mut reader = Reader::new();
    reader.port = 7;
    reader.words = BTreeMap::from([("POD", "a".to_owned()), ("POD_UID", "b".to_owned())]);
    let filled = reader.fills_in("x POD_UID /POD:15081/ PODS svc:8443 forward 8443:8443 https://localhost:8443/");
    assert_eq!(
        filled.unwrap(),
        "x b /a:15081/ PODS svc:8443 forward 7:8443 https://localhost:7/"
    );
    let error = reader.fills_in("drain NODE").unwrap_err();
    assert!(error.contains("NODE is not known yet"), "{error}");
}
