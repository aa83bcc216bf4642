//! Blocklists in both databases.

use super::*;
use crate::storage::testing;

const ROOMY: Quotas = Quotas {
    blocked_jids: 1_000,
    blocked_bytes: 64 << 10,
};

fn alice() -> BareJid {
    BareJid::new("alice@example.org").unwrap()
}

fn jids(texts: &[&str]) -> Vec<Jid> {
    texts.iter().map(|text| Jid::new(text).unwrap()).collect()
}

#[tokio::test]
async fn im_66_each_change_names_the_state_that_it_found_and_a_repetition_changes_nothing() {
    testing::each(async |storage| {
        let (alice, both) = (alice(), jids(&["bob@example.org", "example.net"]));
        let change = storage.block(&ROOMY, &alice, 5, &both).await.unwrap();
        assert_eq!((change.found, change.left, change.jids.len()), (0, 5, 2));
        let change = storage.block(&ROOMY, &alice, 6, &both).await.unwrap();
        assert_eq!((change.found, change.left, change.jids.len()), (5, 5, 0));
        let list = storage.blocklist(&alice).await.unwrap();
        assert_eq!((list.revision, list.jids), (5, both.clone()));
        let change = storage.unblock(&alice, 7, &both[..1]).await.unwrap();
        assert_eq!((change.found, change.left), (5, 7));
        assert_eq!(change.jids, both[..1]);
        assert_eq!(
            storage.blocklists_after(None, 9).await.unwrap(),
            [(alice.clone(), 7)]
        );
        let change = storage.unblock(&alice, 8, &[]).await.unwrap();
        assert_eq!((change.found, change.left), (7, 0));
        assert_eq!(change.jids, both[1..]);
        assert_eq!(
            storage.blocklist(&alice).await.unwrap(),
            Blocklist::default()
        );
        assert_eq!(storage.blocklist_revision(&alice).await.unwrap(), 0);
        assert_eq!(storage.blocklists_after(None, 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn t_54_a_blocklist_is_bounded_in_number_and_bytes_and_what_is_too_much_changes_nothing() {
    let one = size(&jids(&["1@x"]));
    for (quotas, full) in [
        (
            Quotas {
                blocked_jids: 2,
                ..ROOMY
            },
            Full::Number(2),
        ),
        (
            Quotas {
                blocked_bytes: 2 * one,
                ..ROOMY
            },
            Full::Bytes(2 * one),
        ),
    ] {
        testing::each(async |storage| {
            let alice = alice();
            storage
                .block(&quotas, &alice, 1, &jids(&["1@x"]))
                .await
                .unwrap();
            let refused = storage
                .block(&quotas, &alice, 2, &jids(&["2@x", "3@x"]))
                .await;
            let Err(StorageError::Full(reason)) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(reason, full.to_string());
            assert_eq!(
                storage.blocklist(&alice).await.unwrap().jids,
                jids(&["1@x"])
            );
            storage
                .block(&quotas, &alice, 3, &jids(&["2@x"]))
                .await
                .unwrap();
            // Who is in it already takes no room.
            storage
                .block(&quotas, &alice, 4, &jids(&["1@x", "2@x"]))
                .await
                .unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn im_69_im_70_the_own_block_is_found_before_that_of_the_other() {
    testing::each(async |storage| {
        let [alice, bob] =
            ["alice@example.org/a", "bob@example.org/b"].map(|jid| Jid::new(jid).unwrap());
        let between = async |one: &Jid, other: &Jid| storage.barrier(one, other).await.unwrap();
        assert_eq!(between(&alice, &bob).await, None);
        let list = jids(&["bob@example.org"]);
        storage
            .block(&ROOMY, &alice.bare(), 1, &list)
            .await
            .unwrap();
        assert_eq!(between(&alice, &bob).await, Some(Barrier::Own));
        assert_eq!(between(&bob, &alice).await, Some(Barrier::Other));
        storage
            .block(&ROOMY, &bob.bare(), 2, &jids(&["example.org"]))
            .await
            .unwrap();
        assert_eq!(between(&bob, &alice).await, Some(Barrier::Own));
        let server = Jid::new("example.org").unwrap();
        assert_eq!(between(&bob, &server).await, None, "IM-71");
        assert_eq!(between(&bob, &bob).await, None, "IM-71");
    })
    .await;
}

#[tokio::test]
async fn t_72_many_addresses_are_blocked_and_unblocked_at_once() {
    testing::each(async |storage| {
        let all: Vec<Jid> = (0..1_000)
            .map(|n| Jid::new(&format!("{n}@x/'")).unwrap())
            .collect();
        let change = storage.block(&ROOMY, &alice(), 1, &all).await.unwrap();
        assert_eq!(change.jids.len(), 1_000);
        let change = storage.unblock(&alice(), 2, &all[..999]).await.unwrap();
        assert_eq!(change.jids.len(), 999);
        assert_eq!(storage.blocklist(&alice()).await.unwrap().jids, all[999..]);
    })
    .await;
}
