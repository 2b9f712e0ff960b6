//! Pages of the trail: the stored text of each event, joined, without reading it.

use std::fmt::Write as _;
use std::sync::Arc;

use agentwrit_store::{EventFilter, EventPage, Result};
use agentwrit_trail::{FilterCache, Known};

use super::events::{segment_of, segments_between};
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

    /// Adds the matches after an event but the first of them to a page.
    async fn read(
        &self,
        link: &mut Link<'_>,
        after: i64,
        limit: i64,
        skipped: i64,
        page: &mut EventPage,
    ) -> Result<()> {
        let sql = format!(
            "SELECT seq, json FROM audit_events WHERE {} ORDER BY segment, seq LIMIT ${} OFFSET ${}",
            self.sql,
            self.place(0),
            self.place(1)
        );
        let values = self.values(link, after, &[limit, skipped]).await?;
        let rows = link.all_once(READ, &sql, values, event).await?;
        add(rows, page);
        Ok(())
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
    if filter.is_of_all() {
        page.total = head.saturating_sub(gone);
        let after = filter.before_page(gone);
        read_after(link, after, head.min(after.saturating_add(filter.limit)), &mut page).await?;
    } else {
        let condition = Condition::of(filter, gone);
        let known = known(link, &condition, filter, head, matches).await?;
        page.total = known.total;
        match known.page(filter) {
            Some([]) => {}
            Some(numbers) => read_each(link, numbers, &mut page).await?,
            None => {
                let (after, skipped) = known.nearest(filter);
                condition.read(link, after, filter.limit, skipped, &mut page).await?;
            }
        }
    }
    Ok(page.end())
}

fn event(row: &Row<'_>) -> Result<(i64, String)> {
    Ok((row.whole("seq")?, row.text("json")?))
}

/// Adds the events after the first number, up to the second: numbers have no gaps.
async fn read_after(link: &mut Link<'_>, after: i64, last: i64, page: &mut EventPage) -> Result<()> {
    if last <= after {
        return Ok(());
    }
    let segments = segments_between(link, after.saturating_add(1), last).await?;
    let sql =
        "SELECT seq, json FROM audit_events WHERE segment = ANY($1) AND seq > $2 AND seq <= $3 ORDER BY segment, seq";
    let rows = link.all_once(READ, sql, values![segments, after, last], event).await?;
    add(rows, page);
    Ok(())
}

/// Adds the events with these numbers, which are in order, to the page's array.
async fn read_each(link: &mut Link<'_>, numbers: &[i64], page: &mut EventPage) -> Result<()> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Ok(());
    };
    let segments = segments_between(link, *first, *last).await?;
    let segment_of = |number: &i64| {
        let place = segments.partition_point(|first| first <= number);
        segments.get(place.saturating_sub(1)).copied().unwrap_or(*number)
    };
    let of_each: Vec<i64> = numbers.iter().map(segment_of).collect();
    let mut opened = of_each.clone();
    opened.dedup();
    // Joined so, each is looked up in its own partition alone.
    let sql = "SELECT seq, json FROM unnest($1::bigint[], $2::bigint[]) AS asked (its, number), LATERAL (SELECT seq, json \
               FROM audit_events WHERE segment = asked.its AND seq = asked.number AND segment = ANY($3) OFFSET 0) AS found \
               ORDER BY seq";
    let values = values![of_each, numbers.to_vec(), opened];
    let rows = link.all_once(READ, sql, values, event).await?;
    add(rows, page);
    Ok(())
}

fn add(rows: Vec<(i64, String)>, page: &mut EventPage) {
    for (number, json) in rows {
        page.push(number, &json);
    }
}
