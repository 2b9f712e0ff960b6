//! Pages of the trail: the stored text of each event, joined, without reading it.

use std::fmt::Write as _;
use std::sync::Arc;

use agentwrit_store::{EventFilter, EventPage, Result};
use agentwrit_trail::{FilterCache, Known};

use super::events::segment_of;
use super::head::ends;
use crate::link::Link;
use crate::row::Row;
use crate::value::{Value, values};

const COUNT: &str = "count_audit_events";
const READ: &str = "read_audit_events";

/// A condition in SQL and its values in order; the first two are the segment and the number that it begins after.
struct Condition {
    sql: String,
    values: Vec<Value>,
    /// Number of the last event that is no longer kept.
    gone: i64,
}

impl Condition {
    fn of(filter: &EventFilter, gone: i64) -> Self {
        let mut condition = Self {
            gone,
            sql: String::from("segment >= $1 AND seq > $2"),
            values: Vec::new(),
        };
        for (column, value) in &filter.exact {
            let name = column.as_str();
            condition.push(&format!("{name} ="), Value::from(value));
            if !value.is_empty() {
                // Lets the planner use the partial indexes.
                let _ = write!(condition.sql, " AND {name} <> ''");
            }
        }
        for (comparison, moment) in [("at >=", filter.since), ("at <=", filter.until)] {
            if let Some(moment) = moment {
                condition.push(comparison, Value::from(moment.get()));
            }
        }
        condition
    }

    fn push(&mut self, comparison: &str, value: Value) {
        self.values.push(value);
        let place = self.values.len() + 2;
        // Writing into a String doesn't fail.
        let _ = write!(self.sql, " AND {comparison} ${place}");
    }

    /// The values for events after this one, and then some.
    async fn values(&self, link: &mut Link<'_>, after: i64, more: &[i64]) -> Result<Vec<Value>> {
        let after = after.max(self.gone);
        let segment = segment_of(link, after.saturating_add(1)).await?;
        let mut values = values![segment, after];
        values.extend(self.values.iter().cloned());
        values.extend(more.iter().copied().map(Value::from));
        Ok(values)
    }

    /// The place of a value after those of the condition.
    fn place(&self, more: usize) -> usize {
        self.values.len() + 3 + more
    }

    /// Numbers of the first matches after an event.
    async fn find(&self, link: &mut Link<'_>, after: i64, limit: i64) -> Result<Vec<i64>> {
        let sql = format!(
            "SELECT seq FROM audit_events WHERE {} ORDER BY segment, seq LIMIT ${}",
            self.sql,
            self.place(0)
        );
        let values = self.values(link, after, &[limit]).await?;
        link.all_once(COUNT, &sql, values, |row| row.whole("seq")).await
    }

    /// How many matches there are after an event.
    async fn count(&self, link: &mut Link<'_>, after: i64) -> Result<i64> {
        let sql = format!("SELECT count(*) AS found FROM audit_events WHERE {}", self.sql);
        let values = self.values(link, after, &[]).await?;
        let found = link.all_once(COUNT, &sql, values, |row| row.whole("found")).await?;
        Ok(found.first().copied().unwrap_or_default())
    }
}

/// What is known of a filter's matches, brought up to the head.
async fn known(
    link: &mut Link<'_>,
    condition: &Condition,
    filter: &EventFilter,
    head: i64,
    matches: &FilterCache,
) -> Result<Arc<Known>> {
    let mut kept = matches.get(filter, head, condition.gone);
    if kept.until < head {
        let known = Arc::make_mut(&mut kept);
        let room = known.room();
        if room > 0 {
            known.take(condition.find(link, known.until, room).await?, head);
        }
        if known.until < head {
            known.count(condition.count(link, known.until).await?, head);
        }
        matches.put(filter, Arc::clone(&kept));
    }
    Ok(kept)
}

/// One page of the trail.
pub(crate) async fn page(link: &mut Link<'_>, filter: &EventFilter, matches: &FilterCache) -> Result<EventPage> {
    let mut page = EventPage::begin();
    let (head, first) = ends(link).await?;
    let gone = first.saturating_sub(1);
    let condition = Condition::of(filter, gone);
    let (after, limit, skipped) = if filter.is_of_all() {
        page.total = head.saturating_sub(gone);
        (filter.before_page(gone), filter.limit, 0)
    } else {
        let known = known(link, &condition, filter, head, matches).await?;
        page.total = known.total;
        let numbers = known.page(filter);
        if let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) {
            read_each(link, numbers, &mut page).await?;
            return Ok(page.end());
        }
        let (after, skipped) = known.nearest(filter);
        let limit = if numbers.is_some() { 0 } else { filter.limit };
        (after, limit, skipped)
    };
    if limit > 0 && after < head {
        let sql = format!(
            "SELECT seq, json FROM audit_events WHERE {} ORDER BY segment, seq LIMIT ${} OFFSET ${}",
            condition.sql,
            condition.place(0),
            condition.place(1)
        );
        let values = condition.values(link, after, &[limit, skipped]).await?;
        let rows = link.all_once(READ, &sql, values, event).await?;
        add(rows, &mut page);
    }
    Ok(page.end())
}

fn event(row: &Row<'_>) -> Result<(i64, String)> {
    Ok((row.whole("seq")?, row.text("json")?))
}

/// Adds the events with these numbers, which are in order, to the page's array.
async fn read_each(link: &mut Link<'_>, numbers: &[i64], page: &mut EventPage) -> Result<()> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Ok(());
    };
    let sql =
        "SELECT seq, json FROM audit_events WHERE segment BETWEEN $1 AND $2 AND seq = ANY($3) ORDER BY segment, seq";
    let values = values![segment_of(link, *first).await?, *last, numbers.to_vec()];
    let rows = link.all_once(READ, sql, values, event).await?;
    add(rows, page);
    Ok(())
}

fn add(rows: Vec<(i64, String)>, page: &mut EventPage) {
    for (number, json) in rows {
        page.push(number, &json);
    }
}
