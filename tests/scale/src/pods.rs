//! Many pods, each with a session, that end at the same moment.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use agentwrit_protocol::inject::{CONTAINER_NAME, ENV_LAUNCH_TOKEN, LABEL_INJECTED};
use agentwrit_protocol::k8s::PodLaunchResponse;
use agentwrit_protocol::wire::{AuditEventsResponse, RegisterResponse, ValidateResponse};
use agentwrit_testkit::Keys;
use agentwrit_testkit::load::agent::{challenge, login, validation};
use agentwrit_testkit::load::http::{Connection, request};
use agentwrit_testkit::load::moment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

use crate::cluster::{self, for_each};
use crate::counts::{self, Counts};
use crate::programs::{Brokers, Controller};
use crate::report::Spread;
use crate::{Options, Result};

/// Requests side by side.
const MANY: usize = 32;
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Events in one answer of the audit trail.
const PAGE: usize = 1000;

/// What their end came to.
pub(crate) struct Ended {
    pub(crate) count: usize,
    /// From the first request that ended one until the last end was committed.
    pub(crate) all: Duration,
    /// From the answer that a pod has ended until the broker had committed its end.
    pub(crate) each: Spread,
    /// Tokens of those that ended and are still called valid.
    pub(crate) still_valid: usize,
    pub(crate) api: Counts,
    pub(crate) broker: u64,
}

struct Agent {
    namespace: String,
    name: String,
    uid: String,
    token: String,
}

fn pod(name: &str, launch_token: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {LABEL_INJECTED: "true"}},
        "spec": {
            "initContainers": [{
                "name": CONTAINER_NAME, "image": "agentwrit-sidecar", "restartPolicy": "Always",
                "env": [{"name": ENV_LAUNCH_TOKEN, "value": launch_token}],
            }],
            "containers": [{"name": "app", "image": "app"}],
        },
    }))?)
}

async fn register(number: usize, options: &Options, client: &Client, broker: &Brokers) -> Result<Agent> {
    let app = cluster::app_of(number % options.tokens, options);
    let namespace = cluster::namespace(app, options);
    let launch_token = cluster::token_name(number % options.tokens);
    let name = format!("agent-{number:05}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let made = pods.create(&PostParams::default(), &pod(&name, &launch_token)?).await?;
    let uid = made.uid().unwrap_or_default();
    let bearer = cluster::pod_token(client, &namespace, &name, &uid).await?;
    let wide = u64::try_from(number)?;
    let [.., high, low] = (wide + 1).to_be_bytes();
    // Each pod is a source of its own, as in a cluster.
    let mut connection = Connection::open_from(Ipv4Addr::new(127, 1, high, low), broker.address()).await?;
    let keys = Keys::numbered(wide);
    let ask = json!({"policy": launch_token, "public_key": keys.public()}).to_string();
    let ask = request("POST", "/v1/k8s/launch-tokens", &bearer, &ask);
    let launched: PodLaunchResponse = connection.send(&ask).await?.expect("launch", 201)?;
    let nonce = challenge(&mut connection).await?;
    let ids = json!({
        "orch_id": launched.orch_id, "task_id": launched.task_id, "requested_scope": launched.policy.allowed_scope,
    });
    let body = keys
        .registration(launched.launch_token.expose(), &nonce, &ids)
        .to_string();
    let ask = request("POST", "/v1/register", "", &body);
    let registered: RegisterResponse = connection.send(&ask).await?.expect("register", 200)?;
    let token = registered.access_token.expose().to_owned();
    Ok(Agent {
        namespace,
        name,
        uid,
        token,
    })
}

/// Half of them finish, half are deleted.
async fn end(client: &Client, agent: &Agent, finishes: bool) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &agent.namespace);
    if finishes {
        let phase = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
        pods.patch_status(&agent.name, &PatchParams::default(), &phase).await?;
    } else {
        pods.delete(&agent.name, &DeleteParams::default().grace_period(0))
            .await?;
    }
    Ok(())
}

/// When the broker committed the end of each pod, by UID; Unix time.
async fn commits(broker: &Brokers) -> Result<HashMap<String, Duration>> {
    let mut connection = Connection::open(broker.address()).await?;
    let admin = login(&mut connection).await?;
    let (mut found, mut cursor) = (HashMap::new(), "evt-000000".to_owned());
    loop {
        let path = format!("/v1/audit/events?event_type=pod_ended&limit={PAGE}&cursor={cursor}");
        let answer = connection.send(&request("GET", &path, &admin, "")).await?;
        let page: AuditEventsResponse = answer.expect("audit events", 200)?;
        let is_last = page.events.len() < PAGE;
        for event in page.events {
            let at = OffsetDateTime::parse(&event.timestamp, &Rfc3339)?.unix_timestamp_nanos();
            let at = Duration::from_nanos(u64::try_from(at)?);
            // Of two events of a pod the first counts: each of its sessions has one of its own.
            found.entry(event.extra.pod_uid).or_insert(at);
        }
        match page.next_cursor {
            Some(next) if !is_last => cursor = next,
            _ => return Ok(found),
        }
    }
}

/// Has the pods register, ends them all, and waits until the broker knows.
pub(crate) async fn end_all(
    options: &Options,
    client: &Client,
    broker: &Brokers,
    controller: &Controller,
) -> Result<Ended> {
    let agents = Mutex::new(Vec::with_capacity(options.pods));
    for_each(options.pods, MANY, async |number| {
        let agent = register(number, options, client, broker).await?;
        agents.lock().await.push(agent);
        Ok(())
    })
    .await?;
    let agents = agents.into_inner();
    let ended_before = counts::plain(controller.ops, "agentwrit_controller_pods_ended_total").await?;
    let api_before = Counts::of_api_server(client).await?;
    let broker_before = counts::of_broker(broker.ops).await?;

    let ends = Mutex::new(HashMap::new());
    let (begun, first) = (moment::now(), moment::unix());
    for_each(agents.len(), MANY, async |number| {
        let Some(agent) = agents.get(number) else { return Ok(()) };
        end(client, agent, number % 2 == 0).await?;
        ends.lock().await.insert(agent.uid.clone(), moment::unix());
        Ok(())
    })
    .await?;
    let count = u64::try_from(agents.len())?;
    while counts::plain(controller.ops, "agentwrit_controller_pods_ended_total").await? < ended_before + count {
        if begun.elapsed() > PATIENCE {
            return Err(format!("not all of {count} pods ended within {} s", PATIENCE.as_secs()).into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let api = Counts::of_api_server(client).await?.since(&api_before);
    let calls = |of: &std::collections::BTreeMap<String, u64>| of.get("k8s_pods").copied().unwrap_or_default();
    let broker_calls = calls(&counts::of_broker(broker.ops).await?) - calls(&broker_before);

    let committed = commits(broker).await?;
    let (mut each, mut last) = (Vec::new(), first);
    for (uid, asked) in ends.into_inner() {
        let at = *committed
            .get(&uid)
            .ok_or_else(|| format!("no audit event tells that pod {uid} ended"))?;
        last = last.max(at);
        each.push(at.saturating_sub(asked));
    }
    let mut connection = Connection::open(broker.address()).await?;
    let mut still_valid = 0;
    for agent in agents.iter().step_by(10) {
        let answer: ValidateResponse = connection
            .send(&validation(&agent.token))
            .await?
            .expect("validate", 200)?;
        still_valid += usize::from(answer.valid);
    }
    Ok(Ended {
        count: agents.len(),
        all: last.saturating_sub(first),
        each: Spread::of(each),
        still_valid,
        api,
        broker: broker_calls,
    })
}
