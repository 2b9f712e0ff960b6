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

    /// Why the store isn't open, and what to do about it; the latter in the log as well.
    async fn failure(&self, settings: Settings) -> Option<(&'static str, &'static str)> {
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
        failure.map(|failure| (failure, store.failure_advice().unwrap_or_default()))
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
    let unreadable = Some((
        "access",
        "AA_DATABASE_PASSWORD_FILE must name a file that can be read, with one line of 1 to 1024 bytes, the role's password",
    ));
    let wrong = Some((
        "access",
        "the password in the file of AA_DATABASE_PASSWORD_FILE, or in AA_DATABASE_URL, must be that of the role",
    ));
    assert_eq!(guarded.failure(settings()).await, unreadable, "there is no file");
    for (password, wanted) in [("", unreadable), ("wrong\n", wrong), ("hunter2\n", None)] {
        std::fs::write(&file, password).unwrap();
        assert_eq!(guarded.failure(settings()).await, wanted, "{password:?}");
    }
    let none = Settings::parse(&url, None).unwrap();
    let asked = "the server asks for a password: name its file in AA_DATABASE_PASSWORD_FILE";
    assert_eq!(guarded.failure(none).await, Some(("access", asked)));
}

#[tokio::test]
async fn what_cant_be_used_is_told_with_the_setting() {
    let guarded = Guarded::new(Server::start(Durability::Fast));
    let server = &guarded.server;
    server.sql("postgres", "CREATE ROLE weak LOGIN").unwrap();
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    server.sql("postgres", latin).unwrap();
    let database = &guarded.database;
    // Of a port on which nothing listens, and of a server that answers in the clear alone.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let clear = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = clear.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = clear.accept() {
            let mut question = [0; 8];
            let _ = std::io::Read::read_exact(&mut stream, &mut question);
            let _ = std::io::Write::write_all(&mut stream, b"N");
        }
    });
    let ca = guarded.folder.path().join("ca.crt");
    Authority::new().issue(guarded.folder.path(), "ca", "localhost");
    std::fs::rename(guarded.folder.path().join("ca.ca"), &ca).unwrap();
    let over = |address: std::net::SocketAddr| {
        format!(
            "postgres://tess@localhost:{}/x?sslrootcert={}",
            address.port(),
            ca.display()
        )
    };
    for (url, wanted) in [
        (
            server.url("owner", "nowhere"),
            ("access", "AA_DATABASE_URL must name a database that is there"),
        ),
        (
            server.url("weak", database),
            ("access", "the role of AA_DATABASE_URL must own the database"),
        ),
        (
            server.url("owner", "latin"),
            (
                "database",
                "AA_DATABASE_URL must name a database made with ENCODING 'UTF8'",
            ),
        ),
        (
            over(closed),
            (
                "connection",
                "AA_DATABASE_URL must name the host and port of a PostgreSQL that runs",
            ),
        ),
        (
            over(address),
            (
                "access",
                "the server must speak TLS (ssl = on), or AA_DATABASE_URL must say sslmode=disable",
            ),
        ),
        (
            "postgres://tess@no.such.host.invalid/x?sslmode=disable".to_owned(),
            (
                "connection",
                "AA_DATABASE_URL must name the host and port of a PostgreSQL that runs",
            ),
        ),
    ] {
        let (kind, advice) = guarded.failure(Settings::parse(&url, None).unwrap()).await.unwrap();
        assert_eq!(
            (kind, advice.starts_with(wanted.1)),
            (wanted.0, true),
            "{url}: {advice}"
        );
    }
}

#[tokio::test]
async fn a_standby_is_told_from_the_primary() {
    let mut guarded = Guarded::new(Server::start(Durability::Kept));
    let settings = || Settings::parse(&guarded.server.url("owner", &guarded.database), None).unwrap();
    let before = settings();
    assert_eq!(guarded.failure(before.clone()).await, None);
    guarded.server.kill();
    std::fs::write(guarded.server.folder().join("data/standby.signal"), "").unwrap();
    guarded.server.restart();
    let wanted = "AA_DATABASE_URL must name the primary, which takes writes";
    assert_eq!(guarded.failure(before).await, Some(("read_only", wanted)));
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
        (
            "127.0.0.1",
            format!("{ca}{client}"),
            Some("sslrootcert must hold the authority of"),
        ),
        (
            "localhost",
            format!("{wrong_ca}{client}"),
            Some("sslrootcert must hold the authority of"),
        ),
        (
            "localhost",
            format!("{ca}&sslcert=DIR/other.crt&sslkey=DIR/other.key"),
            Some("sslcert and sslkey of AA_DATABASE_URL must be"),
        ),
        (
            "localhost",
            format!("{ca}&sslcert=DIR/client.crt&sslkey=DIR/server.key"),
            Some("sslcert of AA_DATABASE_URL must name a PEM file"),
        ),
        (
            "localhost",
            format!("{ca}&sslcert=DIR/client.crt&sslkey=DIR/client.crt"),
            Some("sslkey of AA_DATABASE_URL must name a PEM file"),
        ),
        (
            "localhost",
            ca.to_owned(),
            Some("pg_hba.conf of the server must let the role"),
        ),
        (
            "localhost",
            "sslmode=disable".to_owned(),
            Some("pg_hba.conf of the server must let the role"),
        ),
        (
            "localhost",
            "sslrootcert=DIR/missing".to_owned(),
            Some("sslrootcert of AA_DATABASE_URL must name a PEM file"),
        ),
    ] {
        let failure = guarded.failure(parse(host, &options)).await;
        let as_wanted = match (failure, wanted) {
            (Some((kind, advice)), Some(wanted)) => kind == "access" && advice.starts_with(wanted),
            (failure, wanted) => failure.is_none() && wanted.is_none(),
        };
        assert!(as_wanted, "{host} {options}: {failure:?}");
    }
}
