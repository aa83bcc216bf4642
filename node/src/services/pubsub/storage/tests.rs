//! Nodes in both databases.

use proto::payload::form::{Form, FormType};
use proto::{BareJid, ns};

use super::item::{Published, Refused};
use super::row::Full;
use super::*;
use crate::storage::{Ends, testing};

fn bare(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn options(fields: &[(&str, &str)]) -> Form {
    let form = Form::new(FormType::Submit, ns::PUBSUB_PUBLISH_OPTIONS);
    fields
        .iter()
        .fold(form, |form, (var, value)| form.with(var, [*value]))
}

const MANY: &[(&str, &str)] = &[("pubsub#max_items", "max")];

async fn publish(
    storage: &Storage,
    quotas: &Quotas,
    node: &str,
    id: &str,
    options: Option<&Form>,
) -> Result<Result<Published, Refused>, StorageError> {
    let publishing = Publishing {
        node,
        id,
        stamp: 5,
        xml: "<a xmlns='urn:a'/>",
        options,
        kind: "urn:a",
    };
    storage
        .publish(quotas, &bare("alice@example.org"), &publishing)
        .await
}

async fn ids(storage: &Storage, node: &str, wanted: Wanted) -> Vec<String> {
    let items = storage
        .items(&bare("alice@example.org"), node, &wanted)
        .await;
    items.unwrap().into_iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn pe_5_pe_12_items_are_in_the_order_of_publication_and_the_oldest_give_way() {
    testing::each(async |storage| {
        let quotas = Quotas {
            pubsub_items: 3,
            ..Quotas::default()
        };
        let many = options(MANY);
        for id in ["a", "b", "c", "a", "d"] {
            let published = publish(&storage, &quotas, "n", id, Some(&many)).await;
            assert_eq!(published.unwrap().unwrap().config.max_items, None);
        }
        assert_eq!(ids(&storage, "n", Wanted::default()).await, ["d", "a", "c"]);
        let node = storage.node(&bare("alice@example.org"), "n").await.unwrap();
        assert_eq!(node.map(|node| node.items), Some(3));
        for (wanted, expect) in [
            (
                Wanted {
                    most: Some(1),
                    ..Wanted::default()
                },
                &["d"][..],
            ),
            (
                Wanted {
                    after: Some("d".into()),
                    ..Wanted::default()
                },
                &["a", "c"],
            ),
            (
                Wanted {
                    ids: vec!["c".into(), "d".into(), "x".into()],
                    ..Wanted::default()
                },
                &["d", "c"],
            ),
        ] {
            assert_eq!(ids(&storage, "n", wanted).await, expect);
        }
        // One takes the place of another where there is room for one.
        for id in ["a", "b"] {
            publish(&storage, &quotas, "one", id, None)
                .await
                .unwrap()
                .unwrap();
        }
        assert_eq!(ids(&storage, "one", Wanted::default()).await, ["b"]);
    })
    .await;
}

#[tokio::test]
async fn pe_4_a_precondition_that_is_not_met_changes_nothing() {
    testing::each(async |storage| {
        let quotas = Quotas::default();
        let open = options(&[("pubsub#access_model", "open")]);
        let unknown = options(&[("pubsub#unheard_of", "1")]);
        assert_eq!(
            publish(&storage, &quotas, "n", "a", Some(&unknown))
                .await
                .unwrap(),
            Err(Refused::Precondition)
        );
        assert!(
            storage
                .nodes(&bare("alice@example.org"))
                .await
                .unwrap()
                .is_empty()
        );
        publish(&storage, &quotas, "n", "a", Some(&open))
            .await
            .unwrap()
            .unwrap();
        let closed = options(&[("pubsub#access_model", "whitelist")]);
        assert_eq!(
            publish(&storage, &quotas, "n", "b", Some(&closed))
                .await
                .unwrap(),
            Err(Refused::Precondition)
        );
        assert_eq!(ids(&storage, "n", Wanted::default()).await, ["a"]);
    })
    .await;
}

#[tokio::test]
async fn t_54_nodes_items_and_parties_are_bounded() {
    testing::each(async |storage| {
        let alice = bare("alice@example.org");
        let one = 1 + "<a xmlns='urn:a'/>".len() as u64;
        let quotas = Quotas {
            pubsub_nodes: 2,
            pubsub_bytes: 3 * one,
            pubsub_parties: 1,
            ..Quotas::default()
        };
        let refused = |result: Result<_, StorageError>| match result {
            Err(StorageError::Full(full)) => full,
            other => panic!("{:?}", other.map(|_: Result<Published, Refused>| ())),
        };
        let many = options(MANY);
        for (node, id) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "1")] {
            publish(&storage, &quotas, node, id, Some(&many))
                .await
                .unwrap()
                .unwrap();
        }
        let full = refused(publish(&storage, &quotas, "a", "4", Some(&many)).await);
        assert_eq!(full, Full::Bytes(3 * one).to_string());
        assert_eq!(ids(&storage, "a", Wanted::default()).await, ["1", "2"]);
        let full = refused(publish(&storage, &quotas, "c", "5", None).await);
        assert_eq!(full, Full::Nodes(2).to_string());
        let carol: proto::Jid = "carol@example.org".parse().unwrap();
        let bob: proto::Jid = "bob@example.org".parse().unwrap();
        for _ in 0..2 {
            assert!(
                storage
                    .subscribe(&quotas, (&alice, "a"), &bob)
                    .await
                    .unwrap()
            );
        }
        let full = storage.subscribe(&quotas, (&alice, "a"), &carol).await;
        assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
        // What goes makes room.
        storage
            .retract(&alice, "a", &["2".into()])
            .await
            .unwrap()
            .unwrap();
        publish(&storage, &quotas, "a", "4", Some(&many))
            .await
            .unwrap()
            .unwrap();
        storage.purge_node(&alice, "a").await.unwrap().unwrap();
        storage.delete_node(&alice, "b").await.unwrap().unwrap();
        publish(&storage, &quotas, "c", "5", None)
            .await
            .unwrap()
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn pe_20_nodes_go_with_the_account() {
    testing::each(async |storage| {
        let (alice, bob) = (bare("alice@example.org"), bare("bob@example.org"));
        let quotas = Quotas::default();
        publish(&storage, &quotas, "n", "a", None)
            .await
            .unwrap()
            .unwrap();
        storage
            .subscribe(&quotas, (&alice, "n"), &bob.clone().into())
            .await
            .unwrap();
        let member = [(bob, Some(Affiliation::Member))];
        storage
            .affiliate(&quotas, (&alice, "n"), &member)
            .await
            .unwrap();
        storage.remove_account(&alice, 7, Ends::ALL).await.unwrap();
        assert!(storage.nodes(&alice).await.unwrap().is_empty());
        assert_eq!(ids(&storage, "n", Wanted::default()).await, [""; 0]);
        assert_eq!(
            storage.parties(&alice, "n").await.unwrap(),
            Parties::default()
        );
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_to_hold_less_holds_the_newest() {
    testing::each(async |storage| {
        let (alice, quotas) = (bare("alice@example.org"), Quotas::default());
        let many = options(MANY);
        for id in ["a", "b", "c"] {
            publish(&storage, &quotas, "n", id, Some(&many))
                .await
                .unwrap()
                .unwrap();
        }
        let fewer = |config: &Config| {
            Ok::<_, ()>(Config {
                max_items: Some(2),
                ..config.clone()
            })
        };
        storage
            .configure_node(&quotas, (&alice, "n"), fewer)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(ids(&storage, "n", Wanted::default()).await, ["c", "b"]);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_made_again_has_made_the_node_and_another_one_has_not() {
    testing::each(async |storage| {
        let (alice, quotas) = (bare("alice@example.org"), Quotas::default());
        let config = Config::default();
        for (made_by, expect) in [("1", true), ("1", true), ("2", false)] {
            let made = storage
                .create_node(&quotas, (&alice, "n"), &config, made_by)
                .await;
            assert_eq!(made.unwrap(), expect, "{made_by}");
        }
    })
    .await;
}

fn names(found: &[Last]) -> Vec<(BareJid, String, String)> {
    let names = found.iter().map(|last| {
        (
            last.account.clone(),
            last.node.clone(),
            last.item.id.clone(),
        )
    });
    names.collect()
}

#[tokio::test]
async fn pe_9_the_last_items_of_a_thousand_accounts_are_one_statement() {
    testing::each(async |storage| {
        let quotas = Quotas::default();
        let accounts: Vec<BareJid> = (0..1_000)
            .map(|n| bare(&format!("contact{n:04}@example.org")))
            .collect();
        for account in [&accounts[0], &accounts[500], &accounts[999]] {
            for (node, id) in [("a", "1"), ("a", "2"), ("b", "1"), ("never", "1")] {
                let never = options(&[("pubsub#send_last_published_item", "never")]);
                let publishing = Publishing {
                    node,
                    id,
                    stamp: 5,
                    xml: "",
                    options: (node == "never").then_some(&never),
                    kind: "",
                };
                storage
                    .publish(&quotas, account, &publishing)
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
        let nodes: Vec<Box<str>> = vec!["a".into(), "never".into(), "b".into(), "x".into()];
        let before = testing::statements();
        let found = storage
            .last_items(&accounts, &nodes, None, 100)
            .await
            .unwrap();
        if storage.engine() == "SQLite" {
            assert_eq!(testing::statements() - before, 1);
        }
        let expect: Vec<_> = [0, 500, 999]
            .into_iter()
            .flat_map(|n| [("a", "2"), ("b", "1")].map(|(node, id)| (n, node, id)))
            .map(|(n, node, id): (usize, &str, &str)| {
                (accounts[n].clone(), node.to_owned(), id.to_owned())
            })
            .collect();
        assert_eq!(names(&found), expect);
        // In pages of one they come to the same.
        let (mut after, mut paged) = (None, Vec::new());
        while let [last] = &storage
            .last_items(&accounts, &nodes, after.as_ref(), 1)
            .await
            .unwrap()[..]
        {
            after = Some((last.account.clone(), last.node.as_str().into()));
            paged.extend(names(std::slice::from_ref(last)));
        }
        assert_eq!(paged, expect);
    })
    .await;
}
