//! Accounts, their keys and what goes with them.

use super::*;
use crate::storage::testing;

fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn some_keys(byte: u8) -> AccountKeys {
    let keys = ScramKeys {
        salt: vec![byte; 16],
        iterations: 10_000,
        stored_key: vec![byte],
        server_key: vec![],
        others: vec![KeyPair {
            stored_key: vec![byte; 32],
            server_key: vec![byte + 1; 32],
        }],
    };
    let sha512 = ScramKeys {
        others: vec![KeyPair {
            stored_key: vec![byte; 64],
            server_key: vec![byte + 1; 64],
        }],
        ..keys.clone()
    };
    AccountKeys {
        sha1: None,
        sha256: Some(keys),
        sha512: Some(sha512),
    }
}

#[tokio::test]
async fn an_account_is_made_once_and_its_keys_are_read_back() {
    testing::each(async |storage| {
        let alice = jid("alice@example.org");
        assert!(
            storage
                .create_account(&alice, &some_keys(1), 5)
                .await
                .unwrap()
        );
        assert!(
            !storage
                .create_account(&alice, &some_keys(2), 6)
                .await
                .unwrap()
        );
        let stored = storage
            .account_keys("alice", "example.org")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            stored,
            StoredKeys {
                keys: some_keys(1),
                disabled: false
            }
        );
        assert!(
            storage
                .set_account_keys(&alice, &some_keys(3), Ends::ALL)
                .await
                .unwrap()
        );
        let stored = storage
            .account_keys("alice", "example.org")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.keys, some_keys(3));
        assert!(
            !storage
                .set_account_keys(&jid("bob@example.org"), &some_keys(3), Ends::ALL)
                .await
                .unwrap()
        );
        assert_eq!(
            storage.account_keys("alice", "example.net").await.unwrap(),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn st_41_keys_for_sha_512_are_added_once_and_only_for_the_same_password() {
    testing::each(async |storage| {
        let alice = jid("alice@example.org");
        let (all, other) = (some_keys(1), some_keys(3));
        let old = AccountKeys {
            sha512: None,
            ..all.clone()
        };
        assert!(!storage.lacks_sha512_keys().await.unwrap());
        storage.create_account(&alice, &old, 5).await.unwrap();
        assert!(storage.lacks_sha512_keys().await.unwrap());
        let add = async |checked: &AccountKeys, new: &AccountKeys| {
            let (checked, new) = (checked.sha256.as_ref(), new.sha512.clone());
            let added = storage.add_sha512_keys(&alice, checked.unwrap(), new.unwrap());
            added.await.unwrap()
        };
        assert!(!add(&other, &other).await);
        assert!(add(&old, &all).await);
        assert!(!add(&old, &other).await);
        let stored = storage.account_keys("alice", "example.org").await.unwrap();
        assert_eq!(stored.unwrap().keys, all);
        assert!(!storage.lacks_sha512_keys().await.unwrap());
        assert_eq!(storage.revocations(10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn st_41_an_account_with_keys_for_sha_1_alone_gets_others_and_one_without_any_is_not_waited_for()
 {
    testing::each(async |storage| {
        let alice = jid("alice@example.org");
        let none = AccountKeys::default();
        let bob = jid("bob@example.org");
        storage.create_account(&bob, &none, 5).await.unwrap();
        assert!(!storage.lacks_sha512_keys().await.unwrap());
        let old = AccountKeys {
            sha1: some_keys(1).sha256,
            sha256: None,
            sha512: None,
        };
        storage.create_account(&alice, &old, 5).await.unwrap();
        assert!(storage.lacks_sha512_keys().await.unwrap());
        let (checked, new) = (old.sha1.unwrap(), some_keys(1).sha512.unwrap());
        let wrong = some_keys(3).sha256.unwrap();
        let add = |checked, new| storage.add_sha512_keys(&alice, checked, new);
        assert!(!add(&wrong, new.clone()).await.unwrap());
        assert!(add(&checked, new).await.unwrap());
        assert!(!storage.lacks_sha512_keys().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn im_9_a_locked_account_does_not_exist_for_others() {
    testing::each(async |storage| {
        let alice = jid("alice@example.org");
        storage
            .create_account(&alice, &some_keys(1), 5)
            .await
            .unwrap();
        assert!(storage.account_exists(&alice).await.unwrap());
        assert!(storage.set_account_disabled(&alice, true).await.unwrap());
        assert!(!storage.account_exists(&alice).await.unwrap());
        assert!(
            storage
                .account_keys("alice", "example.org")
                .await
                .unwrap()
                .unwrap()
                .disabled
        );
    })
    .await;
}

#[tokio::test]
async fn accounts_are_listed_in_pages_and_removed_with_all_that_is_theirs() {
    testing::each(async |storage| {
        for name in ["a@x", "b@x", "c@x", "d@y"] {
            storage
                .create_account(&jid(name), &some_keys(1), 5)
                .await
                .unwrap();
        }
        let sql = "INSERT INTO vcard (account, xml) VALUES ('b@x', '<v/>')";
        storage.database.raw(sql.to_owned()).await.unwrap();
        assert_eq!(storage.account_domains().await.unwrap(), ["x", "y"]);
        let page = storage.accounts("x", "a", 1).await.unwrap();
        assert_eq!(
            page.iter()
                .map(|account| account.jid.as_str())
                .collect::<Vec<_>>(),
            ["b@x"]
        );
        assert!(
            storage
                .remove_account(&jid("b@x"), 7, Ends::ALL)
                .await
                .unwrap()
        );
        assert!(
            !storage
                .remove_account(&jid("b@x"), 7, Ends::ALL)
                .await
                .unwrap()
        );
        let left = storage.database.rows("SELECT xml FROM vcard", Vec::new());
        assert!(left.await.unwrap().is_empty());
        assert_eq!(storage.accounts("x", "", 10).await.unwrap().len(), 2);
    })
    .await;
}
