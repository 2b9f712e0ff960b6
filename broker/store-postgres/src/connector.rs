//! Connecting: the password and the files for TLS are read each time, so that what is rotated is used.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::Sensitive;
use agentwrit_store::{DatabaseFailure, Result, StoreError};
use deadpool_postgres::ClientWrapper;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::advice;
use crate::error::{Operation, advised, trouble};
use crate::settings::{Place, Settings, Transport};

const CONNECT: &str = "connect";
/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a file with a password, at most.
const LONGEST_PASSWORD: usize = 1024;
/// What each connection asks of the server, whatever is set for its role: a commit is on the disk when it is answered; a
/// transaction of a broker that is gone doesn't hold the chain's head for long; names are of our schema. Each query is for few
/// rows by an index: a plan that was made while a table was new, or its statistics old, would go through all of it, and
/// is kept for as long as the connection.
const OPTIONS: &str = "-c search_path=agentwrit,pg_temp -c synchronous_commit=on -c statement_timeout=10s \
     -c lock_timeout=5s -c idle_in_transaction_session_timeout=15s -c tcp_keepalives_idle=5 \
     -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c timezone=UTC -c client_min_messages=warning \
     -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off";

/// A file that a setting names is not what it must be.
fn unreadable(setting: &File, path: &Path, why: impl std::fmt::Display) -> StoreError {
    let text = format!("{}: {}: {why}", setting.name, path.display());
    advised(trouble(CONNECT, DatabaseFailure::Access, text), setting.advice)
}

/// A setting that names a file.
struct File {
    name: &'static str,
    advice: &'static str,
}

const PASSWORD: File = File {
    name: "AA_DATABASE_PASSWORD_FILE",
    advice: "AA_DATABASE_PASSWORD_FILE must name a file that can be read, with one line of 1 to 1024 bytes, the role's password",
};
const CA: File = File {
    name: "sslrootcert",
    advice: "sslrootcert of AA_DATABASE_URL must name a PEM file with the authority of the server's certificate",
};
const CERTIFICATE: File = File {
    name: "sslcert",
    advice: "sslcert of AA_DATABASE_URL must name a PEM file with the broker's certificate, which belongs to the key in sslkey",
};
const KEY: File = File {
    name: "sslkey",
    advice: "sslkey of AA_DATABASE_URL must name a PEM file with the private key of the certificate in sslcert",
};

/// The password, if there is one; a line end at the end of its file is not part of it.
fn password(settings: &Settings) -> Result<Option<Sensitive>> {
    let Some(path) = &settings.password_file else {
        return Ok(settings.password.clone());
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&PASSWORD, path, error))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > LONGEST_PASSWORD || text.contains('\0') {
        return Err(unreadable(&PASSWORD, path, "it holds no password"));
    }
    Ok(Some(Sensitive::from(text)))
}

fn certificates(setting: &File, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = found.map_err(|error| unreadable(setting, path, error))?;
    if found.is_empty() {
        return Err(unreadable(setting, path, "it holds no certificate"));
    }
    Ok(found)
}

/// What is spoken by TLS; `None` when none is.
fn tls(transport: &Transport) -> Result<Option<ClientConfig>> {
    let Transport::Tls { ca, client } = transport else {
        return Ok(None);
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&CA, ca)? {
        roots.add(certificate).map_err(|error| unreadable(&CA, ca, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| trouble(CONNECT, DatabaseFailure::Access, error.to_string()))?
        .with_root_certificates(roots);
    let config = match client {
        Some((certificate, key)) => {
            let found = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(&KEY, key, error))?;
            builder
                .with_client_auth_cert(certificates(&CERTIFICATE, certificate)?, found)
                .map_err(|error| unreadable(&CERTIFICATE, certificate, error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Some(config))
}

fn config(settings: &Settings) -> Result<Config> {
    let mut config = Config::new();
    match &settings.place {
        Place::Host(host, port) => config.host(host).port(*port),
        Place::Socket(folder, port) => config.host_path(folder).port(*port),
    };
    config
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name("agentwrit-broker")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(CONNECT_TIMEOUT * 2)
        .keepalives_idle(CONNECT_TIMEOUT)
        .options(OPTIONS);
    if let Some(password) = password(settings)? {
        config.password(password.expose());
    }
    Ok(config)
}

/// A connection, which a task of its own drives.
///
/// # Errors
/// When a file can't be read, or the server can't be reached or refuses.
pub(crate) async fn connect(settings: &Settings) -> Result<ClientWrapper> {
    connect_driven(settings, None).await
}

/// The same; each notification, and the end of the connection, wakes whoever waits for them.
///
/// # Errors
/// As for [`connect`].
pub(crate) async fn connect_listening(settings: &Settings, heard: &Arc<Notify>) -> Result<ClientWrapper> {
    connect_driven(settings, Some(Arc::clone(heard))).await
}

async fn connect_driven(settings: &Settings, heard: Option<Arc<Notify>>) -> Result<ClientWrapper> {
    let reading = settings.clone();
    // Files may hang.
    let read = tokio::task::spawn_blocking(move || Ok::<_, StoreError>((config(&reading)?, tls(&reading.transport)?)));
    let (mut config, tls) = read.await.map_err(|_| StoreError::NotOpen)??;
    let connecting = async {
        if let Some(tls) = tls {
            config.ssl_mode(SslMode::Require);
            let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.during(CONNECT)?;
            Ok(ClientWrapper::new(client, drive(connection, heard)))
        } else {
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.during(CONNECT)?;
            Ok(ClientWrapper::new(client, drive(connection, heard)))
        }
    };
    // The driver's own bound ends with the TCP connection; a server that accepts and says nothing has none.
    tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting)
        .await
        .unwrap_or_else(|_| {
            let silent = trouble(CONNECT, DatabaseFailure::Connection, "the server doesn't answer");
            Err(advised(silent, advice::SERVER))
        })
}

fn drive<S, T>(connection: Connection<S, T>, heard: Option<Arc<Notify>>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match heard {
        Some(heard) => tokio::spawn(crate::feed::driven(connection, heard)),
        None => tokio::spawn(driven(connection)),
    }
}

async fn driven(connection: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        let error = crate::error::described(&error);
        tracing::debug!(target: "STORE", component = "Connect", error, "a connection to the database ended");
    }
}
