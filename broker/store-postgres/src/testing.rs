//! A real PostgreSQL server for tests: on a temporary data folder, as a user without privileges, on a socket.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "for tests; a failure is a panic"
)]

mod database;
pub mod proxy;

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

pub use self::database::{Database, server};
pub use crate::schema::Migration;
use crate::settings::Settings;

static FURTHER: OnceLock<Vec<Migration>> = OnceLock::new();

/// Has this process be a newer program: one that knows these migrations, too. Before it opens any store.
pub fn know_further_migrations(migrations: Vec<Migration>) {
    FURTHER.set(migrations).unwrap();
}

/// How many migrations the source has.
pub fn migrations() -> i64 {
    crate::schema::program()
}

pub(crate) fn further_migrations() -> &'static [Migration] {
    FURTHER.get().map_or(&[], Vec::as_slice)
}

/// Whom the server runs as when the tests run as root, which it refuses to: the first of them that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// Ends the server, and removes its folder, when the process that holds its standard input is gone, however it went.
const KEEPER: &str = "\"$0\" \"$@\" & server=$!; cat >/dev/null; kill -QUIT $server 2>/dev/null; wait $server; rm -rf \"$AGENTWRIT_FOLDER\"";

/// Whether the server makes what it has committed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync=on`, as in production.
    Kept,
    /// `fsync=off`: for tests that don't end the server.
    Fast,
}

/// A running server. It ends with the value, or with the process.
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// The server's settings, as arguments.
    arguments: Vec<String>,
    /// Those of earlier runs, too: each removes the folder at its end.
    keepers: Vec<Child>,
    _folder: TempDir,
}

/// The folder with the server's programs: that of the newest version, or `AGENTWRIT_POSTGRES_BIN`.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    let debian = newest.map(|folder| folder.join("bin"));
    let found = debian.into_iter().chain(["/usr/bin".into()]);
    let mut found = std::env::var_os("AGENTWRIT_POSTGRES_BIN")
        .map(PathBuf::from)
        .into_iter()
        .chain(found);
    found
        .find(|folder| folder.join("initdb").exists())
        .unwrap_or_else(|| panic!("no PostgreSQL server is installed: scripts/setup.sh packages"))
}

/// Number of a user and of its group.
fn unprivileged() -> Option<(u32, u32)> {
    let own = std::fs::metadata("/proc/self").unwrap();
    if own.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    Some(USERS.iter().find_map(|name| find(name)).unwrap())
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    // The server's own settings are ours alone.
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/");
    command
}

impl Server {
    /// Makes a data folder and starts a server on it, which listens on a socket in it.
    pub fn start(durability: Durability) -> Self {
        let mut server = Self::make(durability, Path::new("/tmp"), &[]);
        server.run();
        server
    }

    /// The same where `/tmp` may be memory, with these settings: for measurements, whose commits must reach a disk.
    pub fn start_on_disk(settings: &[String]) -> Self {
        let mut server = Self::make(Durability::Kept, Path::new("/var/tmp"), &[]);
        server.arguments.extend_from_slice(settings);
        server.run();
        server
    }

    /// The same with its data in a new folder of this one, its write-ahead log in another, and these settings.
    pub fn start_on(data: &Path, wal: &Path, settings: &[&str]) -> Self {
        let wal = wal.join("wal");
        std::fs::create_dir(&wal).unwrap();
        if let Some((user, group)) = unprivileged() {
            chown(&wal, Some(user), Some(group)).unwrap();
        }
        let wal = format!("--waldir={}", wal.display());
        let mut server = Self::make(Durability::Kept, data, &[&wal, "--wal-segsize=1"]);
        server
            .arguments
            .extend(settings.iter().map(|setting| (*setting).to_owned()));
        server.run();
        server
    }

    /// The same, and by TLS on 127.0.0.1 for whoever has a certificate of this authority with the role's name: PEM files of
    /// the server's certificate, its key, and the authority.
    pub fn start_with_tls(certificate: &Path, key: &Path, ca: &Path) -> Self {
        let mut server = Self::make(Durability::Fast, Path::new("/tmp"), &[]);
        server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (from, name) in [(certificate, "tls.crt"), (key, "tls.key"), (ca, "tls.ca")] {
            let to = server.folder.join("data").join(name);
            std::fs::copy(from, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = unprivileged() {
                chown(&to, Some(user), Some(group)).unwrap();
            }
        }
        server.allow(&["local all all trust", "hostssl all all 127.0.0.1/32 cert"]);
        server.arguments.extend([
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", server.port),
            "ssl=on".to_owned(),
            "ssl_cert_file=tls.crt".to_owned(),
            "ssl_key_file=tls.key".to_owned(),
            "ssl_ca_file=tls.ca".to_owned(),
        ]);
        server.run();
        server
    }

    fn make(durability: Durability, parent: &Path, options: &[&str]) -> Self {
        let temporary = tempfile::Builder::new().prefix("aw-pg-").tempdir_in(parent).unwrap();
        let folder = temporary.path().to_owned();
        let user = unprivileged();
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let made = command(&programs().join("initdb"), user)
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username=owner",
                "--no-sync",
                "-D",
            ])
            .arg(folder.join("data"))
            .args(options)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let fsync = match durability {
            Durability::Kept => "fsync=on",
            Durability::Fast => "fsync=off",
        };
        let socket = format!("unix_socket_directories={}", folder.display());
        let arguments = [
            &socket,
            "listen_addresses=",
            fsync,
            "max_connections=200",
            "shared_buffers=32MB",
        ];
        Self {
            folder,
            port: 5432,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            keepers: Vec::new(),
            _folder: temporary,
        }
    }

    fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .unwrap();
        let mut keeper = command(Path::new("/bin/sh"), unprivileged());
        keeper
            .args(["-c", KEEPER])
            .arg(programs().join("postgres"))
            .arg("-D")
            .arg(self.folder.join("data"));
        for setting in &self.arguments {
            keeper.args(["-c", setting]);
        }
        let keeper = keeper
            .env("AGENTWRIT_FOLDER", &self.folder)
            // What ends the tests from a keyboard must not end it before it has removed the folder.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.keepers.push(keeper.unwrap());
        self.wait();
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        let asked = self.program("pg_isready").args(["-q"]).status();
        asked.unwrap().success()
    }

    /// One of PostgreSQL's programs, which reaches the server as the owner of all.
    pub fn program(&self, name: &str) -> Command {
        let mut command = command(&programs().join(name), unprivileged());
        command
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "owner");
        command
    }

    /// Its folder: that of the socket, and of `data`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks until it answers: there is no event to wait for.
    fn wait(&self) {
        let ready = "for i in $(seq 300); do \"$0\" -q -U owner && exit 0; sleep 0.1; done; exit 1";
        let waited = command(Path::new("/bin/sh"), None)
            .args(["-c", ready])
            .arg(programs().join("pg_isready"))
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .status()
            .unwrap();
        assert!(waited.success(), "the server doesn't come up: {}", self.log());
    }

    /// Runs SQL in a database as the owner of all, and answers what it prints.
    ///
    /// # Errors
    /// What psql says.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = command(&programs().join("psql"), None)
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "owner",
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Makes an empty database, and answers its name.
    pub fn database(&self) -> String {
        self.copy_of("template1")
    }

    /// Copies a database, whose connections end, and answers the copy's name.
    pub fn copy_of(&self, database: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        // One that was connected may not have noticed its own end yet.
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        self.sql("postgres", &end).unwrap();
        let name = format!("d{}", NEXT.fetch_add(1, Ordering::SeqCst));
        self.create_database(&name, database);
        name
    }

    /// Makes a database of this name as a copy of another; `template1` is empty.
    pub fn create_database(&self, name: &str, of: &str) {
        let sql = format!("CREATE DATABASE {name} TEMPLATE {of}");
        self.sql("postgres", &sql).unwrap();
    }

    /// Removes a database, whoever is connected to it.
    pub fn drop_database(&self, name: &str) {
        let sql = format!("DROP DATABASE {name} WITH (FORCE)");
        self.sql("postgres", &sql).unwrap();
    }

    /// All that is in a database, as `pg_dump` writes it.
    pub fn dump(&self, database: &str) -> String {
        let mut dump = command(&programs().join("pg_dump"), None);
        dump.args(["--inserts", "-U", "owner", database])
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string());
        let output = dump.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The URL of a database, for a role.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{role}@:{}/{database}?host={}",
            self.port,
            self.folder.display()
        )
    }

    /// The port, also of its socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How the owner reaches a database.
    pub fn settings(&self, database: &str) -> Settings {
        Settings::parse(&self.url("owner", database), None).unwrap()
    }

    /// Replaces who may connect and how: lines of `pg_hba.conf`.
    pub fn guard(&self, lines: &[&str]) {
        self.allow(lines);
        self.sql("postgres", "SELECT pg_reload_conf()").unwrap();
    }

    fn allow(&self, lines: &[&str]) {
        let mut text = lines.join("\n");
        text.push('\n');
        // Written over, so that it stays the server's own.
        std::fs::write(self.folder.join("data/pg_hba.conf"), text).unwrap();
    }

    /// Ends the server as a power cut would: nothing is written any more.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().and_then(|line| line.parse().ok()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Starts it again after [`Server::kill`], on the same data.
    pub fn restart(&mut self) {
        // Its children are in the way until they see that it is gone: their working folder is its data.
        let gone = "for i in $(seq 200); do ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -q \" -> $0\\$\" || exit 0; sleep 0.1; done; exit 1";
        let waited = command(Path::new("/bin/sh"), None)
            .args(["-c", gone])
            .arg(self.folder.join("data"))
            .status()
            .unwrap();
        assert!(waited.success(), "the server's processes don't end");
        self.run();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A keeper sees the end of its input.
        for keeper in &mut self.keepers {
            drop(keeper.stdin.take());
        }
        for keeper in &mut self.keepers {
            let _ = keeper.wait();
        }
    }
}
