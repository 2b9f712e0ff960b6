//! Our volumes and their sources.

use agentwrit_protocol::inject::{
    CA_CONFIG_MAP, CA_CONFIG_MAP_KEY, IDENTITY_TOKEN_SECONDS, VOLUME_EMPTY, VOLUME_IDENTITY, VOLUME_TOKEN,
};

use super::contradiction;
use crate::webhook::patch::PatchBuilder;
use crate::webhook::refusal::{Refusal, name, quoted};
use crate::webhook::sidecar_spec::{self, SidecarSettings};
use crate::webhook::volumes::{AccountToken, ConfigMap, KeyPath, Projected, Volume, Volumes};

/// Looks at the volumes with reserved names, and adds those of ours that are missing.
pub(crate) fn check(
    patch: &mut PatchBuilder,
    volumes: &Volumes<'_>,
    settings: &SidecarSettings,
) -> Result<(), Refusal> {
    let (mut token, mut identity, mut empty) = (false, false, false);
    for volume in &volumes.reserved {
        let item = format!("volume {}", name(&volume.name));
        let found = match &*volume.name {
            VOLUME_TOKEN => {
                token_source(&item, volume)?;
                &mut token
            }
            VOLUME_IDENTITY => {
                identity_source(&item, volume, settings)?;
                &mut identity
            }
            VOLUME_EMPTY => {
                empty_source(&item, volume)?;
                &mut empty
            }
            _ => {
                let why = "AgentWrit has no volume of this name".to_owned();
                return Err(Refusal::ReservedName { item, why });
            }
        };
        if std::mem::replace(found, true) {
            let why = "there is another of this name".to_owned();
            return Err(Refusal::ReservedName { item, why });
        }
    }
    let mut present = volumes.present;
    for (found, volume) in [
        (token, sidecar_spec::token_volume()),
        (identity, sidecar_spec::identity_volume(settings)),
        (empty, sidecar_spec::empty_volume()),
    ] {
        if !found {
            patch.list("/spec/volumes", present);
            present = true;
            patch.add("/spec/volumes/-", &volume);
        }
    }
    Ok(())
}

fn token_source(item: &str, volume: &Volume<'_>) -> Result<(), Refusal> {
    let right = "an emptyDir with medium \"Memory\": no token may reach a disk";
    let other = volume
        .other
        .as_deref()
        .or(volume.projected.as_ref().map(|_| "projected"));
    match (&volume.empty_dir, other) {
        (Some(found), None) if found.medium == "Memory" => Ok(()),
        (Some(found), None) => Err(contradiction(
            item,
            "emptyDir.medium",
            quoted(&found.medium),
            "\"Memory\"",
        )),
        (_, Some(other)) => Err(contradiction(item, "its source", name(other), right)),
        (None, None) => Err(contradiction(item, "its source", "unset".into(), right)),
    }
}

fn empty_source(item: &str, volume: &Volume<'_>) -> Result<(), Refusal> {
    let other = volume
        .other
        .as_deref()
        .or(volume.projected.as_ref().map(|_| "projected"));
    let found = match (&volume.empty_dir, other) {
        (Some(_), None) => return Ok(()),
        (_, Some(other)) => name(other),
        (None, None) => "unset".into(),
    };
    let right = "an emptyDir: it hides the pod's API token from the sidecar";
    Err(contradiction(item, "its source", found, right))
}

fn identity_source(item: &str, volume: &Volume<'_>, settings: &SidecarSettings) -> Result<(), Refusal> {
    let other = volume
        .other
        .as_deref()
        .or(volume.empty_dir.as_ref().map(|_| "emptyDir"));
    let right = "projected, with the pod's ServiceAccount token and the CA";
    let projected = match (&volume.projected, other) {
        (Some(projected), None) => projected,
        (_, Some(other)) => return Err(contradiction(item, "its source", name(other), right)),
        (None, None) => return Err(contradiction(item, "its source", "unset".into(), right)),
    };
    // The files belong to root, and the sidecar doesn't run as root.
    let readable = projected.default_mode.is_none_or(|mode| mode & 0o004 != 0);
    if !readable {
        let mode = projected.default_mode.unwrap_or_default();
        return Err(contradiction(
            item,
            "projected.defaultMode",
            mode.to_string(),
            "420 (0644)",
        ));
    }
    projected_sources(item, projected, settings)
}

fn projected_sources(item: &str, projected: &Projected<'_>, settings: &SidecarSettings) -> Result<(), Refusal> {
    let sources = &projected.sources;
    let token = sources.items.iter().find_map(|source| source.account_token.as_ref());
    let ca = sources.items.iter().find_map(|source| source.config_map.as_ref());
    match (token, ca) {
        (Some(token), Some(ca)) if sources.count == 2 => {
            token_of_account(item, token, settings)?;
            ca_of_config_map(item, ca)
        }
        _ => {
            let right = "a serviceAccountToken and a configMap, and nothing else";
            let found = format!("a list of {} with others", sources.count);
            Err(contradiction(item, "projected.sources", found, right))
        }
    }
}

fn token_of_account(item: &str, token: &AccountToken<'_>, settings: &SidecarSettings) -> Result<(), Refusal> {
    let refuse = |field: &str, found: String, right: String| {
        let field = format!("projected.sources serviceAccountToken.{field}");
        Err(contradiction(item, &field, found, right))
    };
    if token.audience != settings.audience.as_str() {
        return refuse("audience", quoted(&token.audience), quoted(&settings.audience));
    }
    if token.expiration_seconds != IDENTITY_TOKEN_SECONDS {
        let right = IDENTITY_TOKEN_SECONDS.to_string();
        return refuse("expirationSeconds", token.expiration_seconds.to_string(), right);
    }
    if token.path != "token" {
        return refuse("path", quoted(&token.path), "\"token\"".into());
    }
    Ok(())
}

fn ca_of_config_map(item: &str, found: &ConfigMap<'_>) -> Result<(), Refusal> {
    if found.name != CA_CONFIG_MAP {
        let field = "projected.sources configMap.name";
        return Err(contradiction(item, field, quoted(&found.name), quoted(CA_CONFIG_MAP)));
    }
    let right = |item: &KeyPath<'_>| item.key == CA_CONFIG_MAP_KEY && item.path == CA_CONFIG_MAP_KEY;
    if found.items.count != 1 || !found.items.items.iter().all(right) {
        let field = "projected.sources configMap.items";
        let found = format!("a list of {} with others", found.items.count);
        let right = format!("the key {CA_CONFIG_MAP_KEY} alone, as the file {CA_CONFIG_MAP_KEY}");
        return Err(contradiction(item, field, found, right));
    }
    Ok(())
}
