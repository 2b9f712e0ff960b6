//! A PostgreSQL in the cluster, and the release moved to it and back.

use agentwrit_controller::MARK_ANNOTATION;
use agentwrit_protocol::StoreMark;
use agentwrit_testkit::Authority;
use agentwrit_tests::documents::Block;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use crate::support::cluster::{REPO, SYSTEM, kubectl, run, script};
use crate::support::reader::Reader;
use crate::support::wait::{eventually, seconds};

const NAMESPACE: &str = "agentwrit-postgres";
const HOST: &str = "postgres.agentwrit-postgres.svc";
/// Secret with the password, for the server and for the brokers.
const SECRET: &str = "agentwrit-database";
const SERVER_SECRET: &str = "postgres-tls";
const CA: &str = "agentwrit-database-ca";
/// Moves the store of the broker.
const JOB: &str = "examples/migrate/job.yaml";

/// A new server with a password and certificates of its own; the release is on it until [`Database::leave`].
pub(crate) struct Database {
    client: Client,
    pub(crate) password: String,
}

impl Database {
    pub(crate) fn start(client: Client) -> Self {
        // What a run that was killed left has another password and another CA.
        remove();
        apply("namespace.yaml");
        let password = String::from_utf8(run("openssl", &["rand", "-hex", "24"]).unwrap().stdout).unwrap();
        let database = Self {
            client,
            password: password.trim().to_owned(),
        };
        database.secrets();
        apply("server.yaml");
        let rollout = [
            "--namespace",
            NAMESPACE,
            "rollout",
            "status",
            "statefulset/postgres",
            "--timeout=120s",
        ];
        kubectl(&rollout).unwrap();
        database
    }

    /// By files: a command line is for all to see.
    fn secrets(&self) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let authority = Authority::named("CA of the database", |_| ());
        let server = authority.issue(HOST);
        let password = format!("--from-file=password={}", file("password", &self.password));
        for namespace in [NAMESPACE, SYSTEM] {
            create(namespace, &["secret", "generic", SECRET, &password]);
        }
        let certificate = format!("--cert={}", file("tls.crt", &server.pem()));
        let key = format!("--key={}", file("tls.key", &server.key_pem()));
        create(NAMESPACE, &["secret", "tls", SERVER_SECRET, &certificate, &key]);
        let ca = format!("--from-file=ca.crt={}", file("ca.crt", &authority.pem()));
        create(SYSTEM, &["configmap", CA, &ca]);
    }

    /// Moves the release and what its store holds to the database by the commands of docs/postgres.md, as a reader types them
    /// who has put the names of this database in. The store stays the same: so does its epoch.
    pub(crate) async fn enter(&self, block: &Block) {
        let before = self.epoch().await;
        assert!(before.is_some(), "the controller knows the store");
        let mut reader = Reader::new();
        let folder = reader.terminal.folder().to_owned();
        std::fs::copy(
            format!("{REPO}/tests/e2e/postgres/values.yaml"),
            folder.join("database.yaml"),
        )
        .unwrap();
        let mut job = std::fs::read_to_string(format!("{REPO}/{JOB}")).unwrap();
        for (theirs, ours) in [
            ("postgres.data.svc", HOST),
            ("{name: database-ca}", &format!("{{name: {CA}}}")),
        ] {
            assert_eq!(job.matches(theirs).count(), 1, "{JOB}: {theirs}");
            job = job.replace(theirs, ours);
        }
        // The examples are those of the checkout, which are left as they are.
        std::fs::remove_file(folder.join("examples")).unwrap();
        std::fs::create_dir_all(folder.join(JOB).parent().unwrap()).unwrap();
        std::fs::write(folder.join(JOB), job).unwrap();
        reader.runs(block).await.unwrap();
        assert_eq!(self.epoch().await, before, "it is the same store");
    }

    /// Moves the release back to its volume. The store there is the one of before the move, which counts as put back from a copy:
    /// another epoch, which the controller sees within seconds. Then tokens stand.
    pub(crate) async fn leave(self) {
        let before = self.epoch().await;
        script("install.sh", &["--set", &put_back_now()]);
        eventually(
            "the controller knows the other store",
            seconds(60),
            async || match self.epoch().await {
                Some(now) if Some(&now) != before.as_ref() => Ok(()),
                now => Err(format!("the Lease's mark is of epoch {now:?}")),
            },
        )
        .await;
    }

    /// Epoch of the mark that the controller keeps.
    async fn epoch(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM);
        let lease = leases.get_opt("agentwrit-controller").await.unwrap()?;
        let mark = lease.metadata.annotations?.remove(MARK_ANNOTATION)?;
        Some(StoreMark::parse(&mark).unwrap().epoch)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let workload = ["--namespace", NAMESPACE, "logs", "statefulset/postgres", "--tail=40"];
            eprintln!("--- postgres\n{}", kubectl(&workload).unwrap_or_else(|error| error));
            // The other tests have their installation; a second panic would end the process.
            let _ = run(&format!("{REPO}/scripts/install.sh"), &["--set", &put_back_now()]);
        }
        remove();
    }
}

/// What the broker is told of a store that was moved away and is used again.
fn put_back_now() -> String {
    let now = String::from_utf8(run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap().stdout).unwrap();
    format!("broker.restored={}", now.trim())
}

fn apply(file: &str) {
    kubectl(&["apply", "--filename", &format!("{REPO}/tests/e2e/postgres/{file}")]).unwrap();
}

fn create(namespace: &str, arguments: &[&str]) {
    kubectl(&[&["--namespace", namespace, "create"], arguments].concat()).unwrap();
}

fn remove() {
    // The Job stays for a week otherwise, and the next run would find it done.
    for object in [
        format!("secret/{SECRET}"),
        format!("configmap/{CA}"),
        "job/agentwrit-migrate".to_owned(),
    ] {
        let _ = kubectl(&["--namespace", SYSTEM, "delete", &object, "--ignore-not-found"]);
    }
    let _ = kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s"]);
}
