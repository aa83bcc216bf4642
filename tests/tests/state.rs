//! What a session is, besides its queue, goes with it to the node where it is resumed (SM-39, SM-55 to SM-57).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::{Element, ns};
use tests::client::{Client, body, numbered};
use tests::cluster::Cluster;
use tests::contact::{await_presence, befriend};
use tests::{PATIENCE, archive};

const BOB: &str = "bob@localhost";
const DESK: &str = "bob@localhost/desk";
const CAROL: &str = "carol@localhost/desk";
/// What the desk says of itself, to contacts and to whom it chose.
const ABOUT: &str = "<show>dnd</show><status>at work</status><priority>7</priority>\
     <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example' \
     ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>";

/// The node that dies.
const DOOMED: usize = 1;

async fn connected(cluster: &Cluster, node: usize, user: &str, resource: &str) -> Client {
    let address = cluster.address(node);
    let client = Client::connected(address, cluster.tls(), user, resource, 0).await;
    client.unwrap_or_else(|end| panic!("{user}/{resource} cannot connect: {end}"))
}

async fn ask(client: &mut Client, kind: &str, payload: &str) {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='{kind}' id='{id}'>{payload}</iq>");
    let answer = client.request(&iq, &id).await.unwrap();
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

async fn carbons(client: &mut Client) {
    ask(client, "set", &format!("<enable xmlns='{}'/>", ns::CARBONS)).await;
}

async fn inactive(client: &mut Client) {
    let inactive = format!("<inactive xmlns='{}'/>", ns::CSI);
    client.wire.send(&inactive).await.unwrap();
}

/// Nothing has come but the answer to the question whether something has.
async fn check_quiet(client: &mut Client) {
    let before = client.handled;
    client.check_nothing_more().await;
    assert_eq!(client.presences(), [], "{}", client.jid);
    assert_eq!(client.handled, before + 1, "something came");
}

/// Everybody is there. Alice and bob see each other, and nobody else sees anybody. Of bob's sessions one is
/// what the test is about, one never gets a message for the account, and one would get it if the first
/// did not come before it. The first two lose their node.
struct People {
    desk: Client,
    tablet: Client,
    phone: Client,
    alice: Client,
    carol: Client,
    service: Client,
    /// What alice has seen of the desk.
    seen: Element,
}

impl People {
    async fn meet(cluster: &Cluster) -> Self {
        let mut alice = cluster.client(0, "alice").await;
        let carol = cluster.client(0, "carol").await;
        let mut service = cluster.client(2, "service").await;
        // Whoever has its presence may ask it: else no push would reach this session (IM-D).
        service.send("<presence to='bob@localhost'/>").await;
        service.settle().await.unwrap();
        let mut phone = connected(cluster, 2, "bob", "phone").await;
        let low = "<presence><priority>3</priority></presence>";
        phone.send(low).await;
        befriend(&mut alice, &mut phone).await;
        let mut tablet = connected(cluster, DOOMED, "bob", "tablet").await;
        carbons(&mut tablet).await;
        let negative = "<presence><priority>-1</priority></presence>";
        tablet.send(negative).await;
        await_presence(&mut tablet, None, "alice@localhost/desk").await;
        await_presence(&mut alice, None, "bob@localhost/tablet").await;
        let desk = connected(cluster, DOOMED, "bob", "desk").await;
        let mut people = Self {
            desk,
            tablet,
            phone,
            alice,
            carol,
            service,
            seen: Element::new("presence", ns::CLIENT),
        };
        people.settle_in().await;
        people
    }

    /// The desk gets all the state that a session can have.
    async fn settle_in(&mut self) {
        let desk = &mut self.desk;
        carbons(desk).await;
        ask(desk, "get", &format!("<query xmlns='{}'/>", ns::ROSTER)).await;
        let push = format!(
            "<enable xmlns='{}' jid='service@localhost/desk' node='desk'/>",
            ns::PUSH
        );
        ask(desk, "set", &push).await;
        archive::page(desk, &[], "<max>5</max>").await.unwrap();
        desk.send(&format!("<presence>{ABOUT}</presence>")).await;
        desk.send(&format!("<presence to='{CAROL}'>{ABOUT}</presence>"))
            .await;
        await_presence(desk, None, "alice@localhost/desk").await;
        inactive(desk).await;
        await_presence(&mut self.carol, None, DESK).await;
        self.seen = await_presence(&mut self.alice, None, DESK).await;
        let caps = self.seen.elements().any(|child| child.local() == "c");
        assert!(caps, "{:?}", self.seen);
        for client in [
            &mut self.desk,
            &mut self.tablet,
            &mut self.phone,
            &mut self.alice,
            &mut self.carol,
        ] {
            client.check_nothing_more().await;
            client.presences();
        }
    }

    /// Every session with carbons has a copy of what went to another, and the message has the kept
    /// priorities to go by.
    async fn check_messages(&mut self) {
        let (desk, tablet, phone) = (&mut self.desk, &mut self.tablet, &mut self.phone);
        self.alice.say("bob@localhost/phone", "private").await;
        phone.expect(["private".to_owned()]).await;
        assert_eq!(carbon(desk).await, "private", "SM-57");
        assert_eq!(carbon(tablet).await, "private", "SM-57");
        self.alice.say(BOB, "for bob").await;
        desk.expect(["for bob".to_owned()]).await;
        assert_eq!(carbon(tablet).await, "for bob", "IM-40, SM-39");
        phone.check_nothing_more().await;
    }

    async fn check_roster_push(&mut self) {
        let item = format!(
            "<query xmlns='{}'><item jid='dave@localhost' name='Dave'/></query>",
            ns::ROSTER
        );
        ask(&mut self.phone, "set", &item).await;
        loop {
            let stanza = self.desk.stanza().await.unwrap();
            if let Some(query) = stanza.child("query", ns::ROSTER) {
                let item = query.child("item", ns::ROSTER).expect("an item");
                assert_eq!(item.attr("jid"), Some("dave@localhost"));
                return;
            }
        }
    }

    /// Alice has seen nothing of it all, and who asks sees what was to be seen before.
    async fn check_presence(&mut self) {
        check_quiet(&mut self.alice).await;
        check_quiet(&mut self.carol).await;
        let probe = format!("<presence type='probe' to='{BOB}'/>");
        self.alice.send(&probe).await;
        let now = await_presence(&mut self.alice, None, DESK).await;
        let what = |presence: &Element| presence.elements().cloned().collect::<Vec<_>>();
        assert_eq!(what(&now), what(&self.seen), "SM-57");
        // It is not the first presence of a session any more: nothing comes of it.
        self.desk
            .send(&format!("<presence>{ABOUT}</presence>"))
            .await;
        await_presence(&mut self.alice, None, DESK).await;
        self.alice.say(DESK, "seen").await;
        self.desk.expect(["seen".to_owned()]).await;
        assert_eq!(self.desk.presences(), [], "SM-55");
    }

    /// When the desk is away again it is woken as it wished before it lost its node.
    async fn check_push(&mut self) {
        self.desk.wire.cut();
        // Until the server sees that the connection is gone, nobody needs waking.
        for _ in 0..PATIENCE.as_secs() {
            self.alice.say(DESK, "wake up").await;
            if let Ok(stanza) =
                tokio::time::timeout(Duration::from_secs(1), self.service.stanza()).await
            {
                let stanza = stanza.unwrap();
                let pubsub = stanza.child("pubsub", ns::PUBSUB);
                let publish = pubsub.and_then(|pubsub| pubsub.child("publish", ns::PUBSUB));
                assert_eq!(publish.unwrap().attr("node"), Some("desk"), "{stanza:?}");
                return;
            }
        }
        panic!("SM-57: nobody wakes the desk");
    }

    /// The session is over: those who see it, and who was told of it by name, are told that once.
    async fn check_end(mut self) {
        self.desk.close().await.unwrap();
        for told in [&mut self.carol, &mut self.alice] {
            let address = told.jid.to_string();
            self.phone.say(&address, "is he gone?").await;
            await_presence(told, Some("unavailable"), DESK).await;
            told.expect(["is he gone?".to_owned()]).await;
            check_quiet(told).await;
        }
    }
}

/// The text of the next message, which must be a carbon.
async fn carbon(client: &mut Client) -> String {
    let message = client.message_element().await.unwrap();
    let forwarded = message
        .child("received", ns::CARBONS)
        .and_then(|received| received.child("forwarded", ns::FORWARD));
    let forwarded = forwarded.unwrap_or_else(|| panic!("no carbon: {message:?}"));
    forwarded.child("message", ns::CLIENT).map(body).unwrap()
}

#[tokio::test]
async fn sm_39_sm_55_sm_57_a_session_is_the_same_on_another_node() {
    let users = ["alice", "bob", "carol", "service"];
    let mut cluster = Cluster::start(3, &users, "").await;
    let mut people = People::meet(&cluster).await;
    cluster.kill(DOOMED);
    people.desk.resume(cluster.address(0)).await;
    people.tablet.resume(cluster.address(2)).await;
    check_quiet(&mut people.desk).await;
    check_quiet(&mut people.tablet).await;
    people.check_messages().await;
    people.check_roster_push().await;
    people.check_presence().await;
    people.check_push().await;
    people.desk.resume(cluster.address(2)).await;
    people.check_end().await;
}

#[tokio::test]
async fn sm_57_im_63_who_read_the_archive_is_not_sent_it_after_a_resume() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    for text in numbered("missed", 0..5) {
        alice.say(BOB, &text).await;
    }
    alice.settle().await.unwrap();
    let mut bob = connected(&cluster, DOOMED, "bob", "desk").await;
    let read = archive::all_behind(&mut bob, None).await.unwrap();
    let read: Vec<_> = read.into_iter().map(|entry| entry.body).collect();
    assert_eq!(read, numbered("missed", 0..5));
    bob.settle().await.unwrap();
    cluster.kill(DOOMED);
    bob.resume(cluster.address(2)).await;
    alice.say(BOB, "new").await;
    alice.settle().await.unwrap();
    bob.become_available().await.unwrap();
    // This one came when the archive had been read: it is delivered, and nothing before it.
    bob.expect(["new".to_owned()]).await;
    bob.check_nothing_more().await;
}

/// Whether the client is asked to acknowledge right behind a message, as one is whose radio shall sleep.
async fn is_asked_at_once(alice: &mut Client, bob: &mut Client) -> bool {
    alice.say(DESK, "hello").await;
    while bob.wire.next().await.unwrap().local() != "message" {}
    bob.handled += 1;
    let ping = format!("<iq type='get' id='p'><ping xmlns='{}'/></iq>", ns::PING);
    bob.send(&ping).await;
    let mut asked = false;
    loop {
        let element = bob.wire.next().await.unwrap();
        asked |= element.local() == "r";
        if element.local() == "iq" {
            bob.handled += 1;
            bob.acknowledge().await.unwrap();
            return asked;
        }
    }
}

#[tokio::test]
async fn sm_56_a_resumed_client_is_active() {
    let extra = "[sm]\nmax_unacked_stanzas = 100\n";
    let mut cluster = Cluster::start(3, &["alice", "bob"], extra).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(DOOMED, "bob").await;
    assert!(!is_asked_at_once(&mut alice, &mut bob).await);
    inactive(&mut bob).await;
    assert!(is_asked_at_once(&mut alice, &mut bob).await);
    bob.settle().await.unwrap();
    cluster.kill(DOOMED);
    bob.resume(cluster.address(2)).await;
    assert!(!is_asked_at_once(&mut alice, &mut bob).await);
    bob.settle().await.unwrap();
}
