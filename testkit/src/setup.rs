//! What a broker is started with.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentwrit_attest::Attestor;
use agentwrit_broker::broker::AppState;
use agentwrit_broker::config::Config;
use agentwrit_broker::process::assemble::{StartError, Surroundings, assemble};
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::status_list::Bounds;
use agentwrit_protocol::system::{SystemClock, SystemEntropy};
use agentwrit_protocol::{Clock, Entropy};
use agentwrit_store::{Declared, PutBack};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::fake_cluster::FakeCluster;
use crate::pod::{AUDIENCE, CONTROLLER};
use crate::{ADMIN_SECRET, START, stores};

/// What a broker is started with, and started with again after its end.
#[derive(Clone)]
pub struct Setup {
    /// Its signing key and its store are in here.
    pub folder: Arc<TempDir>,
    settings: BTreeMap<String, String>,
    pub clock: Arc<ManualClock>,
    /// Whether the machine's own clock goes in place of `clock`.
    pub system_clock: bool,
    pub entropy: Arc<dyn Entropy>,
    pub cluster: Option<Arc<FakeCluster>>,
    /// As with the flag `--accept-clock`; for one start.
    pub accept_clock: bool,
    /// As with the flag `--restored`.
    pub restored: PutBack,
    /// How many status indexes there are.
    pub status_lists: Bounds,
}

impl Setup {
    /// In a new folder, with these settings beside those that every broker gets; see [`Setup::set`].
    pub fn new(settings: &[(&str, &str)]) -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().unwrap()), settings)
    }

    /// The same in a folder that exists.
    pub fn in_folder(folder: Arc<TempDir>, settings: &[(&str, &str)]) -> Self {
        let mut setup = Self {
            folder,
            settings: BTreeMap::new(),
            clock: Arc::new(ManualClock::at(START)),
            system_clock: false,
            entropy: Arc::new(SystemEntropy),
            cluster: None,
            accept_clock: false,
            restored: PutBack::No,
            status_lists: Bounds::default(),
        };
        setup.set(&[
            ("AA_ADMIN_SECRET", ADMIN_SECRET),
            ("AA_PORT", "0"),
            ("AA_SIGNING_KEY_PATH", "{folder}/signing.key"),
        ]);
        for (name, value) in stores::settings(setup.folder.path()) {
            setup.settings.insert(name.to_owned(), value);
        }
        setup.set(settings);
        setup
    }

    /// The same on a new PostgreSQL database, whichever store the run has; for several replicas.
    #[must_use]
    pub fn on_shared_store(mut self) -> Self {
        let url = stores::another_database();
        self.set(&[("AA_DB_PATH", "{unset}"), ("AA_DATABASE_URL", &url)]);
        self
    }

    /// A replica of it, with a store mark of its own.
    #[must_use]
    pub fn replica(&self, name: &str) -> Self {
        let mut replica = self.clone();
        replica.set(&[("AA_STORE_MARK", &format!("{{folder}}/{name}.mark"))]);
        replica
    }

    /// The same with this Kubernetes and the settings of attestation.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Arc<FakeCluster>) -> Self {
        for (name, value) in [("AA_ATTEST_AUDIENCE", AUDIENCE), ("AA_CONTROLLER_SUBJECT", CONTROLLER)] {
            self.settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        self.cluster = Some(cluster);
        self
    }

    /// Changes settings; `{folder}` stands for the folder, `{unset}` for none.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            if *value == "{unset}" {
                self.settings.remove(*name);
            } else {
                let folder = self.folder.path().display().to_string();
                self.settings
                    .insert((*name).to_owned(), value.replace("{folder}", &folder));
            }
        }
    }

    /// Whether a setting is set.
    pub fn has(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// The configuration that follows from the settings.
    pub fn config(&self) -> Config {
        let mut config = Config::load(&|name| self.settings.get(name).cloned()).unwrap();
        config.declared = Declared {
            restored: self.restored,
            accept_clock: self.accept_clock,
            ..Declared::default()
        };
        // bcrypt's smallest: what is slow on purpose would only be slow here.
        config.secret_cost = 4;
        config
    }

    /// The broker without anything that serves it.
    pub async fn assemble(&self) -> Result<AppState, StartError> {
        let clock: Arc<dyn Clock> = if self.system_clock {
            Arc::new(SystemClock)
        } else {
            Arc::<ManualClock>::clone(&self.clock)
        };
        let surroundings = Surroundings {
            clock,
            entropy: Arc::clone(&self.entropy),
            attestor: self.cluster.clone().map(|cluster| -> Arc<dyn Attestor> { cluster }),
            status_lists: self.status_lists,
            dates_by_database: self.system_clock,
        };
        assemble(self.config(), surroundings).await
    }

    /// Starts a broker that is called without a network.
    pub async fn start(self) -> Result<Broker, StartError> {
        Broker::start(self, false).await
    }

    /// Starts a broker on a port of its own.
    pub async fn listen(self) -> Result<Broker, StartError> {
        Broker::start(self, true).await
    }
}
