//! Settings from the environment, which the webhook fills.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use agentwrit_protocol::dns_label::{MAX_RESOURCE_NAME_BYTES, is_dns_label};
use agentwrit_protocol::inject::{
    ANNOTATION_LAUNCH_TOKEN, ANNOTATION_SCOPES, ANNOTATION_TOKEN_FILE_GID, ANNOTATION_TTL_SECONDS, ENDPOINT_PORT,
    ENV_BROKER_URL, ENV_ENDPOINT_ENABLED, ENV_LAUNCH_TOKEN, ENV_SCOPES, ENV_TOKEN_FILE_GID, ENV_TTL_SECONDS,
    HEALTH_PORT, IDENTITY_CA_FILE, IDENTITY_TOKEN_FILE, MIN_TTL_SECONDS, TOKEN_FILE, TOKEN_FILE_GIDS,
};
use agentwrit_protocol::scope::Scope;
use agentwrit_protocol::ttl::{MAX_TTL_SECONDS, Ttl};

/// The sidecar's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Base URL of the broker.
    pub broker_url: String,
    /// Name of the LaunchToken in the pod's namespace.
    pub launch_token: String,
    /// What to ask for; empty means all that the LaunchToken allows.
    pub scopes: Vec<String>,
    /// Life to ask for; `None` means what the LaunchToken allows.
    pub ttl: Option<Ttl>,
    /// Where the token endpoint listens; `None` means that it is off.
    pub endpoint: Option<SocketAddr>,
    /// Where the health listener listens.
    pub health: SocketAddr,
    /// The token file.
    pub token_file: PathBuf,
    /// The group that alone may read it.
    pub token_file_gid: Option<u32>,
    /// The pod's projected `ServiceAccount` token.
    pub identity_file: PathBuf,
    /// The CA that signed the broker's certificate.
    pub ca_file: PathBuf,
}

/// Everything that is wrong with the environment, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub(crate) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Config {
    /// Reads the settings with `get`, which answers the value of a variable.
    ///
    /// The error names every variable whose value can't be used, and what would be right.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut wrong = Vec::new();
        let value = |name: &str| get(name).map(|text| text.trim().to_owned()).unwrap_or_default();
        let broker_url = value(ENV_BROKER_URL);
        if broker_url.is_empty() {
            wrong.push(format!(
                "{ENV_BROKER_URL} is not set: it must be the broker's URL, such as https://agentwrit-broker.agentwrit-system.svc:8443"
            ));
        }
        let launch_token = value(ENV_LAUNCH_TOKEN);
        if !is_dns_label(&launch_token, MAX_RESOURCE_NAME_BYTES) {
            wrong.push(format!(
                "{ENV_LAUNCH_TOKEN} is {launch_token:?}: it must be the name of a LaunchToken, 1 to {MAX_RESOURCE_NAME_BYTES} of \
                 a-z, 0-9 and '-' (annotation {ANNOTATION_LAUNCH_TOKEN})"
            ));
        }
        let scopes = scopes(&value(ENV_SCOPES), &mut wrong);
        let ttl = ttl(&value(ENV_TTL_SECONDS), &mut wrong);
        let token_file_gid = gid(&value(ENV_TOKEN_FILE_GID), &mut wrong);
        let endpoint = match value(ENV_ENDPOINT_ENABLED).as_str() {
            "" | "true" => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, ENDPOINT_PORT))),
            "false" => None,
            other => {
                wrong.push(format!("{ENV_ENDPOINT_ENABLED} is {other:?}: it must be true or false"));
                None
            }
        };
        if !wrong.is_empty() {
            return Err(ConfigErrors(wrong));
        }
        Ok(Self {
            broker_url,
            launch_token,
            scopes,
            ttl,
            endpoint,
            health: SocketAddr::from((Ipv6Addr::UNSPECIFIED, HEALTH_PORT)),
            token_file: PathBuf::from(TOKEN_FILE),
            token_file_gid,
            identity_file: PathBuf::from(IDENTITY_TOKEN_FILE),
            ca_file: PathBuf::from(IDENTITY_CA_FILE),
        })
    }
}

fn scopes(text: &str, wrong: &mut Vec<String>) -> Vec<String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let mut scopes = Vec::new();
    for item in items {
        match item.parse::<Scope>() {
            Ok(_) => scopes.push(item.to_owned()),
            Err(error) => wrong.push(format!(
                "{ENV_SCOPES}: {error}; it must be a comma list such as read:orders:* (annotation {ANNOTATION_SCOPES})"
            )),
        }
    }
    scopes
}

fn gid(text: &str, wrong: &mut Vec<String>) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let gid = text.parse().ok().filter(|gid| TOKEN_FILE_GIDS.contains(gid));
    if gid.is_none() {
        let (least, most) = (TOKEN_FILE_GIDS.start(), TOKEN_FILE_GIDS.end());
        wrong.push(format!(
            "{ENV_TOKEN_FILE_GID} is {text:?}: it must be the number of a group from {least} to {most} (annotation \
             {ANNOTATION_TOKEN_FILE_GID})"
        ));
    }
    gid
}

fn ttl(text: &str, wrong: &mut Vec<String>) -> Option<Ttl> {
    if text.is_empty() {
        return None;
    }
    match text.parse() {
        Ok(seconds) if (MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&seconds) => Some(Ttl::seconds(seconds)),
        _ => {
            wrong.push(format!(
                "{ENV_TTL_SECONDS} is {text:?}: it must be a number of seconds from {MIN_TTL_SECONDS} to \
                 {MAX_TTL_SECONDS} (annotation {ANNOTATION_TTL_SECONDS})"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        Config::read(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_least_is_url_and_policy() {
        let config = read(&[(ENV_BROKER_URL, "https://b:8443"), (ENV_LAUNCH_TOKEN, "order-reader")]).unwrap();
        assert_eq!((config.scopes.len(), config.ttl), (0, None));
        assert_eq!(config.endpoint.unwrap().to_string(), "127.0.0.1:15080");
        assert_eq!(config.health.to_string(), "[::]:15081");
    }

    #[test]
    fn everything_can_be_set() {
        let config = read(&[
            (ENV_BROKER_URL, "https://b:8443"),
            (ENV_LAUNCH_TOKEN, "order-reader"),
            (ENV_SCOPES, "read:orders:*, write:orders:7,"),
            (ENV_TTL_SECONDS, "60"),
            (ENV_TOKEN_FILE_GID, "2000"),
            (ENV_ENDPOINT_ENABLED, "false"),
        ])
        .unwrap();
        assert_eq!(config.scopes, ["read:orders:*", "write:orders:7"]);
        assert_eq!((config.ttl, config.endpoint), (Some(Ttl::seconds(60)), None));
        assert_eq!(config.token_file_gid, Some(2000));
    }

    #[test]
    fn every_wrong_variable_is_named_at_once() {
        let errors = read(&[
            (ENV_LAUNCH_TOKEN, "Order Reader"),
            (ENV_SCOPES, "read:orders"),
            (ENV_TTL_SECONDS, "9"),
            (ENV_TOKEN_FILE_GID, "0"),
            (ENV_ENDPOINT_ENABLED, "yes"),
        ])
        .unwrap_err();
        let names = [
            ENV_BROKER_URL,
            ENV_LAUNCH_TOKEN,
            ENV_SCOPES,
            ENV_TTL_SECONDS,
            ENV_TOKEN_FILE_GID,
            ENV_ENDPOINT_ENABLED,
        ];
        assert_eq!(errors.0.len(), names.len());
        for (line, name) in errors.0.iter().zip(names) {
            assert!(line.starts_with(name) && line.contains("must be"), "{line}");
        }
    }
}
