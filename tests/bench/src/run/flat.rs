//! Whether an operation costs the same however long the trail is, and however much was revoked: by the pages that its
//! statements look at, as PostgreSQL counts them.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_testkit::load::failure::Result;
use agentwrit_testkit::load::process::{Broker, Settings};

use super::{Bench, grow};
use crate::database::{Database, failed, start_server};
use crate::fill;
use crate::goals::{GOAL_CLIENTS, Operation};
use crate::prepare::World;
use crate::report::{Cost, Stage};

/// Events that a short trail has at first.
const SHORT: usize = 1_000;
/// Length of a window: pages are counted, not time, and a short trail must stay short.
const LENGTH: Duration = Duration::from_millis(300);
/// How often, and how long at a time, is waited for the server's own vacuum.
const STILL_TURNS: u32 = 240;
const STILL_TURN: Duration = Duration::from_millis(500);
const MEASURED: [Operation; 7] = [
    Operation::Audit,
    Operation::AuditByType,
    Operation::ValidateRepeated,
    Operation::Register,
    Operation::Renew,
    Operation::Delegate,
    Operation::Revoke,
];

impl Bench {
    /// Costs with a short trail and with a long one; with no revocations, and with many and as many ended sessions.
    pub(super) async fn flat(&mut self, progress: &dyn Fn(&str)) -> Result<()> {
        let length = std::mem::replace(&mut self.options.length, LENGTH);
        let many = self.options.many;
        let server = start_server(&self.all_cores(), self.own_core(), true)?;
        let database = Arc::new(Database::new(&server, true)?);
        let (world, settings) = self.on_database(&database, 1, 3600).await?;
        grow(&world, SHORT).await?;
        self.stage("a short trail", &world, &settings, &database, progress)
            .await?;
        // Under the running broker: the chain is broken by it, which a broker sees at its start.
        progress(&format!("filling in {many} events"));
        fill::events(&database, many)?;
        self.stage("a long trail", &world, &settings, &database, progress)
            .await?;
        world.stop().await?;
        let database = Arc::new(Database::new(&server, true)?);
        let (world, settings) = self.on_database(&database, 1, 3600).await?;
        grow(&world, SHORT).await?;
        self.stage("nothing revoked", &world, &settings, &database, progress)
            .await?;
        world.stop().await?;
        progress(&format!("filling in {many} revocations and {many} ended sessions"));
        fill::revocations(&database, many)?;
        let broker = Broker::start(&settings).await?;
        let started = format!("the start with all of it took {} ms", broker.started_in.as_millis());
        progress(&started);
        let world = World::new(broker, 3600).await?.with_replicas(vec![], &database);
        self.stage("much revoked", &world, &settings, &database, progress)
            .await?;
        world.stop().await?;
        self.options.length = length;
        Ok(())
    }

    async fn stage(
        &mut self,
        name: &'static str,
        world: &World,
        settings: &Settings,
        database: &Database,
        progress: &dyn Fn(&str),
    ) -> Result<()> {
        database.outside_transactions("VACUUM ANALYZE")?;
        still(database, progress).await?;
        database.forget_statements()?;
        let count = |sql: &str| Ok(database.sql(sql)?.trim().parse().unwrap_or_default());
        let events = count("SELECT sequence FROM chain_head")?;
        let ended = count("SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL")?;
        let mut costs = Vec::new();
        for operation in MEASURED {
            progress(&format!("{name}: {}", operation.label()));
            if operation == Operation::AuditByType {
                // The first query with a filter looks through the whole trail: by one client, not by all at once.
                self.operation(world, settings, operation, 1).await?;
            }
            let sample = self.operation(world, settings, operation, GOAL_CLIENTS).await?;
            costs.push(Cost { operation, sample });
        }
        let statements = database.statements()?;
        self.report.stages.push(Stage {
            name,
            events,
            ended,
            costs,
            statements,
        });
        Ok(())
    }
}

/// Waits until the server looks after no table on its own. What filled rows in just now made it do so, and as long as it
/// analyses a large table, no row version that ended since can be cleaned up: each statement then looks at those as well.
async fn still(database: &Database, progress: &dyn Fn(&str)) -> Result<()> {
    for turn in 0..STILL_TURNS {
        let workers = database.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'")?;
        if workers.trim() == "0" {
            return Ok(());
        }
        if turn == 0 {
            progress("waiting for the server's own vacuum");
        }
        tokio::time::sleep(STILL_TURN).await;
    }
    Err(failed("autovacuum", &"still at work after two minutes"))
}
