//! Names and constants between webhook, sidecar, chart and application (`docs/kubernetes-api.md` §2).

/// Label of a pod, or of a namespace for its pods that have none: one of [`INJECT_ON`] or [`INJECT_OFF`], and nothing
/// else.
pub const LABEL_INJECT: &str = "agentwrit.io/inject";
/// The usual value on a namespace.
pub const INJECT_ENABLED: &str = "enabled";
/// Values of [`LABEL_INJECT`] that ask for injection.
pub const INJECT_ON: [&str; 2] = ["true", INJECT_ENABLED];
/// Values of [`LABEL_INJECT`] that forbid it.
pub const INJECT_OFF: [&str; 2] = ["false", "disabled"];
/// Label that the webhook puts on injected pods; the controller watches it.
pub const LABEL_INJECTED: &str = "agentwrit.io/injected";
/// Annotation of the kubelet on the mirror of a static pod: it shows what runs already and can't be changed.
pub const ANNOTATION_MIRROR_POD: &str = "kubernetes.io/config.mirror";
/// Label of the Secrets with credentials of an AgentApp's client.
pub const LABEL_CLIENT_CREDENTIALS: &str = "agentwrit.io/client-credentials";
/// Annotation of such a Secret: what the controller wrote last, without the secret itself.
pub const ANNOTATION_CLIENT_SECRET: &str = "agentwrit.io/client-secret";
/// AgentApp annotation: a new value asks for a new client secret.
pub const ANNOTATION_ROTATE_CLIENT_SECRET: &str = "agentwrit.io/rotate-client-secret";
/// Prefix of every annotation and label of ours.
pub const ANNOTATION_PREFIX: &str = "agentwrit.io/";
/// Pod annotation naming the LaunchToken.
pub const ANNOTATION_LAUNCH_TOKEN: &str = "agentwrit.io/launch-token";
/// Namespace annotation naming the LaunchToken of pods that name none.
pub const ANNOTATION_DEFAULT_LAUNCH_TOKEN: &str = "agentwrit.io/default-launch-token";
/// Pod annotation: comma list of scopes, to ask for less than the LaunchToken allows.
pub const ANNOTATION_SCOPES: &str = "agentwrit.io/scopes";
/// Pod annotation: seconds, at least 10, to ask for a shorter life.
pub const ANNOTATION_TTL_SECONDS: &str = "agentwrit.io/ttl-seconds";
/// Pod annotation: comma list of containers that get the token; all by default.
pub const ANNOTATION_CONTAINERS: &str = "agentwrit.io/containers";
/// Pod annotation: `on` or `off`, the localhost endpoint. Unless it is set, the endpoint is open where all containers
/// get the token, and closed where [`ANNOTATION_CONTAINERS`] names some.
pub const ANNOTATION_ENDPOINT: &str = "agentwrit.io/endpoint";
/// Pod annotation: what the application's start waits for, one of [`START_GATES`].
pub const ANNOTATION_START_GATE: &str = "agentwrit.io/start-gate";
/// `probe`: the token, which the kubelet asks for once a second. `hook`: the token, which a hook of the sidecar waits for
/// without the kubelet's pause, at most 20 s. `none`: nothing.
pub const START_GATES: [&str; 3] = ["probe", "hook", "none"];
/// Pod annotation: number of the only group that may read the token file.
pub const ANNOTATION_TOKEN_FILE_GID: &str = "agentwrit.io/token-file-gid";
/// Pod annotation that allows injection although processes or pids are shared: `true`.
pub const ANNOTATION_ALLOW_SHARED_PIDS: &str = "agentwrit.io/allow-shared-pids";
/// Its former name, which still counts and is warned of.
pub const ANNOTATION_ALLOW_SHARED_PID: &str = "agentwrit.io/allow-shared-pid";
/// Pod annotation: CPU that the sidecar asks for, a Kubernetes quantity.
pub const ANNOTATION_SIDECAR_CPU_REQUEST: &str = "agentwrit.io/sidecar-cpu-request";
/// Pod annotation: the most CPU that the sidecar gets, or `none`.
pub const ANNOTATION_SIDECAR_CPU_LIMIT: &str = "agentwrit.io/sidecar-cpu-limit";
/// Pod annotation: memory that the sidecar asks for.
pub const ANNOTATION_SIDECAR_MEMORY_REQUEST: &str = "agentwrit.io/sidecar-memory-request";
/// Pod annotation: the most memory that the sidecar gets.
pub const ANNOTATION_SIDECAR_MEMORY_LIMIT: &str = "agentwrit.io/sidecar-memory-limit";
/// All annotations of ours that mean something on a pod. The chart's admission policies name the same ones
/// (`agentwrit.podAnnotations`).
pub const POD_ANNOTATIONS: [&str; 13] = [
    ANNOTATION_LAUNCH_TOKEN,
    ANNOTATION_SCOPES,
    ANNOTATION_TTL_SECONDS,
    ANNOTATION_CONTAINERS,
    ANNOTATION_ENDPOINT,
    ANNOTATION_START_GATE,
    ANNOTATION_TOKEN_FILE_GID,
    ANNOTATION_ALLOW_SHARED_PIDS,
    ANNOTATION_ALLOW_SHARED_PID,
    ANNOTATION_SIDECAR_CPU_REQUEST,
    ANNOTATION_SIDECAR_CPU_LIMIT,
    ANNOTATION_SIDECAR_MEMORY_REQUEST,
    ANNOTATION_SIDECAR_MEMORY_LIMIT,
];
/// Annotation on a custom resource: remove the finalizer without the broker.
pub const ANNOTATION_RELEASE_FINALIZER: &str = "agentwrit.io/release-finalizer";
/// Finalizer of both kinds.
pub const FINALIZER: &str = "agentwrit.io/broker-policy";
/// Shortest life that `ttl-seconds` may ask for.
pub const MIN_TTL_SECONDS: i64 = 10;

/// Prefix that only our own injected items may use.
pub const RESERVED_PREFIX: &str = "agentwrit-";
/// Name of the injected init container.
pub const CONTAINER_NAME: &str = "agentwrit-sidecar";
/// Name of the memory volume that holds the token file.
pub const VOLUME_TOKEN: &str = "agentwrit-token";
/// Name of the projected volume that holds the pod's identity and the CA.
pub const VOLUME_IDENTITY: &str = "agentwrit-identity";
/// Name of the empty volume that hides the pod's default API token from the sidecar.
pub const VOLUME_EMPTY: &str = "agentwrit-empty";
/// Where Kubernetes mounts the default API token, unless something is mounted there already; in the sidecar that is
/// [`VOLUME_EMPTY`].
pub const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Where the token volume is mounted.
pub const TOKEN_DIR: &str = "/var/run/secrets/agentwrit.io/token";
/// The token file.
pub const TOKEN_FILE: &str = "/var/run/secrets/agentwrit.io/token/token";
/// Where the identity volume is mounted, in the sidecar only.
pub const IDENTITY_DIR: &str = "/var/run/secrets/agentwrit.io/identity";
/// The projected ServiceAccount token.
pub const IDENTITY_TOKEN_FILE: &str = "/var/run/secrets/agentwrit.io/identity/token";
/// The CA that signed the broker's certificate.
pub const IDENTITY_CA_FILE: &str = "/var/run/secrets/agentwrit.io/identity/ca.crt";
/// Life of the projected ServiceAccount token, seconds.
pub const IDENTITY_TOKEN_SECONDS: i64 = 600;
/// Name of the ConfigMap with the CA, in every namespace that needs it.
pub const CA_CONFIG_MAP: &str = "agentwrit-ca";
/// Its key.
pub const CA_CONFIG_MAP_KEY: &str = "ca.crt";

/// The hook after the sidecar's start that waits for the token.
pub const WAIT_COMMAND: [&str; 2] = ["/agentwrit-sidecar", "wait"];

/// Port of the health listener, all addresses; no secret on it.
pub const HEALTH_PORT: u16 = 15081;
/// Path of the startup probe.
pub const HEALTH_STARTUP_PATH: &str = "/startup";
/// Path of the readiness probe.
pub const HEALTH_READY_PATH: &str = "/ready";
/// Port of the token endpoint, on 127.0.0.1 only.
pub const ENDPOINT_PORT: u16 = 15080;
/// Path of the token endpoint.
pub const ENDPOINT_PATH: &str = "/token";
/// Header that the token endpoint needs, with the value `1`.
pub const ENDPOINT_HEADER: &str = "Agentwrit-Request";

/// Environment of the application: path of the token file.
pub const ENV_TOKEN_FILE: &str = "AGENTWRIT_TOKEN_FILE";
/// Environment of the application: base URL of the endpoint.
pub const ENV_ENDPOINT: &str = "AGENTWRIT_ENDPOINT";
/// Value of [`ENV_ENDPOINT`].
pub const ENDPOINT_URL: &str = "http://127.0.0.1:15080";
/// Environment of the sidecar: base URL of the broker.
pub const ENV_BROKER_URL: &str = "AGENTWRIT_BROKER_URL";
/// Environment of the sidecar: name of the LaunchToken.
pub const ENV_LAUNCH_TOKEN: &str = "AGENTWRIT_LAUNCH_TOKEN";
/// Environment of the sidecar: comma list of scopes; empty means all that the LaunchToken allows.
pub const ENV_SCOPES: &str = "AGENTWRIT_SCOPES";
/// Environment of the sidecar: seconds; empty means what the LaunchToken allows.
pub const ENV_TTL_SECONDS: &str = "AGENTWRIT_TTL_SECONDS";
/// Environment of the sidecar: number of the group that may read the token file; empty: everybody in the pod.
pub const ENV_TOKEN_FILE_GID: &str = "AGENTWRIT_TOKEN_FILE_GID";
/// Groups that a token file may be for: not root's, and those that Kubernetes takes.
pub const TOKEN_FILE_GIDS: std::ops::RangeInclusive<u32> = 1..=2_147_483_647;
/// Environment of the sidecar: `true` or `false`.
pub const ENV_ENDPOINT_ENABLED: &str = "AGENTWRIT_ENDPOINT_ENABLED";
