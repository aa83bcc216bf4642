//! Each feature of publish-subscribe that accounts announce is tried out, and what is not announced is refused (PE-1).

use std::collections::BTreeSet;

use proto::{Element, ns};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::contact::befriend;
use tests::pep::{ask, hears, publish, read, show_and_tell};

use super::{ask_info, disco};

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const PREFIX: &str = "http://jabber.org/protocol/pubsub#";

/// Which features have been tried.
#[derive(Default)]
struct Tried(BTreeSet<String>);

impl Tried {
    /// Whatever comes before this shows these features.
    fn note(&mut self, features: &[&str]) {
        for feature in features {
            let uri = feature.strip_prefix(PREFIX).expect("a feature");
            self.0.insert(uri.to_owned());
        }
    }
}

fn form(kind: &str, fields: &[(&str, &str)]) -> String {
    let mut form = format!(
        "<x xmlns='{}' type='submit'><field var='FORM_TYPE'><value>{PREFIX}{kind}</value></field>",
        ns::DATA_FORM
    );
    for (var, value) in fields {
        form += &format!("<field var='pubsub#{var}'><value>{value}</value></field>");
    }
    form + "</x>"
}

/// What must be granted; its content.
async fn granted(client: &mut Client, kind: &str, ns: &'static str, what: &str) -> Element {
    let answer = ask(client, kind, ALICE, ns, what).await;
    assert_eq!(answer.attr("type"), Some("result"), "{what}: {answer:?}");
    let pubsub = answer.child("pubsub", ns).cloned();
    pubsub.unwrap_or_else(|| Element::new("pubsub", ns))
}

async fn owner(client: &mut Client, kind: &str, what: &str) -> Element {
    granted(client, kind, ns::PUBSUB_OWNER, what).await
}

#[tokio::test]
async fn pe_1_each_feature_of_nodes_is_there() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let mut carol = cluster.client(0, "carol").await;
    befriend(&mut alice, &mut bob).await;
    let mut tried = Tried::default();
    made_and_configured(&mut alice, &mut tried).await;
    filled_and_emptied(&mut alice, &mut tried).await;
    read_by_whom(&mut alice, &mut bob, &mut carol, &mut tried).await;
    told_to_whom(&mut alice, &mut bob, &mut carol, &mut tried).await;
    let announced = disco(&ask_info(&mut alice, ALICE).await);
    let announced = announced.iter().filter_map(|it| it.strip_prefix(PREFIX));
    let announced: BTreeSet<String> = announced.map(str::to_owned).collect();
    assert_eq!(tried.0, announced);
}

async fn made_and_configured(alice: &mut Client, tried: &mut Tried) {
    let config = form(
        "node_config",
        &[("max_items", "max"), ("access_model", "open")],
    );
    let create = format!("<create node='urn:made'/><configure>{config}</configure>");
    granted(alice, "set", ns::PUBSUB, &create).await;
    let configured = owner(alice, "get", "<configure node='urn:made'/>").await;
    let text = configured.to_xml("");
    assert!(text.contains("<value>max</value>"), "{text}");
    tried.note(&[
        "http://jabber.org/protocol/pubsub#create-nodes",
        "http://jabber.org/protocol/pubsub#create-and-configure",
        "http://jabber.org/protocol/pubsub#config-node-max",
    ]);
    let created = granted(alice, "set", ns::PUBSUB, "<create/>").await;
    let create = created.child("create", ns::PUBSUB).expect("its name");
    assert!(create.attr("node").is_some_and(|node| !node.is_empty()));
    tried.note(&["http://jabber.org/protocol/pubsub#instant-nodes"]);
    let config = form("node_config", &[("title", "A title"), ("max_items", "10")]);
    let configure = format!("<configure node='urn:made'>{config}</configure>");
    owner(alice, "set", &configure).await;
    let query = format!("<query xmlns='{}' node='urn:made'/>", ns::DISCO_INFO);
    let iq = format!("<iq type='get' id='meta' to='{ALICE}'>{query}</iq>");
    let info = alice.request(&iq, "meta").await.unwrap().to_xml("");
    assert!(
        info.contains("#meta-data") && info.contains("A title"),
        "{info}"
    );
    tried.note(&[
        "http://jabber.org/protocol/pubsub#config-node",
        "http://jabber.org/protocol/pubsub#meta-data",
    ]);
    for (ns, what) in [(ns::PUBSUB_OWNER, "<default/>"), (ns::PUBSUB, "<default/>")] {
        let default = granted(alice, "get", ns, what).await.to_xml("");
        assert!(default.contains("pubsub#access_model"), "{default}");
    }
    tried.note(&["http://jabber.org/protocol/pubsub#retrieve-default"]);
}

async fn filled_and_emptied(alice: &mut Client, tried: &mut Tried) {
    for id in ["a", "b", "c"] {
        publish(alice, "urn:made", id, id, &[]).await;
    }
    assert_eq!(read(alice, ALICE, "urn:made").await, ["c", "b", "a"]);
    let one = "<items node='urn:made'><item id='b'/></items>";
    let found = granted(alice, "get", ns::PUBSUB, one).await.to_xml("");
    assert!(
        found.contains("id='b'") && !found.contains("id='a'"),
        "{found}"
    );
    let paged = format!(
        "<items node='urn:made'/><set xmlns='{}'><max>1</max><after>c</after></set>",
        ns::RSM
    );
    let found = granted(alice, "get", ns::PUBSUB, &paged).await;
    assert!(found.child("set", ns::RSM).is_some(), "{found:?}");
    assert!(found.to_xml("").contains("id='b'"), "{found:?}");
    tried.note(&[
        "http://jabber.org/protocol/pubsub#publish",
        "http://jabber.org/protocol/pubsub#item-ids",
        "http://jabber.org/protocol/pubsub#multi-items",
        "http://jabber.org/protocol/pubsub#persistent-items",
        "http://jabber.org/protocol/pubsub#retrieve-items",
        "http://jabber.org/protocol/pubsub#rsm",
    ]);
    let retract = "<retract node='urn:made'><item id='b'/></retract>";
    granted(alice, "set", ns::PUBSUB, retract).await;
    assert_eq!(read(alice, ALICE, "urn:made").await, ["c", "a"]);
    owner(alice, "set", "<purge node='urn:made'/>").await;
    assert!(read(alice, ALICE, "urn:made").await.is_empty());
    owner(alice, "set", "<delete node='urn:made'/>").await;
    assert_eq!(read(alice, ALICE, "urn:made").await, ["item-not-found"]);
    tried.note(&[
        "http://jabber.org/protocol/pubsub#delete-items",
        "http://jabber.org/protocol/pubsub#retract-items",
        "http://jabber.org/protocol/pubsub#purge-nodes",
        "http://jabber.org/protocol/pubsub#delete-nodes",
    ]);
    publish(alice, "urn:auto", "a", "a", &[("access_model", "open")]).await;
    let options = form("publish-options", &[("access_model", "whitelist")]);
    let other = format!(
        "<publish node='urn:auto'><item id='b'><x xmlns='urn:x'/></item></publish>\
         <publish-options>{options}</publish-options>"
    );
    let refused = ask(alice, "set", ALICE, ns::PUBSUB, &other).await;
    assert!(
        refused.to_xml("").contains("precondition-not-met"),
        "{refused:?}"
    );
    tried.note(&[
        "http://jabber.org/protocol/pubsub#auto-create",
        "http://jabber.org/protocol/pubsub#publish-options",
    ]);
}

/// Which of the nodes each of them may read.
async fn read_by_whom(alice: &mut Client, bob: &mut Client, carol: &mut Client, tried: &mut Tried) {
    let group = format!(
        "<iq type='set' id='group'><query xmlns='{}'><item jid='{BOB}'><group>Friends</group></item></query></iq>",
        ns::ROSTER
    );
    alice.request(&group, "group").await.unwrap();
    for (access, friend, stranger) in [
        ("open", true, true),
        ("presence", true, false),
        ("roster", true, false),
        ("whitelist", false, false),
    ] {
        let node = format!("urn:access:{access}");
        let options = [
            ("access_model", access),
            ("roster_groups_allowed", "Friends"),
        ];
        publish(alice, &node, "a", "text", &options).await;
        for (client, may) in [(&mut *bob, friend), (&mut *carol, stranger)] {
            let may_read = read(client, ALICE, &node).await == ["text"];
            assert_eq!(may_read, may, "{} {access}", client.user);
        }
    }
    tried.note(&[
        "http://jabber.org/protocol/pubsub#access-open",
        "http://jabber.org/protocol/pubsub#access-presence",
        "http://jabber.org/protocol/pubsub#access-roster",
        "http://jabber.org/protocol/pubsub#access-whitelist",
    ]);
    let affiliate = |jid: &str, what: &str| {
        format!(
            "<affiliations node='urn:access:whitelist'><affiliation jid='{jid}' affiliation='{what}'/></affiliations>"
        )
    };
    owner(alice, "set", &affiliate("carol@localhost", "member")).await;
    assert_eq!(read(carol, ALICE, "urn:access:whitelist").await, ["text"]);
    let outcast = affiliate(BOB, "outcast").replace("whitelist", "open");
    owner(alice, "set", &outcast).await;
    assert_eq!(read(bob, ALICE, "urn:access:open").await, ["forbidden"]);
    let known = owner(alice, "get", "<affiliations node='urn:access:open'/>").await;
    assert!(known.to_xml("").contains("outcast"), "{known:?}");
    let own = granted(carol, "get", ns::PUBSUB, "<affiliations/>").await;
    assert!(own.to_xml("").contains("member"), "{own:?}");
    tried.note(&[
        "http://jabber.org/protocol/pubsub#member-affiliation",
        "http://jabber.org/protocol/pubsub#outcast-affiliation",
        "http://jabber.org/protocol/pubsub#modify-affiliations",
        "http://jabber.org/protocol/pubsub#retrieve-affiliations",
    ]);
}

async fn told_to_whom(alice: &mut Client, bob: &mut Client, carol: &mut Client, tried: &mut Tried) {
    // A friend hears without having subscribed, and only what its client wants to hear.
    publish(alice, "urn:wanted", "a", "last", &[]).await;
    show_and_tell(bob, "urn:wanted").await;
    hears(bob, &[(ALICE, "urn:wanted", "last")]).await;
    publish(alice, "urn:unwanted", "a", "unheard", &[]).await;
    publish(alice, "urn:wanted", "a", "next", &[]).await;
    hears(bob, &[(ALICE, "urn:wanted", "next")]).await;
    tried.note(&[
        "http://jabber.org/protocol/pubsub#auto-subscribe",
        "http://jabber.org/protocol/pubsub#filtered-notifications",
        "http://jabber.org/protocol/pubsub#last-published",
        "http://jabber.org/protocol/pubsub#presence-notifications",
        "http://jabber.org/protocol/pubsub#presence-subscribe",
    ]);
    // A stranger hears once it has subscribed.
    let open = [("access_model", "open")];
    publish(alice, "urn:news", "a", "old", &open).await;
    let subscribe = "<subscribe node='urn:news' jid='carol@localhost'/>";
    granted(carol, "set", ns::PUBSUB, subscribe).await;
    hears(carol, &[(ALICE, "urn:news", "old")]).await;
    publish(alice, "urn:news", "a", "new", &[]).await;
    hears(carol, &[(ALICE, "urn:news", "new")]).await;
    let own = granted(carol, "get", ns::PUBSUB, "<subscriptions/>").await;
    assert!(own.to_xml("").contains("urn:news"), "{own:?}");
    let known = owner(alice, "get", "<subscriptions node='urn:news'/>").await;
    assert!(known.to_xml("").contains("carol@localhost"), "{known:?}");
    let end = "<subscriptions node='urn:news'>\
        <subscription jid='carol@localhost' subscription='none'/></subscriptions>";
    owner(alice, "set", end).await;
    publish(alice, "urn:news", "a", "unheard", &[]).await;
    alice.settle().await.unwrap();
    carol.check_nothing_more().await;
    tried.note(&[
        "http://jabber.org/protocol/pubsub#subscribe",
        "http://jabber.org/protocol/pubsub#retrieve-subscriptions",
        "http://jabber.org/protocol/pubsub#manage-subscriptions",
    ]);
}

/// What other servers announce, and how it would be asked for.
const REFUSED: [(&str, &str, &str, &str); 6] = [
    (
        "access-authorize",
        "set",
        ns::PUBSUB,
        "<create node='urn:refused'/><configure><x xmlns='jabber:x:data' type='submit'>\
         <field var='pubsub#access_model'><value>authorize</value></field></x></configure>",
    ),
    (
        "collections",
        "set",
        ns::PUBSUB,
        "<create node='urn:refused'/><configure><x xmlns='jabber:x:data' type='submit'>\
         <field var='pubsub#node_type'><value>collection</value></field></x></configure>",
    ),
    (
        "publisher-affiliation",
        "set",
        ns::PUBSUB_OWNER,
        "<affiliations node='urn:there'><affiliation jid='bob@localhost' affiliation='publisher'/></affiliations>",
    ),
    (
        "publish-only-affiliation",
        "set",
        ns::PUBSUB_OWNER,
        "<affiliations node='urn:there'><affiliation jid='bob@localhost' affiliation='publish-only'/></affiliations>",
    ),
    (
        "subscription-options",
        "get",
        ns::PUBSUB,
        "<options node='urn:there' jid='alice@localhost'/>",
    ),
    (
        "get-pending",
        "set",
        ns::PUBSUB_OWNER,
        "<subscriptions node='urn:there'><subscription jid='bob@localhost' subscription='pending'/></subscriptions>",
    ),
];

#[tokio::test]
async fn pe_1_what_nodes_do_not_announce_is_refused() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    publish(&mut alice, "urn:there", "a", "a", &[]).await;
    let announced = disco(&ask_info(&mut alice, ALICE).await);
    for (feature, kind, ns, what) in REFUSED {
        let uri = format!("{PREFIX}{feature}");
        assert!(!announced.contains(&uri), "{uri}");
        let answer = ask(&mut alice, kind, ALICE, ns, what).await;
        assert_eq!(answer.attr("type"), Some("error"), "{feature}: {answer:?}");
    }
}
