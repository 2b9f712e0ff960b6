//! What the webhook reads of a pod. Nothing else of it is kept, however large it is.

mod amounts;

use agentwrit_protocol::inject::{
    API_TOKEN_DIR, CONTAINER_NAME, ENDPOINT_PORT, ENV_ENDPOINT, ENV_TOKEN_FILE, HEALTH_PORT, IDENTITY_DIR,
    RESERVED_PREFIX, TOKEN_DIR,
};
use serde::de::SeqAccess;

use self::amounts::Amounts;
use super::annotations::{Annotations, Labels};
use super::bounds::{MAX_CONTAINERS, MAX_ENV, MAX_MOUNTS, MAX_PORTS};
use super::json::{Count, FromJson, Present, Text, items, object};
use super::paths::{Place, place};
use super::refusal::name;
use super::sidecar_spec::SIDECAR_ENV;
use super::volumes::Volumes;

/// Supplemental groups of a pod that are looked at.
const MAX_GROUPS: usize = 256;
/// Mounts of reserved names that are kept of one container: three may be right, so of four one is wrong.
const MAX_RESERVED: usize = 4;

object! {
    Pod<'a> {
        metadata: Metadata<'a> = "metadata",
        spec: Option<Spec<'a>> = "spec",
    }

    /// Its metadata. The name is empty where the API server makes one from `generateName`.
    Metadata<'a> {
        name: Text<'a> = "name",
        generate_name: Text<'a> = "generateName",
        labels: Labels<'a> = "labels",
        annotations: Annotations<'a> = "annotations",
    }

    Spec<'a> {
        host_network: bool = "hostNetwork",
        host_pid: bool = "hostPID",
        share_process_namespace: bool = "shareProcessNamespace",
        os: Os<'a> = "os",
        node_selector: NodeSelector<'a> = "nodeSelector",
        service_account_name: Text<'a> = "serviceAccountName",
        security: Option<PodSecurity> = "securityContext",
        // Of the pod as a whole (KEP-2837): they decide about its class, whatever its containers have.
        resources: Present = "resources",
        init_containers: Containers<'a> = "initContainers",
        containers: Containers<'a> = "containers",
        volumes: Volumes<'a> = "volumes",
    }

    /// The security context of the pod as a whole.
    PodSecurity { groups: Option<Groups> = "supplementalGroups" }

    Os<'a> { name: Text<'a> = "name" }

    NodeSelector<'a> { os: Text<'a> = "kubernetes.io/os" }

    /// A container as it is in the body; [`Container`] is what is kept of it.
    WholeContainer<'a> {
        name: Text<'a> = "name",
        image: Text<'a> = "image",
        command: Count = "command",
        args: Count = "args",
        restart_policy: Text<'a> = "restartPolicy",
        env: Env<'a> = "env",
        mounts: Mounts<'a> = "volumeMounts",
        ports: Ports = "ports",
        security: Option<Security<'a>> = "securityContext",
        lifecycle: Option<Lifecycle> = "lifecycle",
        startup_probe: Present = "startupProbe",
        readiness_probe: Present = "readinessProbe",
        resources: Amounts = "resources",
    }

    Lifecycle { post_start: Present = "postStart" }

    Variable<'a> {
        name: Text<'a> = "name",
        value: Text<'a> = "value",
        value_from: Present = "valueFrom",
    }

    Mount<'a> {
        volume: Text<'a> = "name",
        path: Text<'a> = "mountPath",
        read_only: bool = "readOnly",
        sub_path: Text<'a> = "subPath",
        sub_path_expr: Text<'a> = "subPathExpr",
    }

    Port { number: i64 = "containerPort" }

    /// A container's security context.
    Security<'a> {
        privileged: bool = "privileged",
        allow_privilege_escalation: Option<bool> = "allowPrivilegeEscalation",
        read_only_root_filesystem: Option<bool> = "readOnlyRootFilesystem",
        run_as_non_root: Option<bool> = "runAsNonRoot",
        run_as_user: Option<i64> = "runAsUser",
        run_as_group: Option<i64> = "runAsGroup",
        proc_mount: Text<'a> = "procMount",
        capabilities: Option<Capabilities<'a>> = "capabilities",
        seccomp: Option<Profile<'a>> = "seccompProfile",
        app_armor: Option<Profile<'a>> = "appArmorProfile",
    }

    /// A profile of seccomp or `AppArmor`.
    Profile<'a> { kind: Text<'a> = "type" }

    Capabilities<'a> { add: Names<'a> = "add", drop: Names<'a> = "drop" }
}

impl Metadata<'_> {
    /// The name for a log line, or the beginning of the one that the API server will make.
    pub(crate) fn shown_name(&self) -> String {
        if self.name.is_empty() {
            format!("{}*", name(&self.generate_name))
        } else {
            name(&self.name)
        }
    }
}

/// The containers, or the init containers, of a pod.
#[derive(Debug, Default)]
pub(crate) struct Containers<'a> {
    /// Whether there is a list.
    pub(crate) present: bool,
    /// How many there are.
    pub(crate) count: usize,
    /// They, as far as there aren't too many.
    pub(crate) items: Vec<Container<'a>>,
}

impl<'de: 'a, 'a> FromJson<'de> for Containers<'a> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut kept = Vec::new();
        let count = items(list, MAX_CONTAINERS, |container: WholeContainer<'de>| {
            kept.push(Container::from(container));
        })?;
        Ok(Some(Self {
            present: true,
            count,
            items: kept,
        }))
    }
}

/// What is kept of a container. Small, because there may be many.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    pub(crate) name: Text<'a>,
    /// Of its environment.
    pub(crate) env: EnvSummary,
    /// How many mounts it has; `None` when it has no list of them.
    pub(crate) mount_count: Option<u32>,
    /// The mounts that concern us, if there are any.
    pub(crate) mounts: Option<Box<NotedMounts<'a>>>,
    pub(crate) ports: Ports,
    /// Whether it is as the class Guaranteed wants it.
    pub(crate) guaranteed: bool,
    /// What is compared of a container with our sidecar's name.
    pub(crate) own: Option<Box<Own<'a>>>,
}

/// What is compared of a container with our sidecar's name.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    pub(crate) image: Text<'a>,
    /// Items of its command.
    pub(crate) command: usize,
    pub(crate) args: usize,
    pub(crate) restart_policy: Text<'a>,
    /// The effective variables of ours, in the order of [`SIDECAR_ENV`].
    pub(crate) env: [Option<Value<'a>>; SIDECAR_ENV.len()],
    pub(crate) security: Option<Security<'a>>,
    /// Its hooks.
    pub(crate) lifecycle: Option<Lifecycle>,
    /// Whether it has a startup probe.
    pub(crate) startup_probe: bool,
    /// Whether it has a readiness probe.
    pub(crate) readiness_probe: bool,
    /// Which of its mounts has another volume than ours where the pod's API token is.
    pub(crate) api_token_mount: Option<u32>,
}

impl<'a> From<WholeContainer<'a>> for Container<'a> {
    fn from(whole: WholeContainer<'a>) -> Self {
        let Mounts {
            count,
            noted,
            api_token,
        } = whole.mounts;
        let own = (whole.name == CONTAINER_NAME).then(|| {
            Box::new(Own {
                image: whole.image,
                command: whole.command.0,
                args: whole.args.0,
                restart_policy: whole.restart_policy,
                env: whole.env.own,
                security: whole.security,
                lifecycle: whole.lifecycle,
                startup_probe: whole.startup_probe.0,
                readiness_probe: whole.readiness_probe.0,
                api_token_mount: api_token,
            })
        });
        Self {
            name: whole.name,
            env: whole.env.summary,
            mount_count: count,
            mounts: (!noted.is_empty()).then(|| Box::new(noted)),
            ports: whole.ports,
            guaranteed: whole.resources.is_guaranteed(),
            own,
        }
    }
}

impl Spec<'_> {
    /// Whether the pod is of class Guaranteed by its containers, our sidecar aside.
    pub(crate) fn is_guaranteed(&self) -> bool {
        let all = self.init_containers.items.iter().chain(&self.containers.items);
        !self.resources.0
            && all
                .filter(|container| container.own.is_none())
                .all(|container| container.guaranteed)
    }
}

/// Where the value of a variable comes from.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    /// It is written down.
    Text(Text<'a>),
    /// `valueFrom`.
    From,
}

#[derive(Debug, Default)]
pub(crate) struct Env<'a> {
    summary: EnvSummary,
    /// The last of each of ours, which is the one that counts.
    own: [Option<Value<'a>>; SIDECAR_ENV.len()],
}

/// What is kept of an environment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnvSummary {
    /// How many variables; `None` when there is no list.
    pub(crate) count: Option<u32>,
    /// Whether it has the path of the token file.
    pub(crate) token_file: bool,
    /// Whether it has the address of the endpoint.
    pub(crate) endpoint: bool,
}

impl<'de: 'a, 'a> FromJson<'de> for Env<'a> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut env = Self::default();
        let count = items(list, MAX_ENV, |variable: Variable<'de>| {
            let mut own = SIDECAR_ENV.iter().zip(&mut env.own);
            if let Some((_, value)) = own.find(|(name, _)| **name == variable.name) {
                *value = Some(if variable.value_from.0 {
                    Value::From
                } else {
                    Value::Text(variable.value)
                });
            }
            env.summary.token_file |= variable.name == ENV_TOKEN_FILE;
            env.summary.endpoint |= variable.name == ENV_ENDPOINT;
        })?;
        env.summary.count = Some(capped(count));
        Ok(Some(env))
    }
}

/// The volume mounts of a container.
#[derive(Debug, Default)]
pub(crate) struct Mounts<'a> {
    count: Option<u32>,
    noted: NotedMounts<'a>,
    /// The first that has another volume than ours at [`API_TOKEN_DIR`].
    api_token: Option<u32>,
}

/// The mounts that concern us.
#[derive(Debug, Default)]
pub(crate) struct NotedMounts<'a> {
    /// Of volumes with reserved names: the first few.
    pub(crate) reserved: Vec<Mount<'a>>,
    /// The first mount of another volume at or below the token's directory.
    pub(crate) over_token: Option<Mount<'a>>,
    /// The same for the identity's directory.
    pub(crate) over_identity: Option<Mount<'a>>,
}

impl NotedMounts<'_> {
    fn is_empty(&self) -> bool {
        self.reserved.is_empty() && self.over_token.is_none() && self.over_identity.is_none()
    }
}

impl<'de: 'a, 'a> FromJson<'de> for Mounts<'a> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut noted = NotedMounts::default();
        let (mut index, mut api_token) = (0, None);
        let count = items(list, MAX_MOUNTS, |mount: Mount<'de>| {
            let this = index;
            index += 1;
            if mount.volume.starts_with(RESERVED_PREFIX) {
                if noted.reserved.len() < MAX_RESERVED {
                    noted.reserved.push(mount);
                }
            } else if place(&mount.path, TOKEN_DIR) != Place::Elsewhere {
                noted.over_token.get_or_insert(mount);
            } else if place(&mount.path, IDENTITY_DIR) != Place::Elsewhere {
                noted.over_identity.get_or_insert(mount);
            } else if place(&mount.path, API_TOKEN_DIR) == Place::At {
                api_token.get_or_insert(this);
            }
        })?;
        Ok(Some(Self {
            count: Some(capped(count)),
            noted,
            api_token,
        }))
    }
}

/// The ports of a container.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ports {
    pub(crate) count: u32,
    /// Whether the health listener's is among them.
    pub(crate) health: bool,
    /// Whether the endpoint's is.
    pub(crate) endpoint: bool,
}

impl<'de> FromJson<'de> for Ports {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut ports = Self::default();
        let count = items(list, MAX_PORTS, |port: Port| {
            ports.health |= port.number == i64::from(HEALTH_PORT);
            ports.endpoint |= port.number == i64::from(ENDPOINT_PORT);
        })?;
        ports.count = capped(count);
        Ok(Some(ports))
    }
}

/// Numbers of groups: the first of them, and after those one may be there twice.
#[derive(Debug, Default)]
pub(crate) struct Groups(pub(crate) Vec<i64>);

impl<'de> FromJson<'de> for Groups {
    const WANTED: &'static str = "a list";

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut groups = Vec::new();
        items(list, MAX_GROUPS, |group| groups.push(group))?;
        Ok(Some(Self(groups)))
    }
}

/// A list of names, such as capabilities.
#[derive(Debug, Default)]
pub(crate) struct Names<'a> {
    /// Whether there is a list.
    pub(crate) present: bool,
    /// The first of them.
    pub(crate) first: Option<Text<'a>>,
    /// Whether `ALL` is among them.
    pub(crate) all: bool,
}

impl<'de: 'a, 'a> FromJson<'de> for Names<'a> {
    const WANTED: &'static str = "a list";

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Option<Self>, A::Error> {
        let mut names = Self {
            present: true,
            ..Self::default()
        };
        items(list, usize::MAX, |name: Text<'de>| {
            names.all |= name == "ALL";
            names.first.get_or_insert(name);
        })?;
        Ok(Some(names))
    }
}

/// A count as it is kept: beyond every bound, which is enough.
fn capped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
