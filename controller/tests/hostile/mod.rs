//! Bodies that a stranger may send to the webhook, and what is answered.

/// What is answered to a body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// 400 with a text that holds this.
    Bad(&'static str),
    /// The pod is refused with a sentence that holds this.
    Refused(&'static str),
    /// The pod is allowed.
    Allowed,
}

/// A body and its answer.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) answer: Answer,
}

/// Just below the largest body that is read.
const LARGE: usize = 3 * 1024 * 1024 - 4096;

pub(crate) const METADATA: &str =
    r#"{"name":"shop","labels":{"agentwrit.io/inject":"true"},"annotations":{"agentwrit.io/launch-token":"reader"}}"#;

/// A review of a pod in a namespace that is known; both are JSON.
pub(crate) fn review(pod: &str) -> String {
    let envelope = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"705ab4f5-6393","#;
    let request = r#""operation":"CREATE","namespace":"shop","resource":{"group":"","version":"v1","resource":"pods"}"#;
    format!(r#"{envelope}{request},"object":{pod}}}}}"#)
}

fn pod(spec: &str) -> Vec<u8> {
    review(&format!(r#"{{"metadata":{METADATA},"spec":{spec}}}"#)).into_bytes()
}

fn container(members: &str) -> Vec<u8> {
    pod(&format!(r#"{{"containers":[{{"name":"app",{members}}}]}}"#))
}

fn metadata(members: &str) -> Vec<u8> {
    let spec = r#"{"containers":[{"name":"app"}]}"#;
    review(&format!(r#"{{"metadata":{{{members}}},"spec":{spec}}}"#)).into_bytes()
}

/// A pod that asks for injection, with one more annotation.
fn annotated(key: &str, value: &str) -> Vec<u8> {
    let annotations = format!(r#"{{"agentwrit.io/launch-token":"reader","agentwrit.io/{key}":"{value}"}}"#);
    metadata(&format!(
        r#""labels":{{"agentwrit.io/inject":"true"}},"annotations":{annotations}"#
    ))
}

/// `item`, as often as it takes to make a large body, with commas between.
fn many(item: &str) -> String {
    let count = LARGE / (item.len() + 1);
    vec![item; count].join(",")
}

fn long(text: &str) -> String {
    text.repeat((LARGE - 4096) / text.len())
}

fn nested(open: &str, inner: &str, close: &str) -> String {
    let depth = (LARGE - 4096) / (open.len() + close.len());
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// All cases: one kind of harm each, as large as a body may be.
pub(crate) fn cases() -> Vec<Case> {
    let rows = [lists(), maps(), texts(), reviews(), shapes()];
    let cases = rows.into_iter().flatten();
    cases.map(|(name, body, answer)| Case { name, body, answer }).collect()
}

type Row = (&'static str, Vec<u8>, Answer);

/// Too many items in a list.
fn lists() -> Vec<Row> {
    use Answer::{Allowed, Refused};
    let env = format!(r#""env":[{}]"#, vec!["{}"; 600_000].join(","));
    let named = |list: &str, item: &str| container(&format!(r#""{list}":[{}]"#, many(item)));
    let spec = |list: &str, item: &str| pod(&format!(r#"{{"containers":[],"{list}":[{}]}}"#, many(item)));
    let reserved = r#"{"name":"agentwrit-x"}"#;
    let mounts = vec![reserved; 500].join(",");
    let full = format!(r#"{{"name":"app","volumeMounts":[{mounts}]}}"#);
    let projected = |sources: &str| {
        let volume = format!(r#"{{"name":"agentwrit-identity","projected":{{"sources":[{sources}]}}}}"#);
        pod(&format!(r#"{{"containers":[],"volumes":[{volume}]}}"#))
    };
    let account = r#"{"audience":"agentwrit://a/b","expirationSeconds":600,"path":"token"}"#;
    let account = format!(r#"{{"serviceAccountToken":{account}}}"#);
    let ca = format!(r#"{{"configMap":{{"name":"agentwrit-ca","items":[{}]}}}}"#, many("{}"));
    vec![
        (
            "env",
            container(&env),
            Refused("spec.containers[0].env (container app) has 600000 items; AgentWrit reads at most 4096"),
        ),
        (
            "containers",
            spec("containers", "{}"),
            Refused("spec.containers and spec.initContainers together has 104"),
        ),
        (
            "init containers",
            spec("initContainers", "{}"),
            Refused("together has 104"),
        ),
        ("volumes", spec("volumes", "{}"), Refused("spec.volumes has 104")),
        (
            "mounts",
            named("volumeMounts", "{}"),
            Refused("spec.containers[0].volumeMounts (container app) has 104"),
        ),
        (
            "ports",
            named("ports", "{}"),
            Refused("spec.containers[0].ports (container app) has 104"),
        ),
        ("arguments", named("args", r#""""#), Allowed),
        (
            "volumes with reserved names",
            spec("volumes", reserved),
            Refused("spec.volumes has 13"),
        ),
        (
            "mounts with reserved names",
            named("volumeMounts", reserved),
            Refused("volumeMounts (container app) has 13"),
        ),
        (
            "mounts of many containers",
            pod(&format!(r#"{{"containers":[{}]}}"#, vec![full; 256].join(","))),
            Refused("container app mounts volume agentwrit-x"),
        ),
        (
            "sources of a projected volume",
            projected(&many("{}")),
            Refused("projected.sources is a list of 104"),
        ),
        (
            "keys of a ConfigMap",
            projected(&format!("{account},{ca}")),
            Refused("configMap.items is a list of 104"),
        ),
    ]
}

/// Too many labels and annotations, and too much in one.
fn maps() -> Vec<Row> {
    use Answer::Refused;
    let labels: Vec<String> = (0..LARGE / 12).map(|n| format!(r#""{n:06}":"""#)).collect();
    let unknown: Vec<String> = (0..LARGE / 28)
        .map(|n| format!(r#""agentwrit.io/{n:08}":"""#))
        .collect();
    let labelled = |labels: &str| {
        let labels = format!(r#""labels":{{"agentwrit.io/inject":"true",{labels}}}"#);
        metadata(&format!(
            r#"{labels},"annotations":{{"agentwrit.io/launch-token":"r"}}"#
        ))
    };
    let annotations = format!(
        r#""annotations":{{"agentwrit.io/launch-token":"r",{}}}"#,
        unknown.join(",")
    );
    let annotations = metadata(&format!(r#""labels":{{"agentwrit.io/inject":"true"}},{annotations}"#));
    vec![
        ("labels", labelled(&labels.join(",")), Refused("metadata.labels has 26")),
        (
            "one label again and again",
            labelled(&many(r#""":"""#)),
            Refused("metadata.labels has 52"),
        ),
        (
            "annotations of ours",
            annotations,
            Refused("metadata.annotations has 11"),
        ),
        (
            "the label that asks for injection",
            metadata(&format!(r#""labels":{{"agentwrit.io/inject":"{}"}}"#, long("\\n"))),
            Refused("the label agentwrit.io/inject of the pod is \"\\n\\n"),
        ),
        (
            "scopes",
            annotated("scopes", &many("")),
            Refused("agentwrit.io/scopes: \",,,"),
        ),
        (
            "one scope again and again",
            annotated("scopes", &many("a:b:c")),
            Refused("lists \"a:b:c\" twice"),
        ),
        (
            "one container again and again",
            annotated("containers", &many("app")),
            Refused("names \"app\" twice"),
        ),
    ]
}

/// Long texts in what is read of a pod, and in what is not.
fn texts() -> Vec<Row> {
    use Answer::{Allowed, Refused};
    let named = |member: &str, text: &str| container(&format!(r#""{member}":"{text}""#));
    let mount = format!(r#""volumeMounts":[{{"name":"own","mountPath":"{}"}}]"#, long("/a"));
    let name = format!(r#"{{"containers":[{{"name":"agentwrit-{}"}}]}}"#, long("\\n"));
    let key = format!(r#"{{"containers":[{{"name":"app"}}],"{}":1}}"#, long("\\n"));
    let port = format!(r#""ports":[{{"containerPort":{}}}]"#, long("9"));
    let applied = format!(
        r#""kubectl.kubernetes.io/last-applied-configuration":"{}""#,
        long("\\\"")
    );
    let applied = format!(r#""annotations":{{"agentwrit.io/launch-token":"r",{applied}}}"#);
    vec![
        ("a path", container(&mount), Allowed),
        (
            "a name with escapes",
            pod(&name),
            Refused("container \"agentwrit-\\n\\n"),
        ),
        ("an image with escapes", named("image", &long("\\u0041")), Allowed),
        (
            "a restart policy with escapes",
            named("restartPolicy", &long("\\n")),
            Allowed,
        ),
        (
            "a LaunchToken",
            annotated("launch-token", &long("\\n")),
            Refused("agentwrit.io/launch-token: \"\\n\\n"),
        ),
        (
            "a number of seconds",
            annotated("ttl-seconds", &long("9")),
            Refused("agentwrit.io/ttl-seconds: \"999"),
        ),
        (
            "a scope",
            annotated("scopes", &long("a:")),
            Refused("more than 256 bytes"),
        ),
        ("a key", pod(&key), Allowed),
        (
            "an annotation of somebody else",
            metadata(&format!(r#""labels":{{"agentwrit.io/inject":"true"}},{applied}"#)),
            Allowed,
        ),
        (
            "a string for true or false",
            pod(&format!(r#"{{"hostNetwork":"{}"}}"#, long("\u{301}"))),
            Refused("spec.hostNetwork: a string instead of true or false"),
        ),
        (
            "a string for an object",
            pod(&format!(r#""{}""#, long("\\u0001"))),
            Refused("spec: a string instead of an object"),
        ),
        (
            "a number",
            container(&port),
            Refused("spec.containers[0].ports[0].containerPort: number out of range"),
        ),
    ]
}

/// What is wrong with the review around the pod.
fn reviews() -> Vec<Row> {
    use Answer::{Allowed, Bad, Refused};
    let whole = pod(r#"{"containers":[{"name":"app"}],"x":"@@@@"}"#);
    let text = String::from_utf8_lossy(&whole).into_owned();
    let long_member = |member: &str, text_of_it: &str| {
        let instead = format!(r#""{member}":"{text_of_it}","x":"#);
        text.replacen(&format!(r#""{member}":"#), &instead, 1).into_bytes()
    };
    let groups = format!(r#""userInfo":{{"groups":[{}]}},"uid""#, many(r#""g""#));
    let not_utf8 = whole.iter().map(|byte| if *byte == b'@' { 0xff } else { *byte });
    vec![
        (
            "a long uid",
            long_member("uid", &long("a")),
            Bad("request.uid is \"aaa"),
        ),
        (
            "a long namespace",
            long_member("namespace", &long("\\n")),
            Refused("request.namespace is \"\\n\\n"),
        ),
        (
            "a long version",
            long_member("apiVersion", &long("\u{301}")),
            Bad("apiVersion is \"\\u{301}"),
        ),
        ("a long operation", long_member("operation", &long("\\n")), Allowed),
        (
            "groups of the caller",
            text.replacen("\"uid\"", &groups, 1).into_bytes(),
            Allowed,
        ),
        (
            "not UTF-8 in what is read",
            [&b"{\"apiVersion\":\""[..], &vec![0xff; LARGE], b"\"}"].concat(),
            Bad("apiVersion: invalid unicode code point"),
        ),
        (
            "not UTF-8 in what is ignored",
            not_utf8.collect(),
            Bad("request.object: invalid unicode code point"),
        ),
        (
            "nothing but blanks",
            vec![b' '; LARGE],
            Bad("EOF while parsing a value"),
        ),
        ("cut off", whole[..100].to_vec(), Bad("request: EOF while parsing")),
    ]
}

/// Odd shapes.
fn shapes() -> Vec<Row> {
    use Answer::{Allowed, Bad, Refused};
    let ignored = |value: &str| pod(&format!(r#"{{"containers":[{{"name":"app"}}],"x":{value}}}"#));
    let spec = r#""spec":{"containers":[{"name":"app","env":[{"name":"A"}]}]}"#;
    let twice = many(spec);
    vec![
        (
            "deep lists where nothing is read",
            ignored(&nested("[", "", "]")),
            Allowed,
        ),
        (
            "deep objects where nothing is read",
            ignored(&nested("{\"a\":", "1", "}")),
            Allowed,
        ),
        (
            "deep lists where a container is",
            pod(&format!(r#"{{"containers":{}}}"#, nested("[", "", "]"))),
            Refused("spec.containers[0]: a list instead of an object"),
        ),
        (
            "deep objects where a probe is",
            container(&format!(r#""startupProbe":{}"#, nested("{\"a\":", "1", "}"))),
            Allowed,
        ),
        (
            "lists that are never closed",
            vec![b'['; LARGE],
            Bad("a list instead of an object"),
        ),
        (
            "objects that are never closed",
            "{\"a\":".repeat(LARGE / 5).into_bytes(),
            Bad("EOF while parsing"),
        ),
        (
            "pairs in an ignored list",
            ignored(&format!(r"[{}]", many(r#"{"":0}"#))),
            Allowed,
        ),
        (
            "the spec again and again",
            review(&format!(r#"{{"metadata":{METADATA},{twice}}}"#)).into_bytes(),
            Allowed,
        ),
        (
            "a number for the pod",
            review("5").into_bytes(),
            Refused("a number instead of an object"),
        ),
        (
            "no pod",
            review(&format!(r#"{{"metadata":{METADATA}}}"#)).into_bytes(),
            Refused("the pod has no spec"),
        ),
        (
            "a list for a label",
            metadata(r#""labels":{"agentwrit.io/inject":["true"]}"#),
            Refused("metadata.labels.agentwrit.io/inject: a list instead of a string"),
        ),
        (
            "an object for a list",
            container(r#""env":{"name":"A"}"#),
            Refused("spec.containers[0].env: an object instead of a list"),
        ),
        (
            "a fraction for a port",
            container(r#""ports":[{"containerPort":1.5}]"#),
            Refused("containerPort: a fraction or a number out of range instead of a whole number"),
        ),
    ]
}
