//! Searches of the archive over real processes, in both databases (XEP-0431).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto::{Element, ns};
use tests::archive::{Page, page};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::postgres::Postgres;
use tests::wire::DOMAIN;

const BOB: &str = "bob@localhost";
const FULLTEXT: &str = "{urn:xmpp:fulltext:0}fulltext";

fn bodies(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|e| e.body.as_str()).collect()
}

async fn find(client: &mut Client, fields: &[(&str, &str)], words: &str, set: &str) -> Page {
    let fields: Vec<_> = fields.iter().copied().chain([(FULLTEXT, words)]).collect();
    page(client, &fields, set).await.unwrap()
}

async fn ask(client: &mut Client, to: &str, kind: &str, payload: &str) -> Element {
    let id = format!("{:016x}", rand::random::<u64>());
    let iq = format!("<iq type='{kind}' id='{id}' to='{to}'>{payload}</iq>");
    client.request(&iq, &id).await.unwrap()
}

/// Alice tells bob of trains, and carol tells him one thing; to her alice says what bob must not find.
async fn talk(cluster: &Cluster) -> [Client; 2] {
    let mut alice = cluster.client(0, "alice").await;
    let mut carol = cluster.client(0, "carol").await;
    let mut bob = cluster.client(0, "bob").await;
    for text in [
        "The first TRAIN leaves at 5%",
        "Nothing",
        "Der Zug fährt durch die Straße",
        "trainspotting under_scored 'quoted'",
        "Nothing \"more\"",
    ] {
        let said = text.replace('\'', "&apos;").replace('"', "&quot;");
        alice.say(BOB, &said).await;
        bob.expect([text.to_owned()]).await;
    }
    carol.say(BOB, "a train of thought").await;
    bob.expect(["a train of thought".to_owned()]).await;
    alice
        .say(&format!("carol@{DOMAIN}"), "a secret train")
        .await;
    carol.expect(["a secret train".to_owned()]).await;
    // Some text that says nothing of what is encrypted.
    let sealed = "<message to='bob@localhost' type='chat'><body>A sealed train</body>\
                  <encrypted xmlns='urn:xmpp:omemo:2'/></message>";
    alice.send(sealed).await;
    bob.expect(["A sealed train".to_owned()]).await;
    [alice, bob]
}

/// Forwards and backwards, a message at a time.
async fn pages(bob: &mut Client, all: [&str; 3]) {
    let mut set = "<max>1</max>".to_owned();
    for expect in all {
        let next = find(bob, &[], "train", &set).await;
        assert_eq!(bodies(&next), [expect]);
        set = format!("<max>1</max><after>{}</after>", next.entries[0].id);
    }
    let end = find(bob, &[], "train", &set).await;
    assert!(end.complete && end.entries.is_empty());
    let mut set = "<max>1</max><before/>".to_owned();
    for expect in all.into_iter().rev() {
        let next = find(bob, &[], "train", &set).await;
        assert_eq!(bodies(&next), [expect]);
        set = format!("<max>1</max><before>{}</before>", next.entries[0].id);
    }
    let end = find(bob, &[], "train", &set).await;
    assert!(end.complete && end.entries.is_empty());
}

/// What is too long is refused, and nothing is searched.
async fn refusals(bob: &mut Client) {
    for long in ["x".repeat(100_000), "x ".repeat(500)] {
        let form = format!(
            "<query xmlns='{}'><x xmlns='{}' type='submit'><field var='FORM_TYPE'><value>{}</value></field>\
             <field var='{FULLTEXT}'><value>{long}</value></field></x></query>",
            ns::MAM,
            ns::DATA_FORM,
            ns::MAM
        );
        let refused = ask(bob, BOB, "set", &form).await;
        let error = refused.child("error", ns::CLIENT).expect("T-59");
        assert!(error.child("policy-violation", ns::STANZAS).is_some());
    }
}

async fn check(cluster: &Cluster) {
    let [_alice, mut bob] = talk(cluster).await;
    let features = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let features = ask(&mut bob, BOB, "get", features).await;
    let query = features.child("query", ns::DISCO_INFO).unwrap();
    let mut features = query.elements();
    assert!(features.any(|feature| feature.attr("var") == Some("urn:xmpp:fulltext:0")));

    // Those of others and what is encrypted are not among them.
    let [one, two, three] = [
        "The first TRAIN leaves at 5%",
        "trainspotting under_scored 'quoted'",
        "a train of thought",
    ];
    let all = find(&mut bob, &[], "Train", "").await;
    assert_eq!(bodies(&all), [one, two, three]);
    assert!(all.complete);
    let stamp = "9999-01-01T00:00:00Z";
    for (fields, words, expect) in [
        (&[("with", "alice@localhost")][..], "train", &[one, two][..]),
        (&[("with", "carol@localhost")], "train", &[three]),
        (&[("end", stamp)], "THOUGHT train", &[three]),
        (&[("start", stamp)], "train", &[]),
        (&[], "faehrt", &[]),
        (&[], "FAHRT strasse", &["Der Zug fährt durch die Straße"]),
        (&[], "%", &[one]),
        (&[], "tr%n", &[]),
        (&[], "_", &[two]),
        (&[], "t_ain", &[]),
        (&[], "&apos;quoted&apos;", &[two]),
        (&[], "&quot;", &["Nothing \"more\""]),
        (&[], "&apos;; DROP TABLE archive; --", &[]),
        (&[], "secret", &[]),
        (&[], "sealed", &[]),
    ] {
        let found = find(&mut bob, fields, words, "").await;
        assert_eq!(bodies(&found), expect, "{words}");
        assert!(found.complete);
    }

    pages(&mut bob, [one, two, three]).await;
    refusals(&mut bob).await;
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn im_94_words_are_found_in_one_s_own_archive_in_sqlite() {
    check(&Cluster::start(1, &["alice", "bob", "carol"], "").await).await;
}

#[tokio::test]
async fn im_94_words_are_found_in_one_s_own_archive_in_postgresql() {
    let postgres = Postgres::start();
    let cluster = Cluster::prepare(1, "").unwrap();
    cluster.store_in(&postgres.url());
    check(&cluster.started(&["alice", "bob", "carol"]).await).await;
}
