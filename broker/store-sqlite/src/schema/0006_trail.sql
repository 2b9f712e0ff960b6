-- Each event would be written at a random place of this index: a third of the work of a renewal. Totals and first
-- places of the filters asked for last are kept in memory instead (matches.rs); a new filter is looked for once.
DROP INDEX audit_events_agent;
