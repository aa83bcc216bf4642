//! Who hears of what, finds it, and is given what was published last.

use cluster::session::{Effect, LastEvents, Relay};
use proto::BareJid;

use super::*;
use crate::router::testing::perform;

#[tokio::test]
async fn pe_11_who_subscribes_is_told_what_was_published_last_and_all_that_follows() {
    let node = edge().await;
    let alice = session(&node, "alice@example.org/desk");
    set(
        &alice,
        &(item("n", "a") + &options(&[("access_model", "open")])),
    )
    .await;
    let bob = session(&node, "bob@example.org/x");
    let subscribe = "<subscribe node='n' jid='bob@example.org/x'/>";
    let said = iq(&bob, "set", ALICE, PUBSUB, subscribe).await;
    assert!(said[0].contains("subscription='subscribed'"), "{said:?}");
    assert!(
        said[1].starts_with("event to [subscriber bob@example.org/x]"),
        "{said:?}"
    );
    assert!(said[1].contains("<delay "), "{said:?}");
    let said = set(&alice, &item("n", "b")).await;
    assert!(
        said[1].starts_with("event to [alice@example.org subscriber bob@example.org/x]"),
        "{said:?}"
    );
    let listed = get(&bob, ALICE, "<subscriptions/>").await;
    assert!(listed.contains("jid='bob@example.org/x'"), "{listed}");
    let listed = own(&alice, "get", "<subscriptions node='n'/>")
        .await
        .concat();
    assert!(listed.contains("jid='bob@example.org/x'"), "{listed}");
    // Whoever may not read it any more hears nothing, subscribed or not.
    let close = format!(
        "<configure node='n'>{}</configure>",
        form("node_config", &[("access_model", "whitelist")])
    );
    own(&alice, "set", &close).await;
    let said = set(&alice, &item("n", "c")).await;
    assert!(
        said[1].starts_with("event to [alice@example.org]"),
        "{said:?}"
    );
    let unsubscribe = subscribe.replace("<subscribe", "<unsubscribe");
    let said = iq(&bob, "set", ALICE, PUBSUB, &unsubscribe).await.concat();
    assert!(said.contains("type='result'"), "{said}");
}

#[tokio::test]
async fn pe_1_pe_17_nodes_are_discovered_by_those_who_may_read_them() {
    let node = edge().await;
    shows(&node, ALICE, BOB, &[]).await;
    let alice = session(&node, "alice@example.org/desk");
    set(&alice, &item("contacts", "a")).await;
    set(
        &alice,
        &(item("own", "a") + &options(&[("access_model", "whitelist")])),
    )
    .await;
    set(
        &alice,
        &(item("all", "a") + &options(&[("access_model", "open")])),
    )
    .await;
    let disco = async |jid: &str, what: &str, node_name: Option<&str>| {
        let ctx = session(&node, jid);
        let named = node_name
            .map(|name| format!(" node='{name}'"))
            .unwrap_or_default();
        let query = format!("<query xmlns='http://jabber.org/protocol/disco#{what}'{named}/>");
        says(
            &ctx,
            &format!("<iq type='get' id='i' to='{ALICE}'>{query}</iq>"),
        )
        .await
        .concat()
    };
    for (jid, nodes) in [
        ("alice@example.org/desk", &["all", "contacts", "own"][..]),
        ("bob@example.org/x", &["all", "contacts"]),
        ("carol@example.org/x", &[]),
    ] {
        let items = disco(jid, "items", None).await;
        assert_eq!(items.matches("<item ").count(), nodes.len(), "{items}");
        for node in nodes {
            assert!(items.contains(&format!("node='{node}'")), "{items}");
        }
    }
    let info = disco("bob@example.org/x", "info", None).await;
    assert!(info.contains("category='pubsub' type='pep'"), "{info}");
    assert!(info.contains("pubsub#publish-options'"), "{info}");
    let info = disco("carol@example.org/x", "info", Some("all")).await;
    assert!(info.contains("category='pubsub' type='leaf'"), "{info}");
    assert!(info.contains("pubsub#num_items"), "{info}");
    for node in ["own", "none"] {
        refused(
            &disco("bob@example.org/x", "info", Some(node)).await,
            "item-not-found",
            "",
        );
        refused(
            &disco("carol@example.org/x", "info", Some(node)).await,
            "service-unavailable",
            "",
        );
    }
    let items = disco("bob@example.org/x", "items", Some("contacts")).await;
    assert!(items.contains("name='a'"), "{items}");
}

/// What is published last for Bob's session, page by page: nodes, and how many pages.
async fn last(node: &Node, nodes: &[&str], owner: Option<BareJid>) -> (Vec<String>, usize) {
    let mut wanted = LastEvents {
        session: "bob@example.org/x".parse().unwrap(),
        nodes: nodes.iter().map(|node| (*node).into()).collect(),
        owner,
        after: None,
    };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        pages += 1;
        let relays = perform(node, pages as u64, Effect::LastEvents(wanted.clone())).await;
        let [Relay::LastEvents { events, rest, .. }] = &relays[..] else {
            panic!("{relays:?}")
        };
        for event in events {
            let from = event.packet.header.from.as_ref().unwrap();
            found.push(format!("{from} {}", event.node));
        }
        match rest {
            Some(rest) => wanted = rest.clone(),
            None => return (found, pages),
        }
    }
}

#[tokio::test]
async fn pe_9_what_was_published_last_by_those_who_are_seen() {
    let node = edge().await;
    shows(&node, ALICE, BOB, &[]).await;
    let (alice, bob) = (
        session(&node, "alice@example.org/d"),
        session(&node, "bob@example.org/x"),
    );
    let carol = session(&node, "carol@example.org/x");
    for name in ["a", "b", "c", "d", "unwanted"] {
        set(&alice, &item(name, "1")).await;
        set(&alice, &item(name, "2")).await;
    }
    let hidden = item("hidden", "1") + &options(&[("access_model", "whitelist")]);
    set(&alice, &hidden).await;
    set(&bob, &hidden).await;
    set(
        &carol,
        &(item("a", "1") + &options(&[("access_model", "open")])),
    )
    .await;
    let wanted = ["a", "b", "c", "d", "hidden"];
    let (found, pages) = last(&node, &wanted, None).await;
    let expect = ["a", "b", "c", "d"].map(|name| format!("{ALICE} {name}"));
    assert_eq!(found, [&expect[..], &[format!("{BOB} hidden")]].concat());
    assert_eq!(pages, 3);
    assert_eq!(last(&node, &["a"], Some(bare(ALICE))).await.0, expect[..1]);
    assert_eq!(
        last(&node, &["a"], Some(bare("carol@example.org"))).await.0,
        [""; 0]
    );
    // PE-19.
    let block = "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='bob@example.org'/></block></iq>";
    says(&alice, block).await;
    assert_eq!(
        last(&node, &wanted, None).await.0,
        [format!("{BOB} hidden")]
    );
    refused(
        &get(&bob, ALICE, "<items node='a'/>").await,
        "service-unavailable",
        "",
    );
}

#[tokio::test]
async fn pe_18_devices_and_what_was_displayed_are_kept_as_clients_ask_for_them() {
    let alice = session(&edge().await, "alice@example.org/desk");
    // OMEMO: everybody reads the keys, all bundles of one node.
    let open = options(&[
        ("access_model", "open"),
        ("max_items", "max"),
        ("persist_items", "true"),
    ]);
    for device in ["1", "2"] {
        set(&alice, &(item("urn:xmpp:omemo:2:bundles", device) + &open)).await;
    }
    let carol = {
        let edge = &alice.edge;
        SessionContext {
            session: "carol@example.org/x".parse().unwrap(),
            account: bare("carol@example.org"),
            edge: edge.clone(),
            ..alice.clone()
        }
    };
    let bundle = get(
        &carol,
        ALICE,
        "<items node='urn:xmpp:omemo:2:bundles'><item id='1'/></items>",
    )
    .await;
    assert!(
        bundle.contains("<item id='1'>") && !bundle.contains("id='2'"),
        "{bundle}"
    );
    // Displayed markers: one item for each chat, and nobody else's business.
    let own = options(&[
        ("access_model", "whitelist"),
        ("max_items", "max"),
        ("persist_items", "true"),
        ("send_last_published_item", "never"),
    ]);
    for chat in ["bob@example.org", "carol@example.org", "bob@example.org"] {
        let said = set(&alice, &(item("urn:xmpp:mds:displayed:0", chat) + &own)).await;
        assert!(
            said[1].starts_with("event to [alice@example.org]"),
            "{said:?}"
        );
    }
    let items = get(&alice, "", "<items node='urn:xmpp:mds:displayed:0'/>").await;
    assert_eq!(items.matches("<item ").count(), 2, "{items}");
    refused(
        &get(&carol, ALICE, "<items node='urn:xmpp:mds:displayed:0'/>").await,
        "not-allowed",
        "closed-node",
    );
}
