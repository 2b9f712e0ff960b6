//! What the tables promise.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentwrit_store::testing::suite::Bench;
use agentwrit_store_postgres::testing::Database;

/// Else each of them writes to all indexes of the table, since the new version of the row stays in its page only then.
#[tokio::test]
async fn no_index_has_what_a_renewal_or_an_end_writes() {
    let database = Database::new();
    Bench::open(&database).await.store.close().await.unwrap();
    let written = "iat|exp|last_exp|jti|prev_[a-z]+|renew_key|ended_at|end_reason|barred|status_set_at";
    let sql = format!(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'agentwrit' AND tablename = 'sessions' \
         AND indexdef ~ '\\m({written})\\M'"
    );
    assert_eq!(database.sql(&sql).unwrap().trim(), "");
    let known = sql.replace(written, "kept_until");
    assert!(
        database.sql(&known).unwrap().contains("sessions_kept"),
        "the pattern finds what there is"
    );
}
