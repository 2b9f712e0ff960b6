//! Brokers of several versions.

use agentwrit_testkit::load::failure::{Failure, Result};
use agentwrit_testkit::load::process::Broker;

use super::World;

impl World {
    /// Whoever starts from now on as this replica gets these arguments; without a number, the one that checks.
    pub(crate) fn set_arguments(&mut self, replica: Option<usize>, arguments: &[&'static str]) {
        let settings = match replica {
            Some(replica) => self.settings.get_mut(replica),
            None => Some(&mut self.auditor),
        };
        if let Some(settings) = settings {
            settings.arguments = arguments.to_vec();
        }
    }

    /// What the replicas have logged as failed: lines of all their lives.
    pub(crate) fn failures_told(&self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for settings in &self.settings {
            let log = settings.folder.join("broker.log");
            let log = std::fs::read_to_string(log).map_err(Failure::system("read a broker's log"))?;
            told.extend(log.lines().filter(|line| line.contains(":FAIL]")).map(str::to_owned));
        }
        Ok(told)
    }

    /// Starts another broker with these arguments, which must not open the store: what its log says.
    pub(crate) async fn refused(&self, arguments: &[&'static str]) -> Result<String> {
        let mut settings = self.auditor.clone();
        settings.folder.set_file_name("refused");
        settings.arguments = arguments.to_vec();
        settings.environment.push(("AA_LOG_LEVEL", "standard".to_owned()));
        let broker = Broker::start(&settings).await?;
        if broker.health().await?.db_connected {
            return Err(Failure::Broker("it opens the store".to_owned()));
        }
        let log = settings.folder.join("broker.log");
        std::fs::read_to_string(log).map_err(Failure::system("read the broker's log"))
    }
}
