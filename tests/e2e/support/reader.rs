//! A reader of the documents, who types their commands.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use agentwrit_tests::documents::Block;

use crate::support::cluster::{RELEASE, SYSTEM, kubectl};
use crate::support::pod::POD_START;
use crate::support::shop::Shop;
use crate::support::terminal::Terminal;

/// What the documents write where each reader has a word of his own.
const PLACEHOLDERS: [&str; 7] = ["POD_UID", "POD", "NAMESPACE", "NODE", "HASH", "1042", "ORGANISATION"];
/// The id that docs/operate.md shows for an app, and how to learn the one that `awrit app register` made.
const APP_ID: &str = "app-order-service-3f9a1c";
const REGISTERED_APP_ID: &str = r#""$(awrit app list | sed -n 's/.* \(app-order-service-[^ ]*\) .*/\1/p')""#;
/// A reader with a terminal.
pub(crate) struct Reader {
    pub(crate) terminal: Terminal,
    /// Local port that leads to the broker, instead of 8443, which may be taken on the machine of the tests.
    pub(crate) port: u16,
    /// Host and port of the registry that he pushes to.
    pub(crate) registry: Option<String>,
    words: BTreeMap<&'static str, String>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self {
            terminal: Terminal::open(),
            port: listener.local_addr().unwrap().port(),
            registry: None,
            words: BTreeMap::new(),
        }
    }

    pub(crate) async fn runs(&mut self, block: &Block) -> Result<(), String> {
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
            let values = format!(
                "[ -e your-images.yaml ] || helm get values {RELEASE} --namespace {SYSTEM} --output yaml > your-images.yaml"
            );
            self.terminal.run(&values, None).await?;
        }
        if block.contains("audit-*.jsonl") {
            // As the broker names what it exports.
            self.terminal.run("cp events.jsonl audit-0-1-9.jsonl", None).await?;
        }
        if block.contains("--from-file=ca.crt") {
            let certificate =
                "openssl req -x509 -newkey ed25519 -noenc -keyout ca.key -out ca.crt -subj /CN=api-server -days 2";
            self.terminal.run(certificate, None).await?;
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
        let block = match &self.registry {
            Some(registry) => block.replace("ghcr.io/ORGANISATION", &format!("{registry}/platform")),
            None => block,
        };
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
    pub(crate) async fn looks_for_the_pod(&mut self, shop: &Shop) {
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
