//! What clients are answered, who is told, and who may read.

mod told;

use crate::router::SessionContext;
use crate::router::testing::{Node, bare, edge, edge_with, says, session};
use crate::services::roster::settings::Quotas as RosterQuotas;
use crate::services::roster::storage::{Change, RosterItem, Subscription};

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.org";

/// Asks or changes, and returns the reply and what follows.
async fn iq(ctx: &SessionContext, kind: &str, to: &str, ns: &str, what: &str) -> Vec<String> {
    let to = match to.is_empty() {
        true => String::new(),
        false => format!(" to='{to}'"),
    };
    let iq = format!("<iq type='{kind}' id='i'{to}><pubsub xmlns='{ns}'>{what}</pubsub></iq>");
    says(ctx, &iq).await
}

async fn set(ctx: &SessionContext, what: &str) -> Vec<String> {
    iq(ctx, "set", "", PUBSUB, what).await
}

async fn get(ctx: &SessionContext, to: &str, what: &str) -> String {
    iq(ctx, "get", to, PUBSUB, what).await.concat()
}

async fn own(ctx: &SessionContext, kind: &str, what: &str) -> Vec<String> {
    iq(
        ctx,
        kind,
        "",
        "http://jabber.org/protocol/pubsub#owner",
        what,
    )
    .await
}

fn item(node: &str, id: &str) -> String {
    format!("<publish node='{node}'><item id='{id}'><m xmlns='urn:m'>{id}</m></item></publish>")
}

fn form(kind: &str, fields: &[(&str, &str)]) -> String {
    let mut xml = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>{PUBSUB}#{kind}</value></field>"
    );
    for (var, value) in fields {
        xml += &format!("<field var='pubsub#{var}'><value>{value}</value></field>");
    }
    xml + "</x>"
}

fn options(fields: &[(&str, &str)]) -> String {
    let form = form("publish-options", fields);
    format!("<publish-options>{form}</publish-options>")
}

/// The contact may see the account.
async fn shows(node: &Node, account: &str, contact: &str, groups: &[&str]) {
    for (account, contact, subscription) in [
        (account, contact, Subscription::From),
        (contact, account, Subscription::To),
    ] {
        let (account, contact) = (bare(account), bare(contact));
        let update =
            node.storage
                .update_contact(RosterQuotas::default(), &account, &contact, None, |_| {
                    let mut item = RosterItem::new(contact.clone());
                    item.listed = true;
                    item.subscription = subscription;
                    item.groups = groups.iter().map(|group| (*group).to_owned()).collect();
                    Change::Put(item)
                });
        update.await.unwrap();
    }
}

#[track_caller]
fn refused(said: &str, condition: &str, detail: &str) {
    assert!(
        said.contains(&format!("<{condition} ")),
        "{condition}: {said}"
    );
    assert!(
        detail.is_empty() || said.contains(&format!("<{detail} ")),
        "{detail}: {said}"
    );
}

#[tokio::test]
async fn pe_3_pe_6_pe_8_a_node_is_made_by_the_first_item_and_contacts_are_told() {
    let node = edge().await;
    shows(&node, ALICE, BOB, &[]).await;
    let alice = session(&node, "alice@example.org/desk");
    let said = set(&alice, &item("n", "a")).await;
    assert!(
        said[0].contains("<publish node='n'><item id='a'/></publish>"),
        "{said:?}"
    );
    let event = format!(
        "<event xmlns='{PUBSUB}#event'><items node='n'><item id='a'><m xmlns='urn:m'>a</m></item></items></event>"
    );
    assert!(
        said[1].starts_with("event to [alice@example.org bob@example.org]: <message "),
        "{said:?}"
    );
    assert!(
        said[1].contains(&event) && said[1].contains("type='headline'"),
        "{said:?}"
    );
    let bob = session(&node, "bob@example.org/x");
    let items = get(&bob, ALICE, "<items node='n'/>").await;
    assert!(
        items.contains("<item id='a'><m xmlns='urn:m'>a</m></item>"),
        "{items}"
    );
    // Without an id it gets one, which is the same when the request is made again.
    let publish = "<publish node='n'><item><m xmlns='urn:m'/></item></publish>";
    let first = set(&alice, publish).await;
    assert_eq!(set(&alice, publish).await, first);
    assert!(first[0].contains("<item id='"), "{first:?}");
}

/// A refusal: its condition and what says more.
type Refusal = (&'static str, &'static str);

/// What a friend and a stranger hear of a node with this access model.
const ACCESS: [(&str, Option<Refusal>, Option<Refusal>); 4] = [
    ("open", None, None),
    (
        "presence",
        None,
        Some(("not-authorized", "presence-subscription-required")),
    ),
    (
        "roster",
        None,
        Some(("not-authorized", "not-in-roster-group")),
    ),
    (
        "whitelist",
        Some(("not-allowed", "closed-node")),
        Some(("not-allowed", "closed-node")),
    ),
];

#[tokio::test]
async fn pe_13_who_may_read_what() {
    let node = edge().await;
    shows(&node, ALICE, BOB, &["Friends"]).await;
    let alice = session(&node, "alice@example.org/desk");
    let (bob, carol) = (
        session(&node, "bob@example.org/x"),
        session(&node, "carol@example.org/x"),
    );
    for (access, friend, stranger) in ACCESS {
        let fields = [
            ("access_model", access),
            ("roster_groups_allowed", "Friends"),
        ];
        let what = item(access, "a") + &options(&fields);
        let said = set(&alice, &what).await;
        let told = said[1].contains("bob@example.org");
        assert_eq!(told, friend.is_none(), "{access}: {said:?}");
        for (who, expect) in [(&bob, friend), (&carol, stranger)] {
            for ask in ["items", "subscribe"] {
                let (kind, what) = match ask {
                    "items" => ("get", format!("<items node='{access}'/>")),
                    _ => (
                        "set",
                        format!("<subscribe node='{access}' jid='{}'/>", who.session),
                    ),
                };
                let answer = iq(who, kind, ALICE, PUBSUB, &what).await.concat();
                match expect {
                    None => assert!(answer.contains("type='result'"), "{access}: {answer}"),
                    Some((condition, detail)) => refused(&answer, condition, detail),
                }
            }
        }
        let list = |jid: &str, what: &str| {
            format!(
                "<affiliations node='{access}'><affiliation jid='{jid}' affiliation='{what}'/></affiliations>"
            )
        };
        own(&alice, "set", &list("bob@example.org", "outcast")).await;
        own(&alice, "set", &list("carol@example.org", "member")).await;
        let items = format!("<items node='{access}'/>");
        refused(&get(&bob, ALICE, &items).await, "forbidden", "");
        let answer = get(&carol, ALICE, &items).await;
        assert!(answer.contains("<item id='a'>"), "{answer}");
        let said = set(&alice, &item(access, "b")).await;
        assert!(!said[1].contains("bob@example.org"), "{access}: {said:?}");
    }
}

#[tokio::test]
async fn pe_4_a_node_that_is_not_as_it_should_be_gets_nothing() {
    let alice = session(&edge().await, "alice@example.org/desk");
    set(
        &alice,
        &(item("n", "a") + &options(&[("access_model", "open")])),
    )
    .await;
    for fields in [[("access_model", "whitelist")], [("unheard_of", "1")]] {
        let said = set(&alice, &(item("n", "b") + &options(&fields))).await;
        assert_eq!(said.len(), 1);
        refused(&said[0], "conflict", "precondition-not-met");
    }
    let other = form("node_config", &[("access_model", "open")]);
    let other = format!("<publish-options>{other}</publish-options>");
    refused(
        &set(&alice, &(item("n", "b") + &other)).await.concat(),
        "bad-request",
        "",
    );
    let items = get(&alice, "", "<items node='n'/>").await;
    assert!(
        items.contains("<item id='a'>") && !items.contains("id='b'"),
        "{items}"
    );
}

#[tokio::test]
async fn pe_2_pe_14_nobody_changes_the_nodes_of_others() {
    let node = edge().await;
    shows(&node, ALICE, BOB, &[]).await;
    let alice = session(&node, "alice@example.org/desk");
    set(&alice, &item("n", "a")).await;
    let bob = session(&node, "bob@example.org/x");
    let owner = "http://jabber.org/protocol/pubsub#owner";
    for (kind, ns, what) in [
        ("set", PUBSUB, item("n", "b")),
        (
            "set",
            PUBSUB,
            "<retract node='n'><item id='a'/></retract>".into(),
        ),
        ("set", PUBSUB, "<create node='m'/>".into()),
        ("set", owner, "<delete node='n'/>".into()),
        ("set", owner, "<purge node='n'/>".into()),
        ("set", owner, "<configure node='n'/>".into()),
        ("set", owner, "<affiliations node='n'/>".into()),
        ("set", owner, "<subscriptions node='n'/>".into()),
        ("get", owner, "<configure node='n'/>".into()),
        ("get", owner, "<affiliations node='n'/>".into()),
        ("get", owner, "<subscriptions node='n'/>".into()),
    ] {
        refused(
            &iq(&bob, kind, ALICE, ns, &what).await.concat(),
            "forbidden",
            "",
        );
    }
    for ask in ["items", "subscribe"] {
        let (kind, what) = match ask {
            "items" => ("get", "<items node='n'/>".to_owned()),
            _ => (
                "set",
                format!("<subscribe node='n' jid='{}'/>", bob.session),
            ),
        };
        let said = iq(&bob, kind, "nobody@example.org", PUBSUB, &what)
            .await
            .concat();
        refused(&said, "service-unavailable", "");
    }
}

/// What a client may say, and what it hears then.
const WRONG: [(&str, &str, &str); 12] = [
    (
        "<publish><item/></publish>",
        "bad-request",
        "nodeid-required",
    ),
    ("<publish node='n'/>", "bad-request", "item-required"),
    (
        "<publish node='n'><item/><item/></publish>",
        "not-allowed",
        "max-items-exceeded",
    ),
    (
        "<publish node='n'><item><a xmlns='u'/><b xmlns='u'/></item></publish>",
        "bad-request",
        "invalid-payload",
    ),
    (
        "<publish node='n'><item/></publish>",
        "bad-request",
        "payload-required",
    ),
    ("<retract node='n'/>", "bad-request", "item-required"),
    (
        "<retract node='n'><item id='x'/></retract>",
        "item-not-found",
        "",
    ),
    (
        "<retract node='m'><item id='x'/></retract>",
        "item-not-found",
        "",
    ),
    ("<create node='n'/>", "conflict", ""),
    (
        "<subscribe node='n' jid='bob@example.org'/>",
        "bad-request",
        "invalid-jid",
    ),
    (
        "<unsubscribe node='n' jid='alice@example.org'/>",
        "unexpected-request",
        "not-subscribed",
    ),
    (
        "<unheard xmlns='http://jabber.org/protocol/pubsub'/>",
        "feature-not-implemented",
        "",
    ),
];

#[tokio::test]
async fn pe_14_pe_15_pe_16_what_is_wrong_is_said() {
    let alice = session(
        &edge_with(&["quotas.pubsub_item_bytes=1000"]).await,
        "alice@example.org/desk",
    );
    set(&alice, &item("n", "a")).await;
    let long = format!(
        "<publish node='n'><item><m xmlns='urn:m'>{}</m></item></publish>",
        "x".repeat(1_000)
    );
    let too_long = (&*long, "not-acceptable", "payload-too-big");
    for (what, condition, detail) in WRONG.into_iter().chain([too_long]) {
        refused(&set(&alice, what).await.concat(), condition, detail);
    }
    for (what, condition) in [
        ("<delete node='m'/>", "item-not-found"),
        ("<purge node='m'/>", "item-not-found"),
        ("<configure/>", "bad-request"),
    ] {
        refused(&own(&alice, "set", what).await.concat(), condition, "");
    }
    refused(
        &get(&alice, "", "<items node='m'/>").await,
        "item-not-found",
        "",
    );
    refused(
        &get(&alice, "", "<items node='n'><item id='x'/></items>").await,
        "item-not-found",
        "",
    );
}

#[tokio::test]
async fn pe_14_a_node_is_made_configured_emptied_and_deleted() {
    let alice = session(&edge().await, "alice@example.org/desk");
    let fields = [
        ("max_items", "max"),
        ("notify_retract", "1"),
        ("notify_config", "true"),
    ];
    let configure = form("node_config", &fields);
    let create = format!("<create node='n'/><configure>{configure}</configure>");
    assert!(
        set(&alice, &create)
            .await
            .concat()
            .contains("type='result'")
    );
    for id in ["a", "b"] {
        set(&alice, &item("n", id)).await;
    }
    let items = get(&alice, "", "<items node='n' max_items='1'/>").await;
    assert!(
        items.contains("id='b'") && !items.contains("<item id='a'"),
        "{items}"
    );
    assert!(items.contains("<count>2</count>"), "{items}");
    let said = set(&alice, "<retract node='n'><item id='b'/></retract>").await;
    assert!(said[1].contains("<retract id='b'/>"), "{said:?}");
    let open = format!(
        "<configure node='n'>{}</configure>",
        form("node_config", &[("access_model", "open")])
    );
    let said = own(&alice, "set", &open).await;
    assert!(said[1].contains("<configuration node='n'/>"), "{said:?}");
    let config = own(&alice, "get", "<configure node='n'/>").await.concat();
    for part in ["<value>open</value>", "<value>max</value>"] {
        assert!(config.contains(part), "{config}");
    }
    let said = own(&alice, "set", "<purge node='n'/>").await;
    assert!(said[1].contains("<purge node='n'/>"), "{said:?}");
    let said = own(&alice, "set", "<delete node='n'/>").await;
    assert!(said[1].contains("<delete node='n'/>"), "{said:?}");
    refused(
        &get(&alice, "", "<items node='n'/>").await,
        "item-not-found",
        "",
    );
}
