//! Promises about tokens and accounts.

use naru_domain::Timestamp;
use naru_domain::ports::{Accounts, StoreError, Tokens};
use naru_domain::work::{Account, Role, TokenRecord};

use super::{ok, page, refused};

/// All promises of [`Tokens`].
pub async fn tokens<S: Tokens, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let token = |hash: u8, bots: &[&str]| TokenRecord {
        id: 0,
        name: "ci".to_owned(),
        hash: [hash; 32],
        role: Role::Operator,
        bots: bots.iter().map(|bot| (*bot).to_owned()).collect(),
        created_at: Timestamp(1),
        used_at: None,
        expires_at: Some(Timestamp(99)),
        revoked_at: None,
    };
    let first = ok(store.add_token(&token(1, &["a, b", "봇"])).await);
    let second = ok(store.add_token(&token(2, &[])).await);
    assert!(second > first);
    assert!(store.add_token(&token(2, &[])).await.is_err(), "two tokens with one secret");
    let found = ok(store.token_by_hash(&[1; 32]).await);
    assert_eq!(found, Some(TokenRecord { id: first, ..token(1, &["a, b", "봇"]) }));
    assert_eq!(ok(store.token_by_hash(&[9; 32]).await), None);
    let listed = ok(store.tokens(page(Some(first), 9)).await);
    assert_eq!(listed, [TokenRecord { id: second, ..token(2, &[]) }]);

    ok(store.touch_token(first, Timestamp(5)).await);
    ok(store.revoke_token(first, Timestamp(6)).await);
    ok(store.revoke_token(first, Timestamp(7)).await);
    let Some(revoked) = ok(store.token_by_hash(&[1; 32]).await) else {
        panic!("a revoked token is still known");
    };
    assert_eq!(revoked.used_at, Some(Timestamp(5)));
    assert_eq!(revoked.revoked_at, Some(Timestamp(6)), "the first revocation counts");
    refused(store.revoke_token(99, Timestamp(1)).await, &StoreError::NotFound);
}

/// All promises of [`Accounts`].
pub async fn accounts<S: Accounts, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let account = |name: &str, role| Account {
        name: name.to_owned(),
        password_hash: "$argon2id$…".to_owned(),
        role,
        created_at: Timestamp(3),
    };
    for (name, role) in [("b", Role::Admin), ("a", Role::Viewer), ("b", Role::Operator)] {
        ok(store.put_account(&account(name, role)).await);
    }
    assert_eq!(ok(store.account("b").await), Some(account("b", Role::Operator)));
    assert_eq!(ok(store.account("c").await), None);
    let all = [account("a", Role::Viewer), account("b", Role::Operator)];
    assert_eq!(ok(store.accounts(None, 9).await), all);
    assert_eq!(ok(store.accounts(Some("a"), 9).await), all[1..]);
    assert_eq!(ok(store.accounts(None, 1).await), all[..1]);
    ok(store.remove_account("a").await);
    refused(store.remove_account("a").await, &StoreError::NotFound);
}
