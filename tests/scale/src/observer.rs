//! Watches which objects say that they are ready.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_testkit::load::moment;
use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Result;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(15);

/// The part of an object that says whether it is ready; `K` is its kind.
#[derive(Debug, Clone, Deserialize)]
struct Head<K> {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
    #[serde(skip)]
    kind: std::marker::PhantomData<fn() -> K>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    observed_generation: Option<i64>,
}

impl<K: Resource<DynamicType = ()>> Resource for Head<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// An object's name, with its kind and namespace.
fn key<K: Resource<DynamicType = ()>>(head: &Head<K>) -> String {
    format!(
        "{}/{}/{}",
        K::plural(&()),
        head.namespace().unwrap_or_default(),
        head.name_any()
    )
}

/// The generation of which the object says that it is ready, by name.
type Ready = HashMap<String, i64>;

/// Which objects are ready, and of which generation.
pub(crate) struct Observer {
    ready: watch::Receiver<Ready>,
    _tasks: JoinSet<()>,
}

async fn observe<K>(client: Client, ready: Arc<watch::Sender<Ready>>)
where
    K: Resource<DynamicType = ()> + 'static,
    Head<K>: DeserializeOwned + Clone + std::fmt::Debug + Send,
{
    let api: Api<Head<K>> = Api::all(client);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(head) | Event::InitApply(head)) = event else {
            continue;
        };
        let told = head
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        let Some(told) = told.filter(|told| told.status == "True") else {
            continue;
        };
        let generation = told.observed_generation.unwrap_or_default();
        ready.send_modify(|all| {
            all.insert(key(&head), generation);
        });
    }
}

impl Observer {
    /// Watches both kinds from now on.
    pub(crate) fn start(client: &Client) -> Self {
        let (sender, ready) = watch::channel(Ready::new());
        let sender = Arc::new(sender);
        let mut tasks = JoinSet::new();
        tasks.spawn(observe::<AgentApp>(client.clone(), Arc::clone(&sender)));
        tasks.spawn(observe::<LaunchToken>(client.clone(), sender));
        Self { ready, _tasks: tasks }
    }

    /// When so many were ready.
    pub(crate) async fn are_ready(&self, count: usize) -> Result<Instant> {
        self.until(|all| all.len() >= count, "all objects are Ready").await
    }

    /// When this object was ready with this generation.
    pub(crate) async fn is_ready<K: Resource<DynamicType = ()>>(
        &self,
        namespace: &str,
        name: &str,
        generation: i64,
    ) -> Result<Instant> {
        let key = format!("{}/{namespace}/{name}", K::plural(&()));
        let is_so = |all: &Ready| all.get(&key).is_some_and(|told| *told >= generation);
        self.until(is_so, "a changed object is Ready").await
    }

    async fn until(&self, is_so: impl Fn(&Ready) -> bool, what: &str) -> Result<Instant> {
        let mut ready = self.ready.clone();
        let told = tokio::time::timeout(PATIENCE, ready.wait_for(|all| is_so(all))).await;
        match told {
            Ok(Ok(_)) => Ok(moment::now()),
            _ => Err(format!("{what}: not so within {} s", PATIENCE.as_secs()).into()),
        }
    }
}
