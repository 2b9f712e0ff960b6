//! Who reaches the database, and how: passwords, TLS, and a pool that is used up.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use agentwrit_store::testing::surroundings;
use agentwrit_store::{Store, StoreError};
use agentwrit_store_postgres::testing::{Database, Durability, Server};
use agentwrit_store_postgres::{OpenOptions, PostgresStore, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

async fn open(database: &Database, settings: Settings) -> Store {
    let options = OpenOptions {
        settings,
        ..database.options()
    };
    Store::new(PostgresStore::open(options, surroundings().0).await.unwrap())
}

#[tokio::test]
async fn a_starved_pool_is_told_at_once() {
    let database = Database::new();
    let mut settings = database.settings();
    settings.pool = 1;
    settings.pool_wait = Duration::from_millis(1);
    let (around, _, recorder) = surroundings();
    let options = OpenOptions {
        settings,
        ..database.options()
    };
    let store = Store::new(PostgresStore::open(options, around).await.unwrap());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let holding = store.query(move |_| {
        Box::pin(async move {
            begun.send(()).unwrap();
            released.await.unwrap();
            Ok(())
        })
    });
    let starving = async {
        begins.await.unwrap();
        let error = store.query(|tx| tx.apps()).await.unwrap_err();
        assert!(matches!(error, StoreError::PoolStarved), "{error}");
        assert_eq!(
            error.to_string(),
            "database pool acquire timed out — request path starved"
        );
        assert_eq!(recorder.take_failed(), ["pool_acquire"]);
        release.send(()).unwrap();
    };
    let (held, ()) = tokio::join!(holding, starving);
    held.unwrap();
    store.query(|tx| tx.apps()).await.unwrap();
}

#[tokio::test]
async fn a_read_that_writes_is_refused() {
    let database = Database::new();
    let store = open(&database, database.settings()).await;
    let writing = store.query(|tx| tx.bar_agent("spiffe://d/agent/o/t/0123456789abcdef"));
    let error = writing.await.unwrap_err();
    assert_eq!(error.kind(), "read_only", "{error}");
    store.query(|tx| tx.apps()).await.unwrap();
}

/// A server of its own, with a database for the roles `sam` and `tess`.
struct Guarded {
    server: Server,
    database: String,
    folder: tempfile::TempDir,
}

impl Guarded {
    fn new(server: Server) -> Self {
        let database = server.database();
        server
            .sql(
                &database,
                "CREATE ROLE sam LOGIN PASSWORD 'hunter2'; CREATE ROLE tess LOGIN",
            )
            .unwrap();
        for role in ["sam", "tess"] {
            server
                .sql(&database, &format!("GRANT CREATE ON DATABASE {database} TO {role}"))
                .unwrap();
        }
        Self {
            server,
            database,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn failure(&self, settings: Settings) -> Option<&'static str> {
        let options = OpenOptions {
            settings,
            mark: self.folder.path().join("mark"),
            key_is_new: true,
            max_ttl: agentwrit_protocol::Ttl::ZERO,
            retention: agentwrit_store::Retention::default(),
            installation: agentwrit_store::Installation::default(),
            declared: agentwrit_store::Declared::default(),
        };
        let store = PostgresStore::open(options, surroundings().0).await.unwrap();
        let store = Store::new(store);
        let failure = store.failure();
        assert_eq!(store.connected(), failure.is_none());
        failure
    }
}

#[tokio::test]
async fn a_password_comes_from_a_file_that_is_read_each_time() {
    let guarded = Guarded::new(Server::start(Durability::Fast));
    guarded
        .server
        .guard(&["local all sam scram-sha-256", "local all all trust"]);
    let url = guarded.server.url("sam", &guarded.database);
    let file = guarded.folder.path().join("password");
    let settings = || Settings::parse(&url, Some(&file)).unwrap();
    assert_eq!(guarded.failure(settings()).await, Some("access"), "there is no file");
    for (password, wanted) in [("", Some("access")), ("wrong\n", Some("access")), ("hunter2\n", None)] {
        std::fs::write(&file, password).unwrap();
        assert_eq!(guarded.failure(settings()).await, wanted, "{password:?}");
    }
    let none = Settings::parse(&url, None).unwrap();
    assert_eq!(guarded.failure(none).await, Some("access"));
    let missing = Settings::parse(&guarded.server.url("owner", "nowhere"), None).unwrap();
    assert_eq!(guarded.failure(missing).await, Some("access"), "no such database");
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    /// Writes a certificate for a name, with its key, and this authority's.
    fn issue(&self, folder: &Path, stem: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |end: &str, text: String| std::fs::write(folder.join(format!("{stem}.{end}")), text).unwrap();
        write("crt", certificate.pem());
        write("key", key.serialize_pem());
        write("ca", self.issuer.pem());
    }
}

#[tokio::test]
async fn tls_proves_the_servers_name_and_the_clients() {
    let files = tempfile::tempdir().unwrap();
    let folder = files.path();
    let (ours, other) = (Authority::new(), Authority::new());
    ours.issue(folder, "server", "localhost");
    ours.issue(folder, "client", "tess");
    other.issue(folder, "other", "tess");
    let file = |name: &str| folder.join(name);
    let server = Server::start_with_tls(&file("server.crt"), &file("server.key"), &file("server.ca"));
    let guarded = Guarded::new(server);
    let port = guarded.server.port();
    let parse = |host: &str, options: &str| {
        let url = format!("postgres://tess@{host}:{port}/{}?{options}", guarded.database);
        Settings::parse(&url.replace("DIR", &folder.display().to_string()), None).unwrap()
    };
    let client = "&sslcert=DIR/client.crt&sslkey=DIR/client.key";
    let (ca, wrong_ca) = ("sslrootcert=DIR/server.ca", "sslrootcert=DIR/other.ca");
    for (host, options, wanted) in [
        ("localhost", format!("{ca}{client}"), None),
        ("127.0.0.1", format!("{ca}{client}"), Some("connection")),
        ("localhost", format!("{wrong_ca}{client}"), Some("connection")),
        (
            "localhost",
            format!("{ca}&sslcert=DIR/other.crt&sslkey=DIR/other.key"),
            Some("connection"),
        ),
        ("localhost", ca.to_owned(), Some("access")),
        ("localhost", "sslmode=disable".to_owned(), Some("access")),
        ("localhost", "sslrootcert=DIR/missing".to_owned(), Some("access")),
    ] {
        assert_eq!(guarded.failure(parse(host, &options)).await, wanted, "{host} {options}");
    }
}
