//! The schema and its migrations, counted in `PRAGMA user_version`.

use agentwrit_store::{Result, StoreError};
use rusqlite::Connection;

use super::error::Operation;
use super::statements::{Statements, scalar};

/// In order; released ones are never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_core.sql"),
    include_str!("schema/0002_k8s.sql"),
    include_str!("schema/0003_delegation.sql"),
    include_str!("schema/0004_apps.sql"),
    include_str!("schema/0005_locality.sql"),
    include_str!("schema/0006_trail.sql"),
    include_str!("schema/0007_pods.sql"),
    include_str!("schema/0008_holders.sql"),
    include_str!("schema/0009_segments.sql"),
    include_str!("schema/0010_open_delegations.sql"),
    include_str!("schema/0011_current_tokens.sql"),
    include_str!("schema/0012_short_events.sql"),
    include_str!("schema/0013_status.sql"),
    include_str!("schema/0014_signing_keys.sql"),
    include_str!("schema/0015_launched_pods.sql"),
    include_str!("schema/0016_places.sql"),
    include_str!("schema/0017_clients.sql"),
];
/// The schema that they lead to.
pub(crate) const LATEST: usize = MIGRATIONS.len();
const READ_VERSION: &str = "read_schema_version";

/// Brings the schema up to date.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    let version: i64 = connection
        .first(READ_VERSION, "PRAGMA user_version", [], scalar(READ_VERSION))?
        .unwrap_or_default();
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > LATEST {
        return Err(StoreError::Corrupt {
            what: "schema version",
            why: format!("{version} is newer than this broker's {LATEST}"),
        });
    }
    for (index, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let script = format!(
            "BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {};\nCOMMIT;",
            index + 1
        );
        connection.execute_batch(&script).during("create_table")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of the first migrations, as earlier builds left it.
    fn before(migrations: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for script in MIGRATIONS.iter().take(migrations) {
            connection.execute_batch(script).unwrap();
        }
        let version = format!("PRAGMA user_version = {migrations}");
        connection.execute_batch(&version).unwrap();
        connection
    }

    fn text(connection: &Connection, sql: &str) -> String {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_migration_keeps_rows_and_ends_sessions_it_cannot_find() {
        let connection = before(4);
        connection
            .execute_batch(
                "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, created_at, correlation_id, \
                 last_exp) VALUES \
                 ('0123456789abcdef00', 'spiffe://d/agent/o/t/0123456789abcdef', 'o', 't', '[]', 'j1', 1, 2, 3, '', 7200), \
                 ('ffff456789abcdef00', 'spiffe://d/agent/o/t/0123456789abcdef', 'o', 't', '[]', 'j2', 1, 2, 3, '', 7200); \
                 INSERT INTO launch_tokens VALUES ('h', 'n', '[]', 1, 1, 2, NULL, 'admin', '', NULL, NULL, NULL); \
                 INSERT INTO nonces (nonce, until) VALUES ('n', 9);",
            )
            .unwrap();
        migrate(&connection).unwrap();
        let ended = "SELECT group_concat(jti || coalesce(end_reason, '-') || kept_until, ' ') FROM sessions";
        assert_eq!(text(&connection, ended), "j1-100800 j2revoked100800");
        let others = "SELECT (SELECT hash FROM launch_tokens) || \
                      (SELECT nonce || until FROM nonces)";
        assert_eq!(text(&connection, others), "hn9");
        let left = "SELECT count(*) || '' FROM sqlite_schema WHERE name LIKE '%before%'";
        assert_eq!(text(&connection, left), "0");
    }

    #[test]
    fn a_migration_keeps_pods_with_their_sessions() {
        let connection = before(6);
        connection
            .execute_batch(
                r#"INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until,
                created_at, barred, correlation_id, pod_uid, attested) VALUES
                ('0123456789abcdef00', 'a', 'o', 'p1', '[]', 'j1', 1, 2, 2, 9, 3, 0, '', 'p1', '{"namespace":"n","pod_name":"one"}'),
                ('1123456789abcdef00', 'a', 'o', 'p1', '[]', 'j2', 1, 2, 2, 9, 3, 0, '', 'p1', '{"namespace":"n","pod_name":"one"}'),
                ('2123456789abcdef00', 'a', 'o', 'p2', '[]', 'j3', 1, 2, 2, 9, 3, 0, '', 'p2', '{"namespace":"n","pod_name":"two"}');
                INSERT INTO launch_tokens (hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, created_by,
                correlation_id, pod_uid, attested)
                VALUES ('h', 'n', '[]', 1, 1, 2, '', '', 'p3', '{"namespace":"n","pod_name":"three"}');
                INSERT INTO quarantined_pods VALUES ('p4', 'n', 'four', 1, 'admin');
                INSERT INTO buried_pods VALUES ('p2', 9);"#,
            )
            .unwrap();
        migrate(&connection).unwrap();
        let pods =
            "SELECT group_concat(uid || ':' || namespace || '/' || name, ' ') FROM (SELECT * FROM pods ORDER BY uid)";
        assert_eq!(text(&connection, pods), "p1:n/one p3:n/three p4:n/four");
        let sessions =
            "SELECT group_concat(lower(hex(stem)) || '=' || uid, ' ') FROM pod_sessions JOIN pods ON pod = id";
        assert_eq!(text(&connection, sessions), "0123456789abcdef=p1 1123456789abcdef=p1");
        let quarantined = "SELECT pod_uid || coalesce(until, ' until its end') FROM quarantined_pods";
        assert_eq!(text(&connection, quarantined), "p4 until its end");
    }

    #[test]
    fn a_migration_gives_delegations_their_holders_pod() {
        let connection = before(7);
        let sessions = "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, \
                        created_at, barred, correlation_id, pod_uid, root) VALUES ";
        let agent = |instance: &str| format!("spiffe://d/agent/o/t/{instance}");
        let row = |sid: &str, instance: &str, rest: &str| {
            format!(
                "('{sid}00', '{}', 'o', 't', '[]', '{sid}j', 1, 2, 2, 9, 3, 0, '', {rest})",
                agent(instance)
            )
        };
        let stems = [
            "0123456789abcdef",
            "1123456789abcdef",
            "2123456789abcdef",
            "3123456789abcdef",
        ];
        let [standing, buried, revoked, person] = stems;
        let rows = [
            row(standing, standing, "'p1', NULL"),
            row(buried, buried, "'p2', NULL"),
            row(revoked, revoked, "'p3', NULL"),
            row(person, person, "NULL, NULL"),
            row("a", standing, "NULL, 'r'"),
            row("b", buried, "NULL, 'r'"),
            row("c", revoked, "NULL, 'r'"),
            row("d", person, "NULL, 'r'"),
        ];
        connection
            .execute_batch(&format!(
                "{sessions}{}; INSERT INTO buried_pods VALUES ('p2', 9); \
                 INSERT INTO quarantined_pods VALUES ('p3', 1, 'admin', NULL);",
                rows.join(", ")
            ))
            .unwrap();
        migrate(&connection).unwrap();
        let held = "SELECT group_concat(sid || coalesce(holder_pod, '-') || coalesce(end_reason, '-'), ' ') \
                    FROM (SELECT * FROM sessions WHERE root IS NOT NULL ORDER BY sid)";
        assert_eq!(text(&connection, held), "a00p1- b00p2pod_ended c00p3revoked d00--");
    }

    #[test]
    fn a_migration_keeps_the_overlap_of_old_tokens() {
        let connection = before(9);
        connection
            .execute_batch(
                "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, \
                 created_at, barred, correlation_id, prev_jti, prev_until, prev_exp) VALUES \
                 ('a00', 'a', 'o', 't', '[]', 'j2', 1, 9, 9, 9, 3, 0, '', 'j1', 700, 8), \
                 ('b00', 'a', 'o', 't', '[]', 'k2', 1, 9, 9, 9, 3, 0, '', 'k1', 0, 8), \
                 ('c00', 'a', 'o', 't', '[]', 'l1', 1, 9, 9, 9, 3, 0, '', NULL, NULL, NULL); \
                 INSERT INTO spent_tokens (jti, effective_at, exp) VALUES ('j0', 0, 7), ('j1', 750, 8), ('k1', 0, 8);",
            )
            .unwrap();
        migrate(&connection).unwrap();
        let over =
            "SELECT group_concat(sid || coalesce(prev_over, '-'), ' ') FROM (SELECT * FROM sessions ORDER BY sid)";
        assert_eq!(text(&connection, over), "a00750 b000 c00-");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        migrate(&connection).unwrap();
        connection.execute_batch("PRAGMA user_version = 999").unwrap();
        let refused = migrate(&connection).unwrap_err().to_string();
        let both = format!("999 is newer than this broker's {LATEST}");
        assert!(refused.contains(&both), "{refused}");
    }

    #[test]
    fn every_lookup_of_a_command_uses_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        for (sql, index) in [
            ("SELECT * FROM sessions WHERE sid = ?", "sid=?"),
            (
                "SELECT * FROM sessions WHERE sid >= ?1 AND sid < ?1 || 'g' AND last_exp >= ?",
                "sid>? AND sid<?",
            ),
            (
                "SELECT * FROM sessions WHERE root IS NOT NULL AND agent_id = ?",
                "agent_id=?",
            ),
            (
                "SELECT * FROM sessions WHERE task_id = ? AND last_exp >= ?",
                "task_id=?",
            ),
            (
                "SELECT * FROM sessions WHERE pod_uid IS NOT NULL AND root IS NULL AND orch_id = ?",
                "orch_id=?",
            ),
            (
                "SELECT DISTINCT pod_uid FROM sessions WHERE policy_uid = ? AND pod_uid <> ? AND exp >= ? LIMIT ?",
                "policy_uid=?",
            ),
            ("SELECT * FROM sessions WHERE parent = ? AND last_exp >= ?", "parent=?"),
            (
                "SELECT 1 FROM sessions WHERE root = ? AND (ended_at IS NULL OR end_reason = 'superseded') AND ended_at IS NULL \
                 AND last_exp >= ? LIMIT ?",
                "root=? AND last_exp>?",
            ),
            (
                "UPDATE sessions SET status_set_at = ? WHERE root = ? AND (ended_at IS NULL OR end_reason = 'superseded') \
                 AND last_exp >= ?",
                "root=? AND last_exp>?",
            ),
            (
                "SELECT id, status FROM sessions WHERE kept_until = ? AND id > ? ORDER BY id LIMIT ?",
                "kept_until=? AND rowid>?",
            ),
            (
                "SELECT MIN(kept_until) FROM sessions WHERE kept_until > ? AND kept_until <= ?",
                "kept_until>? AND kept_until<?",
            ),
            (
                "SELECT status FROM sessions WHERE kept_until > ? AND status IS NOT NULL ORDER BY kept_until DESC, id DESC",
                "kept_until>?",
            ),
            (
                "SELECT * FROM sessions WHERE holder_pod = ? AND last_exp >= ?",
                "holder_pod=?",
            ),
            (
                "SELECT * FROM sessions WHERE pod_uid = ? AND (ended_at IS NULL OR ended_at > ?)",
                "pod_uid=?",
            ),
            (
                "SELECT sid FROM sessions WHERE ended_at IS NOT NULL AND last_exp >= ?",
                "last_exp>?",
            ),
            (
                "SELECT COUNT(*) FROM sessions WHERE kept_until >= ? AND ended_at IS NULL AND exp >= ?",
                "kept_until>?",
            ),
            ("SELECT id FROM sessions WHERE kept_until < ? LIMIT ?", "kept_until<?"),
            ("SELECT * FROM launch_tokens WHERE hash = ?", "hash=?"),
            ("SELECT pod FROM pod_sessions WHERE stem = unhex(?)", "stem=?"),
            (
                "SELECT uid FROM pods WHERE uid >= ?1 AND uid < ?1 || 'g'",
                "uid>? AND uid<?",
            ),
            ("DELETE FROM pod_sessions WHERE pod = ?", "pod=?"),
            ("SELECT * FROM pods WHERE uid = ?", "uid=?"),
            ("SELECT until, nonce FROM nonces WHERE until < ? LIMIT ?", "until<?"),
            (
                "SELECT sid FROM sessions WHERE kept_until >= ? AND prev_jti IS NOT NULL AND last_exp >= ?",
                "kept_until>?",
            ),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            // Parameters stay NULL: the plan doesn't depend on them.
            let mut rows = statement.raw_query();
            let plan: String = rows.next().unwrap().unwrap().get(3).unwrap();
            assert!(plan.starts_with("SEARCH") && plan.contains(index), "{sql}: {plan}");
        }
    }
}
