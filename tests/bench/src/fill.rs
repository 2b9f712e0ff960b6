//! Rows as a broker writes them, but many at once and by SQL: a long trail, and much that was revoked.

use agentwrit_testkit::load::failure::Result;

use crate::database::Database;

/// Events of a segment: about 16 MiB, where a broker cuts.
const SEGMENT: usize = 25_000;
/// Events that are written at once: a broker waits five seconds for the lock that is held meanwhile.
const AT_ONCE: usize = 5_000;

/// Makes the trail as long as this, in segments as a broker cuts them. Its events are not chained by their hashes: a broker
/// that runs goes on from the head, one that opens the store refuses it.
///
/// # Errors
/// What the database says.
pub fn events(database: &Database, count: usize) -> Result<()> {
    for _ in 0..count.div_ceil(AT_ONCE) {
        database.sql(&format!(
            "DO $$ DECLARE head chain_head; BEGIN
                SELECT * INTO head FROM chain_head WHERE id = 1 FOR UPDATE;
                IF head.growing_events >= {SEGMENT} THEN
                    INSERT INTO audit_segments (first, last, bytes, first_at, last_at, first_hash, head)
                        VALUES (head.growing_first, head.sequence, head.growing_bytes, head.growing_first_at, head.growing_last_at,
                                head.growing_first_hash, head.hash);
                    PERFORM open_segment(head.sequence + 1);
                    UPDATE chain_head SET segments = segments + 1, sealed_bytes = sealed_bytes + growing_bytes,
                        growing_first = head.sequence + 1, growing_events = 0, growing_bytes = 0 WHERE id = 1
                        RETURNING * INTO head;
                END IF;
                INSERT INTO audit_events (segment, seq, at, event_type, outcome, agent_id, task_id, actor, source,
                                          correlation_id, policy_uid, pod_uid, error_kind, json)
                    SELECT head.growing_first, head.sequence + number, e.at, e.event_type, e.outcome, e.agent_id, e.task_id, e.actor,
                           e.source, md5((head.sequence + number / 2)::text), '11111111-2222-3333-4444-555555555555',
                           md5((head.sequence + number / 2)::text), e.error_kind, e.json
                    FROM generate_series(1, {AT_ONCE}) AS number
                    JOIN (SELECT row_number() OVER () AS place, sample.* FROM
                          (SELECT DISTINCT ON (event_type) * FROM audit_events WHERE segment = 1 AND seq < 1000
                           AND event_type IN ('agent_registered', 'token_issued') ORDER BY event_type, seq) AS sample) AS e
                      ON e.place = 1 + number % 2;
                UPDATE chain_head SET sequence = sequence + {AT_ONCE}, growing_events = growing_events + {AT_ONCE},
                    growing_bytes = growing_bytes + {AT_ONCE} * 650 WHERE id = 1;
            END $$"
        ))?;
    }
    database.outside_transactions("VACUUM ANALYZE agentwrit.audit_events")
}

/// Ends as many sessions as this, and revokes as many tokens, all of which a broker knows after its start. No broker may run.
///
/// # Errors
/// What the database says.
pub fn revocations(database: &Database, count: usize) -> Result<()> {
    // Ids as if one had been opened each millisecond; places of two status lists, each once, in a random order.
    database.sql(&format!(
        "INSERT INTO sessions (sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, kept_until, created_at, ended_at,
                               end_reason, barred, correlation_id, status, status_set_at)
         SELECT s.id, 'spiffe://agentwrit.local/agent/load/task-' || number % 64 || '/' || left(s.id, 16), 'load', 'task-' || number % 64,
                '[\"read:data:orders\"]', left(s.id, 16) || md5(number::text || 'j'), now_s, now_s + 3600, now_s + 3600,
                ((now_s + 3600 + 25 * 3600) / 3600 + 1) * 3600, now_s * 1000, now_s * 1000, 'released', false, 'filled-in',
                (number * 655361) % 2097152, 0
         FROM generate_series(1::bigint, {count}) AS number,
              LATERAL (SELECT lpad(to_hex((number / 64) & 1048575), 5, '0') || left(md5(number::text), 27) AS id) AS s,
              (SELECT extract(epoch FROM now())::bigint AS now_s) AS moment"
    ))?;
    database.sql(&format!(
        "INSERT INTO revocations (level, target, until)
         SELECT 'token', md5(number::text || 'r'), (extract(epoch FROM now())::bigint + 3600) * 1000
         FROM generate_series(1::bigint, {count}) AS number;
         UPDATE chain_head SET status_lists = greatest(status_lists, 2), status_held = status_held + {count} WHERE id = 1"
    ))?;
    database.outside_transactions("VACUUM ANALYZE")
}
