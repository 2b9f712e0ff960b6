//! Replicas on PostgreSQL, beside one broker on its file in the same run.

use std::sync::Arc;

use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::process::Settings;

use super::{Bench, TRAIL, grow};
use crate::bare;
use crate::database::{Database, start_server};
use crate::goals::{GOAL_CLIENTS, Goal, Operation};
use crate::measure::Sample;
use crate::prepare::World;
use crate::report::{OnPostgres, Verdict};

/// What is measured on both, and what must hold with [`GOAL_CLIENTS`] clients: shares of the figure on SQLite.
/// "As on SQLite" is nine tenths: two runs of the same differ by that much.
const COMPARED: [(Operation, &[Goal]); 7] = [
    (Operation::Register, &[Goal::Share(0.40)]),
    (Operation::Renew, &[Goal::Share(0.40)]),
    (Operation::Delegate, &[]),
    (Operation::Revoke, &[]),
    (Operation::ValidateNew, &[Goal::Share(0.90)]),
    (Operation::ValidateRepeated, &[Goal::Share(0.90)]),
    (Operation::Audit, &[Goal::Rate(1000.0)]),
];

impl Bench {
    /// All that is compared: on SQLite, then with each number of replicas, then by PostgreSQL alone.
    pub(super) async fn compare(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let wanted = self.wanted(&COMPARED.map(|(operation, _)| operation));
        if wanted.is_empty() {
            return Ok(());
        }
        let (broker, settings) = self.fresh(&[]).await?;
        let world = World::new(broker, 3600).await?;
        for target in &wanted {
            if target.operation == Operation::Audit {
                grow(&world, TRAIL).await?;
            }
            self.operations(&world, &settings, &[*target], "quiet", progress)
                .await?;
        }
        world.stop().await?;
        let server = start_server(&self.all_cores(), self.own_core(), false)?;
        for replicas in self.options.replicas.clone() {
            let database = Arc::new(Database::new(&server, false)?);
            let (world, settings) = self.on_database(&database, replicas, 3600).await?;
            for target in &wanted {
                if target.operation == Operation::Audit {
                    grow(&world, TRAIL).await?;
                }
                for clients in self.options.clients.clone() {
                    let label = target.operation.label();
                    progress(&format!("PostgreSQL, {replicas} replicas: {label}, {clients} clients"));
                    let sample = self.operation(&world, &settings, target.operation, clients).await?;
                    let row = self.held_against_sqlite(target.operation, replicas, sample);
                    self.report.on_postgres.push(row);
                }
            }
            world.stop().await?;
            if self.report.tables.is_empty() {
                self.report.tables = database.tables()?;
            }
            if self.report.alone.is_empty() {
                self.alone(&database, progress)?;
            }
        }
        Ok(())
    }

    /// What PostgreSQL does by itself, with rows as the brokers have left them.
    fn alone(&mut self, database: &Database, progress: &dyn Fn(&str)) -> Result<()> {
        for operation in [Operation::Register, Operation::Renew] {
            let most = self.report.on_postgres.iter().filter(|row| row.operation == operation);
            let Some(batch) = most.map(|row| row.sample.per_commit).max_by(f64::total_cmp) else {
                continue;
            };
            progress(&format!("PostgreSQL alone: rows of {}", operation.label()));
            let (cores, own) = (self.all_cores(), self.own_core());
            let alone = bare::measure(database, operation, batch, self.options.length, &cores, own)?;
            self.report.alone.extend(alone);
        }
        Ok(())
    }

    /// Replicas on a database, with a signing key that they share.
    pub(super) async fn on_database(
        &mut self,
        database: &Arc<Database>,
        replicas: usize,
        max_ttl: u32,
    ) -> Result<(World, Settings)> {
        let url = database.url();
        let (first, settings) = self.fresh(&[("AA_DATABASE_URL", &url)]).await?;
        let key = std::path::absolute(settings.folder.join("signing.key")).unwrap_or_default();
        let key = key.display().to_string();
        let mut others = Vec::new();
        for _ in 1..replicas {
            let shared = [("AA_DATABASE_URL", url.as_str()), ("AA_SIGNING_KEY_PATH", key.as_str())];
            let (broker, _) = self.fresh(&shared).await?;
            others.push(broker);
        }
        let world = World::new(first, max_ttl).await?.with_replicas(others, database);
        Ok((world, settings))
    }

    fn held_against_sqlite(&self, operation: Operation, replicas: usize, sample: Sample) -> OnPostgres {
        let beside = self.report.rows.iter().find(|row| {
            row.target.operation == operation && row.sample.clients == sample.clients && row.log == "quiet"
        });
        let sqlite = beside.map(|row| row.sample.clone());
        let goals: &[Goal] = COMPARED
            .iter()
            .find(|(compared, _)| *compared == operation)
            .map_or(&[], |(_, goals)| goals);
        let applies = sample.clients == GOAL_CLIENTS;
        OnPostgres {
            operation,
            replicas,
            share: sqlite.as_ref().map(|sqlite| sample.per_second / sqlite.per_second),
            goals: goals
                .iter()
                .filter(|_| applies)
                .map(|goal| Verdict::against_sqlite(*goal, &sample, sqlite.as_ref()))
                .collect(),
            sqlite,
            sample,
        }
    }
}
