//! The columns that are read of each table, by their names.
//!
//! A prepared `SELECT *` fails from the moment at which another column is there: the programs that run while a newer one
//! migrates would answer nothing until they are connected anew.

macro_rules! columns {
    (apps) => {
        "app_id, name, client_id, secret_hash, scopes, token_ttl, created_at, updated_at, deregistered_at"
    };
    (audit_segments) => {
        "first, last, bytes, first_at, last_at, first_hash, head, file, sha256"
    };
    (chain_head) => {
        "sequence, hash, checkpoint, signed, unsigned_since, first_kept, segments, sealed_bytes, growing_first, \
         growing_events, growing_bytes, growing_first_at, growing_last_at, growing_first_hash, status_lists, status_held, \
         status_swept, view_seq, oldest_program"
    };
    (denials) => {
        "cursor, at, namespace, pod, pod_uid, policy, error_kind, message"
    };
    (launch_tokens) => {
        "hash, agent_name, allowed_scope, max_ttl, single_use, expires_at, consumed_at, created_by, correlation_id, attested"
    };
    (policies) => {
        "kind, namespace, name, uid, generation, lease_epoch, sequence, state, reason, digest, accepted, app_id, issued, \
         room_until"
    };
    (sessions) => {
        "sid, agent_id, orch_id, task_id, scope, jti, iat, exp, last_exp, prev_jti, prev_until, prev_exp, renew_key, \
         created_at, ended_at, end_reason, barred, correlation_id, attested, root, nodes, ceiling, holder_pod, status"
    };
    (signing_keys) => {
        "kid, x, published_at, signs_from, retires_at, retired_at, leaked"
    };
    (view_changes) => {
        "seq, kind, target, value, extra, overlap_until, until"
    };
}

/// A query for the rows of a table, with what follows the table's name.
macro_rules! select {
    ($table:ident, $($rest:expr),+ $(,)?) => {
        concat!("SELECT ", columns!($table), " FROM ", stringify!($table), " ", $($rest),+)
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn no_statement_asks_for_whatever_columns_there_are() {
        fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    files(&path, found);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 20);
        // Written so that it doesn't find itself.
        let forbidden = [format!("SELECT {}", '*'), format!("RETURNING {}", '*')];
        for path in found {
            let text = std::fs::read_to_string(&path).unwrap();
            // A comment may name it.
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let asks = forbidden.iter().any(|words| line.contains(words.as_str()));
                assert!(!asks, "{}: {line}", path.display());
            }
        }
    }
}
