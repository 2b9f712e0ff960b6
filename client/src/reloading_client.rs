//! An HTTP client that is built again when a file that it was built from has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;

use crate::config::{ClientCertificate, ClientConfig, ConfigError, Trust};
use crate::error::Error;
use crate::trust::{Material, OwnCertificate, Unusable, tls_config};

const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Of a file with one certificate chain, key or token.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Of a file with CA certificates: a system's own bundle has some 200 KiB.
const MAX_CA_BYTES: u64 = 1024 * 1024;

pub(crate) type Connections = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Where the CA and the client certificate come from, and the client that was built from what was there last.
pub(crate) struct ReloadingClient {
    ca_file: Option<PathBuf>,
    own: Option<ClientCertificate>,
    max_idle: usize,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    material: Material,
    connections: Option<Connections>,
}

impl Current {
    fn set_ca(&mut self, pem: Vec<u8>) {
        let ca = Some(pem);
        if self.material.ca != ca {
            self.material.ca = ca;
            self.connections = None;
        }
    }
}

impl ReloadingClient {
    /// Fails when the CA bytes of the settings can't be used; files are read at the first call.
    pub(crate) fn new(config: &ClientConfig, plain: bool) -> Result<Self, ConfigError> {
        let client = Self {
            ca_file: match &config.trust {
                Trust::File(path) if !plain => Some(path.clone()),
                _ => None,
            },
            own: config.certificate.clone().filter(|_| !plain),
            max_idle: config.max_idle_connections,
            current: Mutex::default(),
        };
        if let Trust::Pem(pem) = &config.trust {
            client.set_ca(pem)?;
        }
        Ok(client)
    }

    /// Replaces CA certificates that come from no file; the old ones stay when these can't be used.
    pub(crate) fn set_ca(&self, pem: &[u8]) -> Result<(), ConfigError> {
        crate::trust::roots(pem).map_err(ConfigError::Ca)?;
        let mut current = self.current.lock();
        current.set_ca(pem.to_vec());
        Ok(())
    }

    /// The connections for what the files hold now.
    pub(crate) fn connections(&self) -> Result<Connections, Error> {
        let mut current = self.current.lock();
        self.read_files(&mut current)?;
        if let Some(connections) = &current.connections {
            return Ok(connections.clone());
        }
        let connections = self.connect(&current.material)?;
        current.connections = Some(connections.clone());
        Ok(connections)
    }

    /// What a connection of its own would be made with now.
    pub(crate) fn material(&self) -> Result<Material, Error> {
        let mut current = self.current.lock();
        self.read_files(&mut current)?;
        Ok(current.material.clone())
    }

    fn read_files(&self, current: &mut Current) -> Result<(), Error> {
        if let Some(path) = &self.ca_file {
            let ca = read_up_to(MAX_CA_BYTES, path).map_err(|reason| Error::Ca {
                path: path.clone(),
                reason,
            })?;
            current.set_ca(ca);
        }
        if let Some(own) = &self.own {
            let found = Some(OwnCertificate {
                chain: read_small(&own.certificate).map_err(unusable_own(&own.certificate))?,
                key: read_small(&own.key).map_err(unusable_own(&own.key))?,
            });
            if current.material.own != found {
                current.material.own = found;
                current.connections = None;
            }
        }
        Ok(())
    }

    fn connect(&self, material: &Material) -> Result<Connections, Error> {
        let tls = tls_config(material).map_err(|unusable| self.name(unusable))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.max_idle)
            .build(connector))
    }

    /// What can't be used, with the file that it is from.
    pub(crate) fn name(&self, unusable: Unusable) -> Error {
        match (unusable, &self.ca_file, &self.own) {
            (Unusable::Ca(reason), Some(path), _) => Error::Ca {
                path: path.clone(),
                reason,
            },
            (Unusable::Certificate(reason), _, Some(own)) => unusable_own(&own.certificate)(reason),
            (Unusable::Key(reason), _, Some(own)) => unusable_own(&own.key)(reason),
            (
                Unusable::Ca(reason) | Unusable::Certificate(reason) | Unusable::Key(reason) | Unusable::Tls(reason),
                ..,
            ) => Error::Request(reason),
        }
    }
}

fn unusable_own(path: &Path) -> impl FnOnce(String) -> Error {
    let path = path.to_owned();
    move |reason| Error::Certificate { path, reason }
}

/// A file of at most 64 KiB.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, String> {
    read_up_to(MAX_FILE_BYTES, path)
}

fn read_up_to(most: u64, path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= most => Ok(bytes),
        _ => Err(format!("it is larger than {most} bytes")),
    }
}
