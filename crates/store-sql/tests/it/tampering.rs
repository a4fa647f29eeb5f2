//! The audit log after somebody changed the database by hand: every change is found, and where.

use std::path::Path;

use naru_domain::ports::Audit as _;
use naru_domain::work::AuditVerdict;
use naru_testkit::store_contract::audit_entry;

use crate::{open, run_sql};

/// Writes nine entries, runs `sql` on the closed database, and verifies.
async fn check(sql: &str, broken_at: Option<i64>) {
    let folder = tempfile::tempdir().expect("a folder");
    write_nine(folder.path()).await;
    run_sql(folder.path(), sql).await;
    let store = open(folder.path()).await;
    let verdict = store.verify_audit().await.expect("it reads");
    assert_eq!(verdict.broken_at, broken_at, "{sql}");
    store.close().await.expect("it closes");
}

async fn write_nine(folder: &Path) {
    let store = open(folder).await;
    for n in 1..=9 {
        store.append_audit(&audit_entry(n)).await.expect("it is kept");
    }
    let whole = AuditVerdict { entries: 9, broken_at: None };
    assert_eq!(store.verify_audit().await.expect("it reads"), whole);
    store.close().await.expect("it closes");
}

#[tokio::test]
async fn an_untouched_log_is_whole() {
    check("SELECT 1", None).await;
}

#[tokio::test]
async fn any_edit_is_found() {
    for column in ["at = at + 1", "actor = 'x'", "source = ''", "action = 'x'", "object = 'x'"] {
        check(&format!("UPDATE audit SET {column} WHERE id = 5"), Some(5)).await;
    }
    check("UPDATE audit SET detail = detail || ' ' WHERE id = 9", Some(9)).await;
    check("UPDATE audit SET hash = zeroblob(32) WHERE id = 1", Some(1)).await;
    // From one field to the next: the text in a row is the same.
    check(
        "UPDATE audit SET actor = actor || 'x', source = substr(source, 2) WHERE id = 2",
        Some(2),
    )
    .await;
}

#[tokio::test]
async fn a_removed_entry_is_found_wherever_it_stood() {
    check("DELETE FROM audit WHERE id = 1", Some(1)).await;
    check("DELETE FROM audit WHERE id = 4", Some(4)).await;
    check("DELETE FROM audit WHERE id = 9", Some(9)).await;
    check("DELETE FROM audit WHERE id > 6", Some(7)).await;
    check("DELETE FROM audit", Some(1)).await;
    check("DELETE FROM audit WHERE id = 4; UPDATE audit SET id = id - 1 WHERE id > 4", Some(4))
        .await;
}

#[tokio::test]
async fn an_added_or_moved_entry_is_found() {
    let copy = "INSERT INTO audit SELECT 10, at, actor, source, action, object, detail, hash \
                FROM audit WHERE id = 9";
    check(copy, Some(10)).await;
    let swap = "UPDATE audit SET id = 100 WHERE id = 3; UPDATE audit SET id = 3 WHERE id = 4; \
                UPDATE audit SET id = 4 WHERE id = 100";
    check(swap, Some(3)).await;
    check("DELETE FROM audit_head", Some(1)).await;
}
