//! Mounts of our volumes, and of others in their place.

use agentwrit_protocol::inject::{API_TOKEN_DIR, IDENTITY_DIR, TOKEN_DIR, VOLUME_EMPTY, VOLUME_IDENTITY, VOLUME_TOKEN};

use serde_json::Value;

use super::contradiction;
use crate::webhook::patch::PatchBuilder;
use crate::webhook::paths::{Place, place};
use crate::webhook::pod::{Container, Mount};
use crate::webhook::refusal::{Refusal, name, quoted};
use crate::webhook::sidecar_spec;

/// Looks at the mounts of the sidecar, and adds those of ours that are missing.
///
/// The error names the mount that contradicts.
pub(super) fn sidecar_mounts(patch: &mut PatchBuilder, at: &str, container: &Container<'_>) -> Result<(), Refusal> {
    let noted = container.mounts.as_deref();
    for (taken, directory) in [
        (noted.and_then(|noted| noted.over_token.as_ref()), TOKEN_DIR),
        (noted.and_then(|noted| noted.over_identity.as_ref()), IDENTITY_DIR),
    ] {
        if let Some(mount) = taken {
            return Err(mount_taken(container, mount, directory));
        }
    }
    let mut found = [false; 3];
    let ours = [
        (VOLUME_TOKEN, TOKEN_DIR),
        (VOLUME_IDENTITY, IDENTITY_DIR),
        (VOLUME_EMPTY, API_TOKEN_DIR),
    ];
    for mount in noted.into_iter().flat_map(|noted| &noted.reserved) {
        let mut pairs = ours.iter().zip(&mut found);
        let Some(((_, directory), found)) = pairs.find(|((volume, _), _)| *volume == mount.volume) else {
            return Err(foreign_mount(container, mount, "which AgentWrit doesn't have"));
        };
        if std::mem::replace(found, true) {
            return Err(foreign_mount(container, mount, "and twice"));
        }
        place_of(container, mount, directory)?;
        if mount.volume == VOLUME_TOKEN && mount.read_only {
            let right = "false: the sidecar writes there";
            return Err(contradiction(
                &item_of(container, mount),
                "readOnly",
                "true".into(),
                right,
            ));
        }
    }
    let [has_token, has_identity, hides_api_token] = found;
    let mounts = format!("{at}/volumeMounts");
    let mut present = container.mount_count.is_some();
    let mut put_back = |mount: &Value| {
        patch.list(&mounts, present);
        present = true;
        patch.add(&format!("{mounts}/-"), mount);
    };
    if !has_token {
        put_back(&sidecar_spec::sidecar_token_mount());
    }
    if !has_identity {
        put_back(&sidecar_spec::identity_mount());
    }
    if !hides_api_token {
        // Kubernetes has mounted the token where nothing was yet: ours takes its place.
        match container.own.as_ref().and_then(|own| own.api_token_mount) {
            Some(index) => patch.replace(&format!("{mounts}/{index}"), &sidecar_spec::empty_mount()),
            None => put_back(&sidecar_spec::empty_mount()),
        }
    }
    Ok(())
}

/// Looks at a container that isn't our sidecar, and answers whether it has the token's mount.
///
/// The error names the mount that contradicts, or that it may not have.
pub(crate) fn token_mount(container: &Container<'_>, gets_token: bool) -> Result<bool, Refusal> {
    let mut found = false;
    for mount in container.mounts.iter().flat_map(|noted| &noted.reserved) {
        if mount.volume == VOLUME_IDENTITY || mount.volume == VOLUME_EMPTY {
            return Err(foreign_mount(container, mount, "which only the sidecar may mount"));
        }
        if mount.volume != VOLUME_TOKEN {
            return Err(foreign_mount(container, mount, "which AgentWrit doesn't have"));
        }
        if !gets_token {
            let why = "but isn't named in the annotation agentwrit.io/containers";
            return Err(foreign_mount(container, mount, why));
        }
        if std::mem::replace(&mut found, true) {
            return Err(foreign_mount(container, mount, "and twice"));
        }
        place_of(container, mount, TOKEN_DIR)?;
        if !mount.read_only {
            return Err(contradiction(
                &item_of(container, mount),
                "readOnly",
                "false".into(),
                "true",
            ));
        }
    }
    Ok(found)
}

/// A refusal of what another volume is mounted over.
pub(crate) fn mount_taken(container: &Container<'_>, mount: &Mount<'_>, directory: &'static str) -> Refusal {
    Refusal::MountTaken {
        container: name(&container.name),
        volume: name(&mount.volume),
        path: quoted(&mount.path),
        directory,
    }
}

fn foreign_mount(container: &Container<'_>, mount: &Mount<'_>, why: &'static str) -> Refusal {
    Refusal::ForeignMount {
        container: name(&container.name),
        volume: name(&mount.volume),
        why,
    }
}

fn item_of(container: &Container<'_>, mount: &Mount<'_>) -> String {
    format!(
        "mount of {} in container {}",
        name(&mount.volume),
        name(&container.name)
    )
}

fn place_of(container: &Container<'_>, mount: &Mount<'_>, directory: &str) -> Result<(), Refusal> {
    let item = item_of(container, mount);
    if place(&mount.path, directory) != Place::At {
        return Err(contradiction(
            &item,
            "mountPath",
            quoted(&mount.path),
            quoted(directory),
        ));
    }
    for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
        if !value.is_empty() {
            return Err(contradiction(&item, field, quoted(value), "unset"));
        }
    }
    Ok(())
}
