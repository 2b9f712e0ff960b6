//! Whether everybody trusts what signs or will sign, and nobody shows what is to be forgotten: asked of the API server
//! itself before each step, so that it doesn't matter who wrote what, and when.

use agentwrit_protocol::UnixSeconds;
use agentwrit_protocol::inject::{CA_CONFIG_MAP, CA_CONFIG_MAP_KEY};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::authority::{Authority, certificates};
use super::secrets::{BROKER_TLS_SECRET, CERTIFICATE, Secrets, text};
use super::succession::{Cas, is_valid};
use super::{MANAGED_BY, MANAGER, PkiError, ca_bundle, is_ours};

/// Small: each may hold a megabyte that somebody has put there.
const PAGE: u32 = 16;
/// As many CAs are taken over from a caBundle.
const MAX_PUBLISHED: usize = 4;
/// As many are named; there may be thousands.
const MAX_NAMED: usize = 5;
/// As many are looked for at once.
const MAX_BEHIND: usize = 1000;

pub(crate) struct Reach {
    client: Client,
    secrets: Secrets,
}

/// Who is behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// In words.
    pub(super) what: String,
    /// Namespaces whose `ConfigMap` is; perhaps none needs it any more, and nobody looks after it.
    pub(super) namespaces: Vec<String>,
}

impl Reach {
    pub(crate) const fn new(client: Client, secrets: Secrets) -> Self {
        Self { client, secrets }
    }

    /// Who is behind, if anybody is.
    ///
    /// A namespace whose `ConfigMap` is somebody else's doesn't count: its pods never trusted us through it, and nobody
    /// but its owner could ever go on.
    pub(super) async fn behind(&self, cas: &Cas) -> Result<Option<Behind>, PkiError> {
        let needed: Vec<&str> = cas.needed().collect();
        if let Some(behind) = self.ca_bundle(&needed).await? {
            return Ok(Some(behind));
        }
        if cas.next.is_none()
            && let Some(leaf) = self.secrets.get(BROKER_TLS_SECRET).await?
            && is_overdue(&leaf, cas)
        {
            let name = BROKER_TLS_SECRET;
            return Ok(Some(elsewhere(format!(
                "the Secret {name} holds a certificate of another CA still"
            ))));
        }
        self.config_maps(&needed).await
    }

    /// The CAs that the API server trusts, whoever wrote them there, if they haven't expired.
    pub(super) async fn published(&self, now: UnixSeconds) -> Result<Vec<String>, PkiError> {
        let bundles = ca_bundle::live(&self.client).await?;
        let all = bundles
            .iter()
            .flat_map(|bundle| certificates(&String::from_utf8_lossy(bundle)));
        let mut cas: Vec<String> = all.filter(|ca| is_valid(ca, now)).collect();
        cas.sort_unstable();
        cas.dedup();
        cas.truncate(MAX_PUBLISHED);
        Ok(cas)
    }

    /// Who doesn't trust these certificates, if anybody doesn't.
    pub(super) async fn trusting(&self, needed: &[&str]) -> Result<Option<Behind>, PkiError> {
        match self.ca_bundle(needed).await? {
            Some(behind) => Ok(Some(behind)),
            None => self.config_maps(needed).await,
        }
    }

    async fn ca_bundle(&self, needed: &[&str]) -> Result<Option<Behind>, PkiError> {
        let bundles = ca_bundle::live(&self.client).await?;
        let mut texts = bundles.iter().map(|bundle| String::from_utf8_lossy(bundle));
        let name = ca_bundle::CONFIGURATION;
        Ok(texts
            .any(|bundle| !trusts(&bundle, needed))
            .then(|| elsewhere(format!("caBundle of {name} doesn't hold the CA"))))
    }

    async fn config_maps(&self, needed: &[&str]) -> Result<Option<Behind>, PkiError> {
        let api: Api<ConfigMap> = Api::all(self.client.clone());
        // resourceVersion stays unset: what was written before is seen.
        let mut parameters = ListParams::default()
            .fields(&format!("metadata.name={CA_CONFIG_MAP}"))
            .labels(&format!("{MANAGED_BY}={MANAGER}"))
            .limit(PAGE);
        let mut behind = Vec::new();
        loop {
            let doing = format!("listing the ConfigMaps {CA_CONFIG_MAP}");
            let page = api.list(&parameters).await.map_err(PkiError::api(doing))?;
            let of_page = page.items.iter().filter(|map| !holds(map, needed));
            behind.extend(of_page.filter_map(ResourceExt::namespace));
            if behind.len() >= MAX_BEHIND {
                break;
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => break,
            }
        }
        Ok(sentence(behind))
    }
}

fn trusts(bundle: &str, needed: &[&str]) -> bool {
    needed.iter().all(|certificate| bundle.contains(certificate.trim()))
}

fn holds(map: &ConfigMap, needed: &[&str]) -> bool {
    let bundle = map.data.as_ref().and_then(|data| data.get(CA_CONFIG_MAP_KEY));
    bundle.is_some_and(|bundle| trusts(bundle, needed))
}

/// A certificate that we have to replace, and haven't.
fn is_overdue(secret: &Secret, cas: &Cas) -> bool {
    let leaf = text(secret, CERTIFICATE).unwrap_or_default();
    is_ours(&secret.metadata) && !Authority::from_pem(&cas.signing).is_ok_and(|authority| authority.signed(&leaf))
}

pub(super) const fn elsewhere(what: String) -> Behind {
    let namespaces = Vec::new();
    Behind { what, namespaces }
}

fn sentence(namespaces: Vec<String>) -> Option<Behind> {
    if namespaces.is_empty() {
        return None;
    }
    let more = if namespaces.len() > MAX_NAMED {
        " and others"
    } else {
        ""
    };
    let named: Vec<&str> = namespaces.iter().take(MAX_NAMED).map(String::as_str).collect();
    let list = named.join(", ");
    let what = format!("the ConfigMap {CA_CONFIG_MAP} doesn't hold the CA in the namespaces {list}{more}");
    Some(Behind { what, namespaces })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::pki::authority::PemPair;

    fn ca() -> PemPair {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        Authority::generate("a", now).unwrap()
    }

    fn map(bundle: &str) -> ConfigMap {
        serde_json::from_value(json!({"data": {CA_CONFIG_MAP_KEY: bundle}})).unwrap()
    }

    #[test]
    fn a_bundle_without_the_successor_is_behind() {
        let mut cas = Cas::new(ca());
        let holds = |map: &ConfigMap, cas: &Cas| super::holds(map, &cas.needed().collect::<Vec<_>>());
        let before = cas.bundle();
        assert!(holds(&map(&before), &cas) && !holds(&ConfigMap::default(), &cas));
        cas.next = Some(ca());
        assert!(!holds(&map(&before), &cas) && holds(&map(&cas.bundle()), &cas));
        let next_alone = cas.next.as_ref().unwrap().certificate();
        assert!(!holds(&map(next_alone), &cas), "the one that signs is needed, too");
    }

    #[test]
    fn a_broker_certificate_of_the_ca_before_is_behind() {
        let (old, new) = (ca(), ca());
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let leaf = Authority::from_pem(&old)
            .unwrap()
            .issue(&["broker".to_owned()], now)
            .unwrap();
        let secret = |labels| -> Secret {
            let data = json!({"tls.crt": ByteString(leaf.certificate().as_bytes().to_vec())});
            serde_json::from_value(json!({"metadata": {"labels": labels}, "data": data})).unwrap()
        };
        let ours = secret(json!({MANAGED_BY: MANAGER}));
        assert!(!is_overdue(&ours, &Cas::new(old)));
        assert!(is_overdue(&ours, &Cas::new(new.clone())));
        let foreign = secret(json!({}));
        assert!(!is_overdue(&foreign, &Cas::new(new)), "nobody replaces that");
    }

    #[test]
    fn a_few_namespaces_are_named() {
        assert_eq!(sentence(Vec::new()), None);
        let names = |count: usize| (0..count).map(|number| format!("n{number}")).collect();
        assert!(sentence(names(5)).unwrap().what.ends_with("n0, n1, n2, n3, n4"));
        let many = sentence(names(20)).unwrap();
        assert!(many.what.ends_with("n3, n4 and others") && many.namespaces.len() == 20);
    }
}
