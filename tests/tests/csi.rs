//! Clients that nobody looks at (XEP-0352) over real processes: what can wait waits, in its order, wherever the
//! session goes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::sasl::Mechanism;
use proto::{Element, ns};
use tests::client::{Client, PASSWORD, body};
use tests::cluster::Cluster;
use tests::contact::{await_presence, befriend};
use tests::sasl2::{Device, identity};
use tests::wire::Wire;

const DESK: &str = "bob@localhost/desk";
const ALICE: &str = "alice@localhost/desk";
/// The node that dies.
const DOOMED: usize = 1;

/// What a stanza says, in a word.
fn word(stanza: &Element) -> String {
    let show = stanza.child("show", ns::CLIENT).map(Element::text);
    let state = stanza
        .elements()
        .find(|child| child.ns() == ns::CHATSTATES)
        .map(|state| state.local().to_owned());
    let text = stanza.child("body", ns::CLIENT).map(|_| body(stanza));
    let word = show.or(text).or(state);
    word.unwrap_or_else(|| stanza.local().to_owned())
}

/// The client says this and asks how far the server has counted; the stanzas that come before the answer.
async fn before_answer(client: &mut Client, words: &str) -> Vec<String> {
    let request = format!("{words}<r xmlns='{}'/>", ns::SM);
    client.wire.send(&request).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let element = client.wire.next().await.unwrap();
        match (element.local(), element.ns()) {
            ("a", ns::SM) => return seen,
            ("r", ns::SM) => client.acknowledge().await.unwrap(),
            _ => {
                client.handled += 1;
                seen.push(word(&element));
            }
        }
    }
}

/// The next stanzas.
async fn next(client: &mut Client, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(word(&client.stanza().await.unwrap()));
    }
    seen
}

fn csi(name: &str) -> String {
    format!("<{name} xmlns='{}'/>", ns::CSI)
}

/// Alice and bob see each other, and bob's second session shows when something has come for the first, which is
/// inactive.
struct People {
    alice: Client,
    desk: Client,
    other: Client,
}

impl People {
    /// At these nodes.
    async fn meet(cluster: &Cluster, [alice, desk, other]: [usize; 3]) -> Self {
        let mut alice = cluster.client(alice, "alice").await;
        let mut desk = cluster.client(desk, "bob").await;
        befriend(&mut alice, &mut desk).await;
        let mut other = cluster.client_with(other, "bob", "other").await;
        await_presence(&mut other, None, ALICE).await;
        await_presence(&mut desk, None, "bob@localhost/other").await;
        await_presence(&mut alice, None, "bob@localhost/other").await;
        for client in [&mut alice, &mut desk, &mut other] {
            client.check_nothing_more().await;
            client.presences();
        }
        assert!(before_answer(&mut desk, &csi("inactive")).await.is_empty());
        Self { alice, desk, other }
    }

    /// Alice goes, types, and goes further; the shard has it all.
    async fn chatter(&mut self, shows: [&str; 2]) {
        let composing = format!("<composing xmlns='{}'/>", ns::CHATSTATES);
        let typing = format!("<message type='chat' to='{DESK}'>{composing}</message>");
        let [first, second] = shows.map(|it| format!("<presence><show>{it}</show></presence>"));
        for stanza in [first, typing, second] {
            self.alice.send(&stanza).await;
        }
        for _ in 0..2 {
            await_presence(&mut self.other, None, ALICE).await;
        }
    }
}

#[tokio::test]
async fn im_100_what_can_wait_waits_and_goes_before_what_cannot() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut people = People::meet(&cluster, [0, 0, 0]).await;
    people.chatter(["away", "dnd"]).await;
    let desk = &mut people.desk;
    // Acknowledgements are answered all the same (SM-74).
    assert!(before_answer(desk, "").await.is_empty(), "IM-100");
    people.alice.say(DESK, "look").await;
    let expected = ["away", "composing", "dnd", "look"];
    assert_eq!(next(desk, 4).await, expected, "IM-100");
    people.chatter(["xa", "chat"]).await;
    let desk = &mut people.desk;
    assert!(before_answer(desk, "").await.is_empty(), "IM-100");
    // An answer cannot wait either.
    let ping = format!("<iq type='get' id='p'><ping xmlns='{}'/></iq>", ns::PING);
    desk.send(&ping).await;
    assert_eq!(next(desk, 4).await, ["xa", "composing", "chat", "iq"]);
    people.chatter(["away", "dnd"]).await;
    let desk = &mut people.desk;
    assert!(before_answer(desk, "").await.is_empty(), "IM-100");
    let seen = before_answer(desk, &csi("active")).await;
    assert_eq!(seen, ["away", "composing", "dnd"], "IM-101");
    people.chatter(["xa", "chat"]).await;
    assert_eq!(next(&mut people.desk, 3).await, ["xa", "composing", "chat"]);
}

#[tokio::test]
async fn sm_74_what_waits_when_the_node_dies_comes_once_to_a_client_that_is_active_again() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut people = People::meet(&cluster, [0, DOOMED, 2]).await;
    people.chatter(["away", "dnd"]).await;
    let desk = &mut people.desk;
    assert!(before_answer(desk, "").await.is_empty(), "IM-100");
    cluster.kill(DOOMED);
    desk.resume(cluster.address(2)).await;
    assert_eq!(next(desk, 3).await, ["away", "composing", "dnd"]);
    people.chatter(["xa", "chat"]).await;
    let seen = next(&mut people.desk, 3).await;
    assert_eq!(seen, ["xa", "composing", "chat"], "SM-56");
    people.desk.check_nothing_more().await;
}

/// Logs in with SASL2, binds along with it in this state, and becomes available; the full address.
async fn log_in(cluster: &Cluster, device: Device, state: &str) -> (Wire, String) {
    let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut wire = wire.unwrap();
    wire.send(&device.header()).await.unwrap();
    let features = wire.next().await.unwrap();
    assert!(features.is("features", ns::STREAM), "{features:?}");
    let sm = format!("<enable xmlns='{}' resume='true'/>", ns::SM);
    let bind = format!("<bind xmlns='{}'>{}{sm}</bind>", ns::BIND2, csi(state));
    let success = device.authenticate(&mut wire, Mechanism::ScramSha512, PASSWORD, &bind);
    let success = success.await.unwrap();
    assert!(success.child("bound", ns::BIND2).is_some(), "{success:?}");
    let features = wire.next().await.unwrap();
    let csi = features.child("csi", ns::CSI);
    assert!(csi.is_some(), "IM-99: {features:?}");
    wire.send("<presence/>").await.unwrap();
    // Its own presence comes back whatever its state is.
    words_until(&mut wire, "presence", ns::CLIENT).await;
    (wire, identity(&success))
}

/// The stanzas that come until such an element does.
async fn words_until(wire: &mut Wire, name: &str, namespace: &str) -> Vec<String> {
    let mut words = Vec::new();
    loop {
        let element = wire.next().await.unwrap();
        words.extend((element.ns() == ns::CLIENT).then(|| word(&element)));
        if element.is(name, namespace) {
            return words;
        }
    }
}

#[tokio::test]
async fn bi_5_a_client_may_be_inactive_from_its_login_on() {
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], "").await;
    let mut bob = cluster.client(0, "bob").await;
    for (user, state, waits) in [("alice", "active", false), ("carol", "inactive", true)] {
        let id = "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11";
        let (mut wire, jid) = log_in(&cluster, Device { user, id }, state).await;
        let show = format!("<presence to='{jid}'><show>away</show></presence>");
        bob.send(&show).await;
        bob.settle().await.unwrap();
        let mut words = Vec::new();
        if !waits {
            // It comes although nothing urgent does.
            words = words_until(&mut wire, "presence", ns::CLIENT).await;
        }
        let request = format!("<r xmlns='{}'/>", ns::SM);
        wire.send(&request).await.unwrap();
        words.extend(words_until(&mut wire, "a", ns::SM).await);
        let expected: &[&str] = if waits { &[] } else { &["away"] };
        assert_eq!(words, expected, "{state}");
        bob.say(&jid, "look").await;
        words.extend(words_until(&mut wire, "message", ns::CLIENT).await);
        assert_eq!(words, ["away", "look"], "{state}");
    }
}
