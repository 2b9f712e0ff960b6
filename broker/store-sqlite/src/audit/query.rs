//! Pages of the trail: the stored text of each event, joined, without reading it.

use std::sync::Arc;

use agentwrit_store::FilterColumn;
use agentwrit_store::{EventFilter, EventPage, Result};
use agentwrit_trail::{FilterCache, Known};
use rusqlite::types::Value;
use rusqlite::{Connection, Rows, params_from_iter};

use crate::audit::expanded::expanded;
use crate::audit::segments::first_kept;
use crate::error::Operation;
use crate::statements::{Statements, scalar};

const COUNT: &str = "count_audit_events";
const READ: &str = "read_audit_events";

/// A condition in SQL and its values in order.
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
            sql: String::from("seq > ?"),
            values: vec![Value::Integer(0)],
        };
        for (column, value) in &filter.exact {
            let part = self::condition(*column);
            let values = part.matches('?').count();
            condition.sql.push_str(&part);
            let value = Value::Text(value.clone());
            condition.values.extend(std::iter::repeat_n(value, values));
        }
        for (sql, moment) in [(" AND at >= ?", filter.since), (" AND at <= ?", filter.until)] {
            if let Some(moment) = moment {
                condition.sql.push_str(sql);
                condition.values.push(Value::Integer(moment.get()));
            }
        }
        condition
    }

    /// The values for events after this one, and then some.
    fn values(&self, after: i64, more: &[i64]) -> Vec<Value> {
        let filters = self.values.iter().skip(1).cloned();
        let more = more.iter().copied().map(Value::Integer);
        std::iter::once(Value::Integer(after.max(self.gone)))
            .chain(filters)
            .chain(more)
            .collect()
    }

    /// Numbers of the first matches after an event.
    fn find(&self, connection: &Connection, after: i64, limit: i64) -> Result<Vec<i64>> {
        let sql = format!("SELECT seq FROM audit_events WHERE {} ORDER BY seq LIMIT ?", self.sql);
        let values = self.values(after, &[limit]);
        connection.all(COUNT, &sql, params_from_iter(values), scalar(COUNT))
    }

    /// How many matches there are after an event.
    fn count(&self, connection: &Connection, after: i64) -> Result<i64> {
        let sql = format!("SELECT COUNT(*) FROM audit_events WHERE {}", self.sql);
        let values = self.values(after, &[]);
        let count = connection.first(COUNT, &sql, params_from_iter(values), scalar(COUNT))?;
        Ok(count.unwrap_or_default())
    }
}

/// What a member has to be, in rows of both forms (short.rs). The second comparison lets the planner use the partial
/// indexes.
pub(crate) fn condition(column: FilterColumn) -> String {
    let name = column.as_str();
    match column {
        // In the event's own row in either form.
        FilterColumn::EventType | FilterColumn::Outcome | FilterColumn::ErrorKind => format!(" AND {name} = ?"),
        // Of few events each: found through indexes.
        FilterColumn::CorrelationId | FilterColumn::PodUid => format!(
            " AND (({name} = ? AND {name} <> '') \
             OR who IN (SELECT id FROM audit_who WHERE {name} = ? AND {name} <> ''))"
        ),
        FilterColumn::AgentId
        | FilterColumn::TaskId
        | FilterColumn::Actor
        | FilterColumn::Source
        | FilterColumn::PolicyUid => {
            format!(" AND ({name} = ? OR EXISTS (SELECT 1 FROM audit_who w WHERE w.id = who AND w.{name} = ?))")
        }
    }
}

/// The last number in the trail.
fn head(connection: &Connection) -> Result<i64> {
    let sql = "SELECT MAX(seq) FROM audit_events";
    let head: Option<Option<i64>> = connection.first(READ, sql, [], scalar(READ))?;
    Ok(head.flatten().unwrap_or_default())
}

/// What is known of a filter's matches, brought up to the head.
fn known(
    connection: &Connection,
    condition: &Condition,
    filter: &EventFilter,
    matches: &FilterCache,
) -> Result<Arc<Known>> {
    let head = head(connection)?;
    let mut kept = matches.get(filter, head, condition.gone);
    if kept.until < head {
        let known = Arc::make_mut(&mut kept);
        let room = known.room();
        if room > 0 {
            known.take(condition.find(connection, known.until, room)?, head);
        }
        if known.until < head {
            known.count(condition.count(connection, known.until)?, head);
        }
        matches.put(filter, Arc::clone(&kept));
    }
    Ok(kept)
}

/// One page of the trail.
pub(crate) fn page(connection: &Connection, filter: &EventFilter, matches: &FilterCache) -> Result<EventPage> {
    let mut page = EventPage::begin();
    let gone = first_kept(connection)?.saturating_sub(1);
    if filter.is_of_all() {
        page.total = head(connection)?.saturating_sub(gone);
        let after = filter.before_page(gone);
        let sql = "SELECT seq, json FROM audit_events WHERE seq > ? ORDER BY seq LIMIT ?";
        read(
            connection,
            sql,
            &[Value::Integer(after), Value::Integer(filter.limit)],
            &mut page,
        )?;
    } else {
        let condition = Condition::of(filter, gone);
        let known = known(connection, &condition, filter, matches)?;
        page.total = known.total;
        let numbers = known.page(filter);
        if let Some(numbers) = numbers.filter(|numbers| sparse(numbers)) {
            read_each(connection, numbers, &mut page)?;
        } else {
            let (after, skipped) = known.nearest(filter);
            // Known ones stand close together: from the first to the last of them, and no further.
            let (after, limit, skipped) = match numbers.and_then(|numbers| Some((numbers.first()?, numbers.len()))) {
                Some((first, count)) => (first - 1, i64::try_from(count).unwrap_or(filter.limit), 0),
                None => (after, filter.limit, skipped),
            };
            let sql = format!(
                "SELECT seq, json FROM audit_events WHERE {} ORDER BY seq LIMIT ? OFFSET ?",
                condition.sql
            );
            read(connection, &sql, &condition.values(after, &[limit, skipped]), &mut page)?;
        }
    }
    Ok(page.end())
}

/// Whether events stand so far apart that each is looked up faster than what is between them is passed over.
fn sparse(numbers: &[i64]) -> bool {
    const NEIGHBOURS: i64 = 8;
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return true;
    };
    let count = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
    last.saturating_sub(*first) > count.saturating_mul(NEIGHBOURS)
}

/// Adds the events with these numbers to the page's array.
fn read_each(connection: &Connection, numbers: &[i64], page: &mut EventPage) -> Result<()> {
    let sql = "SELECT seq, json FROM audit_events WHERE seq = ?";
    let mut statement = connection.prepare_cached(sql).during(READ)?;
    for number in numbers {
        add(connection, &mut statement.query([number]).during(READ)?, page)?;
    }
    Ok(())
}

/// Adds the events that a query finds to the page's array.
fn read(connection: &Connection, sql: &str, values: &[Value], page: &mut EventPage) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).during(READ)?;
    let mut rows = statement.query(params_from_iter(values)).during(READ)?;
    add(connection, &mut rows, page)
}

fn add(connection: &Connection, rows: &mut Rows<'_>, page: &mut EventPage) -> Result<()> {
    while let Some(row) = rows.next().during(READ)? {
        let json = row
            .get_ref(1)
            .during(READ)?
            .as_str()
            .map_err(rusqlite::Error::from)
            .during(READ)?;
        let number = row.get(0).during(READ)?;
        if json.is_empty() {
            page.push(number, &expanded(connection, number)?);
        } else {
            page.push(number, json);
        }
    }
    Ok(())
}
