//! Where the database is, and how it is spoken to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentwrit_protocol::Sensitive;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Connections for reads, unless the URL says otherwise.
const POOL: usize = 8;
/// The largest pool.
const LARGEST_POOL: usize = 100;
/// How long a read waits for a connection, unless the URL says otherwise.
const POOL_WAIT: Duration = Duration::from_secs(2);
/// The longest such wait.
const LONGEST_WAIT: u64 = 60;
const PORT: u16 = 5432;
/// What is escaped where a name is shown in a URL.
const NO_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
/// The longest name of an option that is repeated in an error.
const LONGEST_NAME: usize = 32;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host name or address, and its port.
    Host(String, u16),
    /// A folder with the server's socket, and the port in the socket's name.
    Socket(PathBuf, u16),
}

/// How the server is known, and we to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By nothing: what is sent can be read on the way.
    Plain,
    /// By TLS 1.2 or 1.3; the server's certificate names its host.
    Tls {
        /// PEM file of the authorities that may have signed the server's certificate.
        ca: PathBuf,
        /// PEM files of our certificate, with its chain, and of its key.
        client: Option<(PathBuf, PathBuf)>,
    },
}

/// The connection's settings. Files are read at each connect, so that what is rotated is used.
#[derive(Clone)]
pub struct Settings {
    /// Where the database is.
    pub place: Place,
    /// Its name.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password, when the URL has one.
    pub(crate) password: Option<Sensitive>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// How the server is known.
    pub transport: Transport,
    /// Connections for reads; one more writes.
    pub pool: usize,
    /// How long a read waits for one of them.
    pub pool_wait: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("place", &self.place)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password_file", &self.password_file)
            .field("transport", &self.transport)
            .field("pool", &self.pool)
            .field("pool_wait", &self.pool_wait)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the settings. No text of the URL is in it but names of options and words of closed sets: a
/// password stands anywhere in a URL that is mistyped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It is no URL of this scheme.
    #[error("AA_DATABASE_URL must begin with postgres:// (or postgresql://)")]
    Scheme,
    /// There is no user.
    #[error("AA_DATABASE_URL names no role: postgres://ROLE@HOST/DATABASE")]
    NoUser,
    /// There is no host.
    #[error(
        "AA_DATABASE_URL names no host: postgres://ROLE@HOST/DATABASE, or ?host=FOLDER for the folder of the server's socket"
    )]
    NoHost,
    /// There is more than one host.
    #[error("AA_DATABASE_URL names more than one host: name the one that always leads to the server that takes writes")]
    ManyHosts,
    /// There is no database.
    #[error("AA_DATABASE_URL names no database: postgres://ROLE@HOST/DATABASE")]
    NoDatabase,
    /// The port is none.
    #[error("AA_DATABASE_URL has a port that is no number from 1 to 65535")]
    Port,
    /// Percent signs that encode no text.
    #[error("AA_DATABASE_URL: its {0} is not percent-encoded UTF-8: write % as %25, @ as %40, / as %2F, : as %3A")]
    Encoding(&'static str),
    /// An option of another program, or none.
    #[error("AA_DATABASE_URL has the unknown option {0:?}; known are: {known}", known = OPTIONS.join(", "))]
    UnknownOption(String),
    /// What follows the question mark is no option.
    #[error("AA_DATABASE_URL: what follows the ? is not OPTION=VALUE; in a password write ? as %3F and & as %26")]
    NoOption,
    /// One option twice.
    #[error("AA_DATABASE_URL has the option {0} twice")]
    Twice(&'static str),
    /// An option without a value.
    #[error("AA_DATABASE_URL has the option {0} without a value")]
    Empty(&'static str),
    /// Another mode of TLS than ours.
    #[error(
        "AA_DATABASE_URL: sslmode must be verify-full (the server proves its name) or disable (nothing is encrypted); \
         other modes don't check who answers"
    )]
    SslMode,
    /// Nobody is known who may have signed the server's certificate.
    #[error(
        "AA_DATABASE_URL: sslmode=verify-full, which is the default for a host, needs sslrootcert=FILE, the PEM file of the \
         authority that signs the server's certificate (without TLS: sslmode=disable)"
    )]
    NoAuthority,
    /// Half of what is needed to prove who we are.
    #[error("AA_DATABASE_URL: sslcert and sslkey go together: a certificate's file and its key's")]
    HalfClient,
    /// A file for TLS without TLS.
    #[error("AA_DATABASE_URL has the option {0}, but no TLS is spoken: leave it out, or say sslmode=verify-full")]
    Unused(&'static str),
    /// TLS on a socket of the same machine.
    #[error("AA_DATABASE_URL: a server's socket speaks no TLS: leave sslmode out, or name a host")]
    SocketTls,
    /// A number that is out of range.
    #[error("AA_DATABASE_URL: {option} must be a whole number from 1 to {most}")]
    Number {
        /// Which option.
        option: &'static str,
        /// The largest.
        most: u64,
    },
    /// The socket's folder is not named from the root.
    #[error("AA_DATABASE_URL: host must be the full path of the folder with the server's socket")]
    SocketFolder,
    /// Two passwords.
    #[error("AA_DATABASE_URL has a password, and AA_DATABASE_PASSWORD_FILE is set: only one of them may be")]
    TwoPasswords,
    /// A NUL, which PostgreSQL takes nowhere.
    #[error("AA_DATABASE_URL: its {0} has a NUL character")]
    Nul(&'static str),
}

/// The options of the URL.
const OPTIONS: [&str; 7] = [
    "host",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "pool_size",
    "pool_wait_seconds",
];

/// The options that were given, by their places in [`OPTIONS`].
#[derive(Default)]
struct Given([Option<String>; OPTIONS.len()]);

impl Given {
    fn parse(query: &str) -> Result<Self, SettingsError> {
        let mut given = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = OPTIONS.iter().position(|known| *known == name);
            let known = place.and_then(|place| OPTIONS.get(place).zip(given.0.get_mut(place)));
            let Some((option, slot)) = known else {
                // What doesn't look like a name may be the rest of a password with a question mark in it.
                let is_name = name.len() <= LONGEST_NAME && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
                return Err(if is_name {
                    SettingsError::UnknownOption(name.to_owned())
                } else {
                    SettingsError::NoOption
                });
            };
            if slot.is_some() {
                return Err(SettingsError::Twice(option));
            }
            let value = decoded(option, value)?;
            if value.is_empty() {
                return Err(SettingsError::Empty(option));
            }
            *slot = Some(value);
        }
        Ok(given)
    }

    fn take(&mut self, option: &str) -> Option<String> {
        let place = OPTIONS.iter().position(|known| *known == option)?;
        self.0.get_mut(place)?.take()
    }

    fn number(&mut self, option: &'static str, most: u64) -> Result<Option<u64>, SettingsError> {
        let parse = |text: String| text.parse().ok().filter(|number| (1..=most).contains(number));
        match self.take(option) {
            Some(text) => parse(text).map(Some).ok_or(SettingsError::Number { option, most }),
            None => Ok(None),
        }
    }
}

fn decoded(what: &'static str, text: &str) -> Result<String, SettingsError> {
    let bytes = text.as_bytes();
    let is_encoded = |place: usize| {
        let digits = bytes.get(place + 1..place + 3).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    let percents = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    if !percents.map(|(place, _)| place).all(is_encoded) {
        return Err(SettingsError::Encoding(what));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| SettingsError::Encoding(what))?;
    if decoded.contains('\0') {
        return Err(SettingsError::Nul(what));
    }
    Ok(decoded.into_owned())
}

/// Host and port of the URL, neither of which need be there.
fn host_and_port(text: &str) -> Result<(String, u16), SettingsError> {
    if text.contains(',') {
        return Err(SettingsError::ManyHosts);
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // An IPv6 address.
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(SettingsError::Port)?)),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(SettingsError::Port)?,
        None => PORT,
    };
    Ok((decoded("host", host)?, port))
}

impl Settings {
    /// Whether the URL has a password in it.
    pub const fn names_password(&self) -> bool {
        self.password.is_some()
    }

    /// The URL of the database, without password and options.
    pub fn place_url(&self) -> String {
        let text = |text: &str| utf8_percent_encode(text, NO_NAME).to_string();
        let (user, database) = (text(&self.user), text(&self.database));
        match &self.place {
            Place::Host(host, port) if host.contains(':') => format!("postgres://{user}@[{host}]:{port}/{database}"),
            Place::Host(host, port) => format!("postgres://{user}@{host}:{port}/{database}"),
            Place::Socket(folder, port) => format!("postgres://{user}@:{port}/{database}?host={}", folder.display()),
        }
    }

    /// Reads a URL, `postgres://ROLE[:PASSWORD]@HOST[:PORT]/DATABASE[?OPTION=VALUE&…]`, and the file of a password that
    /// isn't in it.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(url: &str, password_file: Option<&Path>) -> Result<Self, SettingsError> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or(SettingsError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').ok_or(SettingsError::NoUser)?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let user = decoded("role", user)?;
        let password = password.map(|text| decoded("password", text)).transpose()?;
        let password = password.filter(|text| !text.is_empty()).map(Sensitive::from);
        let database = decoded("database", database)?;
        let mut given = Given::parse(query)?;
        let (host, port) = host_and_port(place)?;
        let place = match given.take("host") {
            Some(folder) if folder.starts_with('/') && host.is_empty() => Place::Socket(folder.into(), port),
            Some(_) => return Err(SettingsError::SocketFolder),
            None if host.starts_with('/') => Place::Socket(host.into(), port),
            None if host.is_empty() => return Err(SettingsError::NoHost),
            None => Place::Host(host, port),
        };
        if user.is_empty() {
            return Err(SettingsError::NoUser);
        }
        if database.is_empty() {
            return Err(SettingsError::NoDatabase);
        }
        if password.is_some() && password_file.is_some() {
            return Err(SettingsError::TwoPasswords);
        }
        let transport = transport(&place, &mut given)?;
        let most = u64::try_from(LARGEST_POOL).unwrap_or(u64::MAX);
        let pool = given.number("pool_size", most)?;
        let wait = given.number("pool_wait_seconds", LONGEST_WAIT)?;
        Ok(Self {
            place,
            database,
            user,
            password,
            password_file: password_file.map(Path::to_owned),
            transport,
            pool: pool.and_then(|pool| usize::try_from(pool).ok()).unwrap_or(POOL),
            pool_wait: wait.map_or(POOL_WAIT, Duration::from_secs),
        })
    }
}

fn transport(place: &Place, given: &mut Given) -> Result<Transport, SettingsError> {
    let is_tls = match (given.take("sslmode").as_deref(), place) {
        (Some("disable"), _) | (None, Place::Socket(..)) => false,
        (Some("verify-full"), Place::Socket(..)) => return Err(SettingsError::SocketTls),
        (Some("verify-full") | None, Place::Host(..)) => true,
        (Some(_), _) => return Err(SettingsError::SslMode),
    };
    if !is_tls {
        for option in ["sslrootcert", "sslcert", "sslkey"] {
            if given.take(option).is_some() {
                return Err(SettingsError::Unused(option));
            }
        }
        return Ok(Transport::Plain);
    }
    let ca = given.take("sslrootcert").ok_or(SettingsError::NoAuthority)?.into();
    let client = match (given.take("sslcert"), given.take("sslkey")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => return Err(SettingsError::HalfClient),
    };
    Ok(Transport::Tls { ca, client })
}

#[cfg(test)]
mod tests;
