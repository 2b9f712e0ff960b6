//! What a command works with: flags, environment, streams, the connection to the broker, and the login.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_client::{BrokerClient, Class, ClientCertificate, ClientConfig, Error, Trust};
use agentwrit_protocol::Sensitive;

use crate::Environment;
use crate::args::Global;
use crate::error::CliError;
use crate::output::Output;

pub(crate) const BROKER_URL: &str = "AACTL_BROKER_URL";
const ADMIN_SECRET: &str = "AACTL_ADMIN_SECRET";
const CA_CERT: &str = "AACTL_CA_CERT";
/// As curl, Go and OpenSSL have it: the system's certificates are there instead.
const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
const CLIENT_CERT: &str = "AACTL_CLIENT_CERT";
const CLIENT_KEY: &str = "AACTL_CLIENT_KEY";
const INSECURE_HTTP: &str = "AACTL_INSECURE_HTTP";
/// A thousand events of the audit trail, each as long as can be.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// Where Debian, Red Hat and Alpine keep the certificates that the system trusts.
const SYSTEM_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What a command works with.
pub(crate) struct Context<'a, 'o> {
    pub(crate) global: &'a Global,
    pub(crate) environment: Environment<'a>,
    pub(crate) output: &'a mut Output<'o>,
}

impl Context<'_, '_> {
    /// A variable, unless it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// Whether a broker is named at all.
    pub(crate) fn has_broker(&self) -> bool {
        self.variable(BROKER_URL).is_some()
    }

    fn set(&self, name: &'static str) -> Result<String, CliError> {
        self.variable(name).ok_or(CliError::NotSet(name))
    }

    fn file(&self, flag: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
        flag.cloned().or_else(|| self.variable(name).map(PathBuf::from))
    }

    /// A client for the broker that the environment names.
    pub(crate) fn client(&mut self) -> Result<BrokerClient, CliError> {
        let client = self.connect()?;
        let silent = self.variable(INSECURE_HTTP);
        let silent = self.global.insecure_http || silent.is_some_and(|text| text == "1" || text == "true");
        if client.sends_in_clear() && !silent {
            self.output.note(
                "WARNING: plain HTTP to another host: anybody on the network path can read the admin secret and the tokens; use https://",
            )?;
        }
        Ok(client)
    }

    fn connect(&self) -> Result<BrokerClient, CliError> {
        let url = self.set(BROKER_URL)?;
        let given = self.file(self.global.ca_cert.as_ref(), CA_CERT);
        let own = || self.variable(SSL_CERT_FILE).map(PathBuf::from);
        let trust = match given.or_else(own).or_else(system_ca) {
            Some(path) => Trust::File(path),
            None if url.starts_with("http://") => Trust::None,
            None => return Err(CliError::NoCa),
        };
        Ok(BrokerClient::new(ClientConfig {
            trust,
            certificate: self.certificate()?,
            timeout: self.global.timeout,
            // Brokers next door are reached so, by docker compose for one; the warning is awrit's.
            allow_plain_http: true,
            max_response_bytes: MAX_RESPONSE_BYTES,
            user_agent: concat!("awrit/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ClientConfig::new(url)
        })?)
    }

    fn certificate(&self) -> Result<Option<ClientCertificate>, CliError> {
        let certificate = self.file(self.global.client_cert.as_ref(), CLIENT_CERT);
        let key = self.file(self.global.client_key.as_ref(), CLIENT_KEY);
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(CliError::HalfCertificate {
                given: "client certificate",
                missing: "--client-key or AACTL_CLIENT_KEY",
            }),
            (None, Some(_)) => Err(CliError::HalfCertificate {
                given: "client key",
                missing: "--client-cert or AACTL_CLIENT_CERT",
            }),
        }
    }

    /// The admin secret, when there is one.
    pub(crate) fn admin_secret(&self) -> Option<Sensitive> {
        self.variable(ADMIN_SECRET).map(Sensitive::from)
    }

    /// What an admin needs; nothing is sent yet.
    pub(crate) fn admin(&mut self) -> Result<(BrokerClient, Sensitive), CliError> {
        self.set(BROKER_URL)?;
        let secret = self.admin_secret().ok_or(CliError::NotSet(ADMIN_SECRET))?;
        Ok((self.client()?, secret))
    }

    /// Logs in and does the work with the admin's token; the environment is checked before anything is sent.
    pub(crate) fn as_admin<T>(
        &mut self,
        work: impl AsyncFnOnce(&BrokerClient, &Sensitive) -> Result<T, Error>,
    ) -> Result<T, CliError> {
        let (client, secret) = self.admin()?;
        wait_for(async {
            let token = login(&client, &secret).await?;
            Ok(work(&client, &token).await?)
        })
    }
}

/// Runs the work to its end.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?
        .block_on(work)
}

fn system_ca() -> Option<PathBuf> {
    SYSTEM_CAS
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .map(Path::to_owned)
}

/// How long a login waits in all when there are too many of them: each command is one, and a script is many commands.
const LOGIN_RETRY_LIMIT: Duration = Duration::from_secs(10);
/// When the broker doesn't say when to come again.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Logs in; comes again when the broker says that there are too many logins just now.
pub(crate) async fn login(client: &BrokerClient, secret: &Sensitive) -> Result<Sensitive, CliError> {
    let mut waited = Duration::ZERO;
    loop {
        let error = match client.admin_auth(secret).await {
            Ok(answer) => return Ok(answer.access_token),
            Err(error) => error,
        };
        let Class::RateLimited(pause) = error.class() else {
            return Err(CliError::auth(&error));
        };
        let pause = pause.unwrap_or(DEFAULT_RETRY_AFTER).max(DEFAULT_RETRY_AFTER);
        waited = waited.saturating_add(pause);
        if waited > LOGIN_RETRY_LIMIT {
            return Err(CliError::auth(&error));
        }
        tokio::time::sleep(pause).await;
    }
}
