//! Configuration: parsed once from flags and environment, validated once, passed down.

// The docs of fields are the help text: no markdown.
#![allow(clippy::doc_markdown, rustdoc::broken_intra_doc_links)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, is_dns_label};
use clap::{Parser, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::credentials::Where;
use crate::pki::authority::Lives;
use crate::webhook::resources::{DEFAULT, DEFAULT_GUARANTEED_CPU};
use crate::webhook::{GuaranteedCpu, Resources, StartGate};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Who signs the certificates of webhook and broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Certificates {
    /// The installation's own CA, which the controller has.
    Own,
    /// An issuer of cert-manager.
    CertManager,
}

/// Whether something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It isn't.
    Off,
    /// It is.
    On,
}

/// Settings of the controller; each flag has an environment variable.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "agentwrit-controller",
    version,
    about = "The AgentWrit controller and admission webhook"
)]
pub struct Config {
    /// Namespace of the installation: Lease and Secrets are there.
    #[arg(long, env = "AGENTWRIT_NAMESPACE", value_parser = dns_label)]
    pub(crate) namespace: String,

    /// Name of this pod: holder of the Lease, and reporter of Events.
    #[arg(long, env = "AGENTWRIT_POD_NAME", value_parser = non_empty)]
    pub(crate) pod_name: String,

    /// URL of the broker, for this controller and for the sidecars.
    #[arg(long, env = "AGENTWRIT_BROKER_URL", value_parser = non_empty)]
    pub(crate) broker_url: String,

    /// Audience of the pods' ServiceAccount tokens, such as agentwrit://agentwrit-system/agentwrit.
    #[arg(long, env = "AGENTWRIT_ATTEST_AUDIENCE", value_parser = non_empty)]
    pub(crate) attest_audience: String,

    /// Image of the sidecar.
    #[arg(long, env = "AGENTWRIT_SIDECAR_IMAGE", value_parser = non_empty)]
    pub(crate) sidecar_image: String,

    /// When the kubelet pulls it: Always, IfNotPresent or Never.
    #[arg(long, env = "AGENTWRIT_SIDECAR_PULL_POLICY", default_value = "IfNotPresent",
          value_parser = ["Always", "IfNotPresent", "Never"])]
    pub(crate) sidecar_pull_policy: String,

    /// UID of the sidecar; left to the platform when unset (OpenShift).
    #[arg(long, env = "AGENTWRIT_SIDECAR_UID", value_parser = clap::value_parser!(i64).range(1..=4_294_967_294))]
    pub(crate) sidecar_uid: Option<i64>,

    /// CPU and memory of the sidecars: resources of a container, in JSON. Pods may ask for others by annotations.
    #[arg(long, env = "AGENTWRIT_SIDECAR_RESOURCES", default_value = DEFAULT)]
    pub(crate) sidecar_resources: Resources,

    /// CPU, requested and at most, of sidecars that have to have a limit: in pods of class Guaranteed, and in namespaces
    /// whose ResourceQuota has limits.cpu. From 10m to 2.
    #[arg(long, env = "AGENTWRIT_SIDECAR_GUARANTEED_CPU", default_value = DEFAULT_GUARANTEED_CPU)]
    pub(crate) sidecar_guaranteed_cpu: GuaranteedCpu,

    /// What the start of the applications waits for, in pods that say nothing of it: probe, hook or none.
    #[arg(long, env = "AGENTWRIT_SIDECAR_START_GATE", default_value = "probe", value_parser = StartGate::from_str)]
    pub(crate) sidecar_start_gate: StartGate,

    /// File with this controller's own ServiceAccount token for the broker.
    #[arg(
        long,
        env = "AGENTWRIT_IDENTITY_TOKEN_FILE",
        default_value = "/var/run/secrets/agentwrit.io/identity/token"
    )]
    pub(crate) identity_token_file: PathBuf,

    /// How long after the leader's last sign of life another replica takes over; from 5s to 5m, whole seconds.
    #[arg(long, env = "AGENTWRIT_LEASE_DURATION", default_value = "15s", value_parser = lease)]
    pub(crate) lease_duration: Duration,

    /// Where the admission webhook listens, HTTPS; [::] is IPv6 and IPv4.
    #[arg(long, env = "AGENTWRIT_WEBHOOK_ADDRESS", default_value = "[::]:9443")]
    pub(crate) webhook_address: SocketAddr,

    /// Further names and IP addresses in the webhook's certificate, for an API server that doesn't call it through
    /// the Service; separated by commas.
    #[arg(long, env = "AGENTWRIT_WEBHOOK_NAMES", value_delimiter = ',')]
    pub(crate) webhook_names: Vec<String>,

    /// PEM file with the CA of the API server's client certificate: a client without a certificate of this CA can't
    /// call the webhook. Read again when it changes; an AdmissionConfiguration makes the API server use its certificate.
    #[arg(long, env = "AGENTWRIT_WEBHOOK_CLIENT_CA")]
    pub(crate) webhook_client_ca: Option<PathBuf>,

    /// How long after the last signing key another one is made, such as 720h; 0s: only when awrit keys rotate asks.
    #[arg(long, env = "AGENTWRIT_SIGNING_KEY_ROTATE_EVERY", default_value = "720h", value_parser = rotation)]
    pub(crate) signing_key_rotate_every: Duration,

    /// Who signs the certificates of webhook and broker: own (a CA that the controller makes) or cert-manager.
    #[arg(long, env = "AGENTWRIT_CERTIFICATES", value_enum, default_value = "own")]
    pub(crate) certificates: Certificates,

    /// Folder with the webhook's certificate from cert-manager: tls.crt, tls.key, ca.crt. Read again when they change.
    #[arg(
        long,
        env = "AGENTWRIT_ISSUED_WEBHOOK_FOLDER",
        default_value = "/var/run/secrets/agentwrit.io/issued-webhook"
    )]
    pub(crate) issued_webhook_folder: PathBuf,

    /// Life of the CA that signs the certificates of webhook and broker, such as 87600h; another one follows when a
    /// third of it is left.
    #[arg(long, env = "AGENTWRIT_CA_LIFE", default_value = "87600h", value_parser = life)]
    pub(crate) ca_life: Duration,

    /// Life of those certificates; they are replaced when a third of it is left.
    #[arg(long, env = "AGENTWRIT_CERTIFICATE_LIFE", default_value = "2160h", value_parser = life)]
    pub(crate) certificate_life: Duration,

    /// How long a CA is trusted before it signs, and after: longer than a change of a ConfigMap takes to reach pods.
    #[arg(long, env = "AGENTWRIT_CA_OVERLAP", default_value = "1h", value_parser = overlap)]
    pub(crate) ca_overlap: Duration,

    /// Whether AgentApps may have client credentials in Secrets: off or on.
    #[arg(long, env = "AGENTWRIT_CLIENT_CREDENTIALS", value_enum, default_value = "off")]
    pub(crate) client_credentials: Switch,

    /// The namespaces in which they may; all, when none is named. Separated by commas.
    #[arg(long, env = "AGENTWRIT_CLIENT_CREDENTIALS_NAMESPACES", value_delimiter = ',', value_parser = dns_label)]
    pub(crate) client_credentials_namespaces: Vec<String>,

    /// URL of the broker for programs that log in with such credentials; that of the sidecars when unset.
    #[arg(long, env = "AGENTWRIT_CLIENT_BROKER_URL", value_parser = non_empty)]
    pub(crate) client_broker_url: Option<String>,

    /// Where /livez, /readyz and /metrics listen, plain HTTP; [::] is IPv6 and IPv4.
    #[arg(long, env = "AGENTWRIT_OPS_ADDRESS", default_value = "[::]:9090")]
    pub(crate) ops_address: SocketAddr,

    /// Form of the log lines.
    #[arg(long, env = "AGENTWRIT_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,agentwrit_controller=debug.
    #[arg(long, env = "AGENTWRIT_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Config {
    /// Where there may be Secrets with client credentials.
    pub(crate) fn client_credentials(&self) -> Where {
        match self.client_credentials {
            Switch::Off => Where::Nowhere,
            Switch::On if self.client_credentials_namespaces.is_empty() => Where::Everywhere,
            Switch::On => Where::In(self.client_credentials_namespaces.iter().cloned().collect()),
        }
    }
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    Ok(text.to_owned())
}

fn duration(text: &str) -> Option<Duration> {
    let length: SignedDuration = text.parse().ok()?;
    Duration::try_from(length).ok()
}

impl Config {
    /// Lives of certificates, and the overlap of CAs: no longer than a tenth of a CA's life, so that one follows the other.
    pub(crate) fn lives(&self) -> (Lives, Duration) {
        let lives = Lives {
            ca: self.ca_life,
            leaf: self.certificate_life,
        };
        (lives, self.ca_overlap.min(self.ca_life / 10))
    }
}

fn life(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(10)..=Duration::from_hours(876_000);
    let wrong = || "must be a duration such as 2160h, from 10s to 876000h".to_owned();
    duration(text)
        .filter(|length| allowed.contains(length))
        .ok_or_else(wrong)
}

fn overlap(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(1)..=Duration::from_hours(2000);
    let wrong = || "must be a duration such as 1h, from 1s to 2000h".to_owned();
    duration(text)
        .filter(|length| allowed.contains(length))
        .ok_or_else(wrong)
}

/// The Lease holds whole seconds.
fn lease(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(5)..=Duration::from_mins(5);
    duration(text)
        .filter(|length| allowed.contains(length) && length.subsec_nanos() == 0)
        .ok_or_else(|| "must be a duration such as 15s, from 5s to 5m, in whole seconds".to_owned())
}

/// Zero, or an hour to ten years: below, keys would pile up.
fn rotation(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration such as 720h, from 1h to 87600h, or 0s for never".to_owned();
    let length = duration(text).ok_or_else(wrong)?;
    let allowed = Duration::from_hours(1)..=Duration::from_hours(87_600);
    if length.is_zero() || allowed.contains(&length) {
        Ok(length)
    } else {
        Err(wrong())
    }
}

fn dns_label(text: &str) -> Result<String, String> {
    if is_dns_label(text, MAX_LABEL_BYTES) {
        Ok(text.to_owned())
    } else {
        Err("must be a DNS label: lower-case letters, digits and '-', at most 63 characters".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[&str]) -> Result<Config, clap::Error> {
        let required = [
            "agentwrit-controller",
            "--namespace=agentwrit-system",
            "--pod-name=p",
            "--broker-url=https://b:8443",
            "--attest-audience=agentwrit://a/b",
            "--sidecar-image=i",
        ];
        Config::try_parse_from(required.iter().chain(extra))
    }

    #[test]
    fn the_chart_needs_to_set_five_values_only() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.sidecar_pull_policy, "IfNotPresent");
        assert_eq!(config.sidecar_uid, None);
        assert_eq!(config.signing_key_rotate_every, Duration::from_hours(30 * 24));
    }

    #[test]
    fn client_credentials_are_off_unless_they_are_on() {
        let of = |flags: &[&str]| parse(flags).unwrap().client_credentials();
        let namespaces = "--client-credentials-namespaces=shop,bank";
        assert_eq!(of(&[]), Where::Nowhere);
        assert_eq!(of(&[namespaces]), Where::Nowhere);
        assert_eq!(of(&["--client-credentials=on"]), Where::Everywhere);
        let named = ["bank", "shop"].map(str::to_owned).into();
        assert_eq!(of(&["--client-credentials=on", namespaces]), Where::In(named));
    }

    #[test]
    fn keys_rotate_never_or_at_most_each_hour() {
        for (text, wanted) in [("0s", 0), ("1h", 3600), ("90m", 5400), ("87600h", 315_360_000)] {
            let config = parse(&[&format!("--signing-key-rotate-every={text}")]).unwrap();
            assert_eq!(config.signing_key_rotate_every.as_secs(), wanted, "{text}");
        }
    }

    #[test]
    fn an_overlap_leaves_a_ca_most_of_its_life() {
        let hours = |flags: &[&str]| parse(flags).unwrap().lives().1.as_secs() / 3600;
        assert_eq!(hours(&[]), 1);
        assert_eq!(hours(&["--ca-life=240h", "--ca-overlap=100h"]), 24);
    }

    #[test]
    fn a_bad_value_is_refused_by_name() {
        for (flag, name) in [
            ("--sidecar-pull-policy=Sometimes", "sidecar-pull-policy"),
            ("--sidecar-uid=0", "sidecar-uid"),
            (
                r#"--sidecar-resources={"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}"#,
                "requests.memory is \"2Gi\"; it must be a Kubernetes quantity between 4Mi and 1Gi",
            ),
            ("--webhook-address=9443", "webhook-address"),
            ("--log-format=xml", "log-format"),
            ("--client-credentials=yes", "client-credentials"),
            ("--client-credentials-namespaces=Shop", "client-credentials-namespaces"),
            ("--signing-key-rotate-every=59m", "from 1h to 87600h"),
            ("--signing-key-rotate-every=-1h", "from 1h to 87600h"),
            ("--signing-key-rotate-every=30", "from 1h to 87600h"),
            ("--lease-duration=4s", "from 5s to 5m"),
            ("--ca-life=9s", "from 10s to 876000h"),
            ("--certificates=acme", "own, cert-manager"),
            ("--certificate-life=90", "such as 2160h"),
            ("--ca-overlap=999ms", "from 1s to 2000h"),
            ("--lease-duration=5500ms", "whole seconds"),
            ("--lease-duration=301s", "from 5s to 5m"),
        ] {
            let message = parse(&[flag]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
