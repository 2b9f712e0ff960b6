//! The connection to the broker, and the login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_client::{BrokerClient, ClientConfig, Trust};
use agentwrit_protocol::Sensitive;

use crate::Environment;
use crate::args::Global;
use crate::error::CliError;

const BROKER_URL: &str = "AACTL_BROKER_URL";
const ADMIN_SECRET: &str = "AACTL_ADMIN_SECRET";
/// Where Debian, Red Hat and Alpine keep the certificates that the system believes.
const SYSTEM_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

fn set(environment: Environment<'_>, name: &'static str) -> Result<String, CliError> {
    environment(name)
        .filter(|value| !value.is_empty())
        .ok_or(CliError::NotSet(name))
}

/// A client for the broker that the environment names.
pub(crate) fn client(global: &Global, environment: Environment<'_>) -> Result<BrokerClient, CliError> {
    let url = set(environment, BROKER_URL)?;
    let ca = global.ca_cert.clone().filter(|path| !path.as_os_str().is_empty());
    let trust = match ca.or_else(system_ca) {
        Some(path) => Trust::File(path),
        None if url.starts_with("http://") => Trust::None,
        None => return Err(CliError::NoCa),
    };
    Ok(BrokerClient::new(ClientConfig {
        trust,
        timeout: Duration::from_secs(global.timeout),
        user_agent: concat!("awrit/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..ClientConfig::new(url)
    })?)
}

fn system_ca() -> Option<PathBuf> {
    SYSTEM_CAS
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .map(Path::to_owned)
}

/// The admin secret, checked before anything is sent.
pub(crate) fn admin_secret(environment: Environment<'_>) -> Result<Sensitive, CliError> {
    set(environment, ADMIN_SECRET).map(Sensitive::from)
}

/// Logs in.
pub(crate) async fn login(client: &BrokerClient, secret: &Sensitive) -> Result<Sensitive, CliError> {
    match client.admin_auth(secret).await {
        Ok(answer) => Ok(answer.access_token),
        Err(error) => Err(CliError::auth(&error)),
    }
}
