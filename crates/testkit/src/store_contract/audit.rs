//! Promises of the audit log. What tampering does is tested beside each adapter, which knows how to.

use naru_domain::Timestamp;
use naru_domain::ports::Audit;
use naru_domain::work::{AuditEntry, AuditVerdict};

use super::{ok, page};

/// An entry of the audit log.
#[must_use]
pub fn audit_entry(n: i64) -> AuditEntry {
    AuditEntry {
        at: Timestamp(1_000 + n),
        actor: "kim".to_owned(),
        source: "192.0.2.1".to_owned(),
        action: "device.approve".to_owned(),
        object: format!("device:{n}"),
        detail: "{\"note\":\"왜\"}".to_owned(),
    }
}

/// All promises of [`Audit`].
pub async fn audit<S: Audit, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let empty = AuditVerdict { entries: 0, broken_at: None };
    assert_eq!(ok(store.verify_audit().await), empty);
    for n in 1..=5 {
        ok(store.append_audit(&audit_entry(n)).await);
    }
    let newest = ok(store.audit(page(None, 2)).await);
    assert_eq!(newest.iter().map(|entry| entry.id).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(newest[0].entry, audit_entry(5));
    assert_ne!(newest[0].hash, newest[1].hash);
    let older = ok(store.audit(page(Some(4), 9)).await);
    assert_eq!(older.iter().map(|entry| entry.id).collect::<Vec<_>>(), [3, 2, 1]);
    let whole = AuditVerdict { entries: 5, broken_at: None };
    assert_eq!(ok(store.verify_audit().await), whole);
}
