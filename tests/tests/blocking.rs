//! Blocked contacts (XEP-0191), over real processes: what neither side hears of the other, whoever dies, and
//! whether anybody is there or not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proto::{Element, ns};
use tests::archive::all_behind;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::contact::{await_presence, befriend};
use tests::until;

const ALICE: &str = "alice@localhost";
const BOB: &str = "bob@localhost";
const EVE: &str = "eve@example.net";

/// Asks with a fresh id; `to` and the payload are the caller's.
async fn ask(client: &mut Client, kind: &str, to: &str, payload: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='{kind}' id='{id}'{to}>{payload}</iq>");
    client.request(&iq, &id).await.unwrap()
}

/// Blocks or unblocks.
async fn change(client: &mut Client, name: &str, jids: &[&str]) {
    let items: String = jids
        .iter()
        .map(|jid| format!("<item jid='{jid}'/>"))
        .collect();
    let payload = format!("<{name} xmlns='{}'>{items}</{name}>", ns::BLOCKING);
    let answer = ask(client, "set", "", &payload).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

/// Asks for the list, after which the session is told of changes.
async fn list(client: &mut Client) -> Vec<String> {
    let payload = format!("<blocklist xmlns='{}'/>", ns::BLOCKING);
    let answer = ask(client, "get", "", &payload).await;
    jids(answer.child("blocklist", ns::BLOCKING).expect("IM-65"))
}

fn jids(list: &Element) -> Vec<String> {
    let items = list.elements().filter(|item| item.is("item", ns::BLOCKING));
    items
        .map(|item| item.attr("jid").unwrap().to_owned())
        .collect()
}

/// The next push: its name, and whom it names. What else comes before it is nobody's concern here.
async fn pushed(client: &mut Client) -> (String, Vec<String>) {
    loop {
        let stanza = client.stanza().await.unwrap();
        let found = stanza.elements().find(|child| child.ns() == ns::BLOCKING);
        if let (Some("set"), Some(change)) = (stanza.attr("type"), found) {
            let id = stanza.attr("id").expect("an id");
            client.send(&format!("<iq type='result' id='{id}'/>")).await;
            return (change.local().to_owned(), jids(change));
        }
        client.keep(stanza).await;
    }
}

/// Everything that has come so far.
async fn so_far(client: &mut Client) -> Vec<Element> {
    let ping = format!(
        "<iq type='get' id='far' to='localhost'><ping xmlns='{}'/></iq>",
        ns::PING
    );
    client.send(&ping).await;
    let mut all = Vec::new();
    loop {
        let stanza = client.stanza().await.unwrap();
        if stanza.attr("id") == Some("far") {
            return all;
        }
        all.push(stanza);
    }
}

/// Sends something and returns what comes back for it, before a message comes back that is sent behind it the same
/// way: between the two is a block.
async fn comes_back(client: &mut Client, stanza: &str) -> Vec<Element> {
    let other = match client.user.as_str() {
        "alice" => BOB,
        _ => ALICE,
    };
    client.send(stanza).await;
    let last = format!("<message type='chat' to='{other}' id='last'><body>last</body></message>");
    client.send(&last).await;
    let mut all = Vec::new();
    loop {
        let stanza = client.stanza().await.unwrap();
        if stanza.attr("id") == Some("last") {
            return all;
        }
        all.push(stanza);
    }
}

#[track_caller]
fn check_condition(answers: &[Element], condition: &str, blocked: bool) {
    let [answer] = answers else {
        panic!("not one answer: {answers:?}")
    };
    let error = answer.child("error", ns::CLIENT);
    let error = error.unwrap_or_else(|| panic!("{answer:?}"));
    assert!(error.child(condition, ns::STANZAS).is_some(), "{answer:?}");
    assert_eq!(
        error.child("blocked", ns::BLOCKING_ERRORS).is_some(),
        blocked,
        "{answer:?}"
    );
}

fn message(kind: &str, to: &str) -> String {
    format!("<message type='{kind}' to='{to}' id='m'><body>blocked</body></message>")
}

fn time(kind: &str, to: &str) -> String {
    format!("<iq type='{kind}' to='{to}' id='q'><time xmlns='urn:xmpp:time'/></iq>")
}

/// Bob is blocked, and hears of each stanza the same as of an account that is not there, or nothing.
async fn check_inbound(bob: &mut Client, full: &str) {
    for to in [ALICE, full] {
        for kind in ["chat", "normal"] {
            let back = comes_back(bob, &message(kind, to)).await;
            check_condition(&back, "service-unavailable", false);
        }
        for kind in ["groupchat", "headline", "error"] {
            assert_eq!(comes_back(bob, &message(kind, to)).await, [], "{kind}");
        }
        for kind in ["get", "set"] {
            let back = comes_back(bob, &time(kind, to)).await;
            check_condition(&back, "service-unavailable", false);
        }
        for kind in [
            "",
            " type='unavailable'",
            " type='subscribe'",
            " type='probe'",
        ] {
            let presence = format!("<presence to='{to}'{kind}/>");
            assert_eq!(comes_back(bob, &presence).await, [], "{kind}");
        }
    }
    let vcard = "<vCard xmlns='vcard-temp'/>";
    let answer = ask(bob, "get", &format!(" to='{ALICE}'"), vcard).await;
    check_condition(&[answer], "service-unavailable", false);
}

/// Alice has blocked bob, and is told so.
async fn check_outbound(alice: &mut Client, full: &str) {
    for to in [BOB, full] {
        for kind in ["chat", "normal", "groupchat", "headline"] {
            let back = comes_back(alice, &message(kind, to)).await;
            check_condition(&back, "not-acceptable", true);
        }
        for stanza in [time("get", to), time("set", to)] {
            let back = comes_back(alice, &stanza).await;
            check_condition(&back, "not-acceptable", true);
        }
        for kind in ["", " type='subscribe'"] {
            let presence = format!("<presence id='p' to='{to}'{kind}/>");
            let back = comes_back(alice, &presence).await;
            check_condition(&back, "not-acceptable", true);
        }
        for stanza in [
            message("error", to),
            format!("<iq type='result' id='r' to='{to}'/>"),
        ] {
            assert_eq!(comes_back(alice, &stanza).await, []);
        }
    }
}

#[tokio::test]
async fn im_69_im_70_each_kind_of_stanza_in_each_direction_and_im_67_what_contacts_see() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    befriend(&mut alice, &mut bob).await;
    for client in [&mut alice, &mut bob] {
        so_far(client).await;
        client.presences();
    }
    assert_eq!(list(&mut alice).await, [""; 0]);
    change(&mut alice, "block", &[BOB]).await;
    assert_eq!(pushed(&mut alice).await, ("block".into(), vec![BOB.into()]));
    let gone = bob.presence().await.unwrap();
    assert_eq!(
        (gone.attr("type"), gone.attr("from")),
        (Some("unavailable"), Some(alice.jid.as_str()))
    );

    check_inbound(&mut bob, &alice.jid.to_string()).await;
    assert_eq!(so_far(&mut alice).await, [], "she hears nothing of that");
    check_outbound(&mut alice, &bob.jid.to_string()).await;
    // Broadcasts pass him by (IM-48), in both directions.
    for client in [&mut alice, &mut bob] {
        let heard = comes_back(client, "<presence><show>away</show></presence>").await;
        let own = client.jid.as_str();
        assert!(
            heard.iter().all(|stanza| stanza.attr("from") == Some(own)),
            "{heard:?}"
        );
    }
    let heard = comes_back(&mut bob, "<presence type='unavailable' to='localhost'/>").await;
    assert_eq!(heard, [], "he hears nothing of that");
    assert_eq!(so_far(&mut alice).await, []);
    assert_eq!(all_behind(&mut alice, None).await.unwrap(), []);

    change(&mut alice, "unblock", &[]).await;
    assert_eq!(pushed(&mut alice).await, ("unblock".into(), vec![]));
    let back = await_presence(&mut bob, None, alice.jid.as_str()).await;
    assert!(back.child("show", ns::CLIENT).is_some(), "{back:?}");
    await_presence(&mut alice, None, bob.jid.as_str()).await;
    bob.say(ALICE, "free").await;
    alice.expect(["free".to_owned()]).await;
}

#[tokio::test]
async fn im_66_changes_are_pushed_to_those_who_asked_and_im_73_reports_reach_the_operator_alone() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut asked = cluster.client_with(0, "alice", "asked").await;
    let mut other = cluster.client_with(0, "alice", "other").await;
    so_far(&mut asked).await;
    list(&mut asked).await;
    let report = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>\
                  <text>buy &quot;this&quot;&#10;now</text></report>";
    let block = format!(
        "<block xmlns='{}'><item jid='{EVE}'>{report}</item></block>",
        ns::BLOCKING
    );
    let answer = ask(&mut other, "set", "", &block).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    assert_eq!(pushed(&mut asked).await, ("block".into(), vec![EVE.into()]));
    let told = so_far(&mut other).await;
    assert!(told.iter().all(|stanza| stanza.local() != "iq"), "{told:?}");
    assert_eq!(list(&mut other).await, [EVE]);
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("urn:xmpp:reporting:spam"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in [ALICE, EVE, "INFO"] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    // Both find the features at the domain, and at the account.
    for to in ["localhost", ALICE] {
        let query = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
        let info = ask(&mut asked, "get", &format!(" to='{to}'"), &query).await;
        let query = info.child("query", ns::DISCO_INFO).unwrap();
        for feature in [ns::BLOCKING, ns::REPORTING] {
            let named = query
                .elements()
                .any(|child| child.attr("var") == Some(feature));
            assert!(named, "{to}: {query:?}");
        }
    }
}

#[tokio::test]
async fn im_66_im_71_a_session_that_resumes_elsewhere_is_told_and_protected_after_kill_9() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(2, "bob").await;
    list(&mut alice).await;
    change(&mut alice, "block", &[BOB]).await;
    assert_eq!(pushed(&mut alice).await.1, [BOB]);
    alice.settle().await.unwrap();
    cluster.kill(0);
    bob.say(ALICE, "while she is away").await;
    alice.resume(cluster.address(1)).await;
    bob.say(ALICE, "now that she is back").await;
    for _ in 0..2 {
        let refused = bob.message_element().await.unwrap();
        check_condition(&[refused], "service-unavailable", false);
    }
    let mut other = cluster.client_with(2, "alice", "other").await;
    change(&mut other, "block", &[EVE]).await;
    assert_eq!(pushed(&mut alice).await, ("block".into(), vec![EVE.into()]));
    assert_eq!(list(&mut alice).await, [BOB, EVE]);
    alice.check_nothing_more().await;
    assert_eq!(all_behind(&mut alice, None).await.unwrap(), []);
    change(&mut alice, "unblock", &[BOB]).await;
    bob.say(ALICE, "at last").await;
    assert_eq!(alice.message().await.unwrap(), "at last");
}

/// Bob says something, and hears within a second whether it was refused.
async fn is_refused(bob: &mut Client, body: &str) -> bool {
    let id = format!("{:016x}", rand::random::<u64>());
    bob.send(&format!(
        "<message type='chat' to='{ALICE}' id='{id}'><body>{body}</body></message>"
    ))
    .await;
    let answered = async {
        loop {
            let stanza = bob.stanza().await.unwrap();
            if stanza.attr("id") == Some(&id) {
                return check_condition(&[stanza], "service-unavailable", false);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), answered)
        .await
        .is_ok()
}

#[tokio::test]
async fn im_71_nobody_is_there_and_still_the_list_is_in_force_even_when_the_shards_have_lost_it() {
    let mut cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    change(&mut alice, "block", &[BOB]).await;
    alice.close().await.unwrap();
    let mut bob = cluster.client(0, "bob").await;
    assert!(is_refused(&mut bob, "offline").await);
    cluster.kill(0);
    cluster.run(0);
    cluster.ready(0).await;
    bob.resume(cluster.address(0)).await;
    assert!(is_refused(&mut bob, "after kill -9").await);
    let mut alice = cluster.client(0, "alice").await;
    alice.check_nothing_more().await;
    assert_eq!(all_behind(&mut alice, None).await.unwrap(), []);
    alice.close().await.unwrap();

    // All sessions are gone with the disk, and the database is still there.
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    cluster.run(0);
    cluster.ready(0).await;
    let mut bob = cluster.client_with(0, "bob", "new").await;
    until("the list is in force again", async || {
        is_refused(&mut bob, "to a new cluster").await
    })
    .await;
}
