//! The archive and what waits for those who are away, over real processes: two ways to the same messages
//! (XEP-0313, XEP-0160).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use nix::sys::signal::Signal;
use proto::{Element, ns};
use tests::PATIENCE;
use tests::archive::{self, Archived, all_behind};
use tests::client::{Client, body, numbered};
use tests::cluster::Cluster;
use tests::postgres::Postgres;
use tests::wire::DOMAIN;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Logins of one account, by turns with and without MAM.
const LOGINS: usize = 200;
const BOB: &str = "bob@localhost";
/// Bursts are what these tests are made of.
const UNLIMITED: &str = "[limits]\nstanzas_per_second = 0\nbytes_per_second = 0\n";

async fn connected(cluster: &Cluster, node: usize, user: &str, resource: &str) -> Client {
    let address = cluster.address(node);
    let client = Client::connected(address, cluster.tls(), user, resource, 0).await;
    client.unwrap_or_else(|end| panic!("{user}/{resource} cannot connect: {end}"))
}

fn bodies(entries: &[Archived]) -> Vec<&str> {
    entries.iter().map(|entry| entry.body.as_str()).collect()
}

async fn prefer(client: &mut Client, default: &str) {
    let iq = format!(
        "<iq type='set' id='prefs'><prefs xmlns='{}' default='{default}'><always/><never/></prefs></iq>",
        ns::MAM
    );
    let answer = client.request(&iq, "prefs").await.unwrap();
    let prefs = answer.child("prefs", ns::MAM);
    assert_eq!(
        prefs.and_then(|p| p.attr("default")),
        Some(default),
        "{answer:?}"
    );
}

#[tokio::test]
async fn im_86_im_97_what_was_delivered_is_found_at_once_unless_it_is_not_wanted() {
    let cluster = Cluster::start(1, &["alice", "bob"], UNLIMITED).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    for number in 0..30 {
        let text = format!("kept {number}");
        alice.say(BOB, &text).await;
        // Right behind it, before anything is acknowledged.
        let last = "<max>1</max><before/>";
        let own = archive::page(&mut alice, &[], last).await.unwrap();
        assert_eq!(bodies(&own.entries), [&text]);
        let message = bob.message_element().await.unwrap();
        assert_eq!(body(&message), text);
        let id = archive::stanza_id(&message, BOB).expect("IM-84");
        let last = archive::page(&mut bob, &[], "<max>1</max><before/>")
            .await
            .unwrap();
        assert_eq!(last.entries, [Archived { id, body: text }]);
        assert!(!last.unstable);
    }

    prefer(&mut bob, "never").await;
    alice.say(BOB, "not kept").await;
    bob.expect(["not kept".to_owned()]).await;
    // What is wished later says nothing of it, although it may not yet have been written.
    prefer(&mut bob, "always").await;
    let all = all_behind(&mut bob, None).await.unwrap();
    assert_eq!(bodies(&all), numbered("kept", 0..30));
    prefer(&mut bob, "never").await;
    bob.close().await.unwrap();
    // Nobody is there: it has to wait somewhere, and is not seen where it waits.
    alice.say(BOB, "not kept either").await;
    alice.settle().await.unwrap();
    let mut bob = connected(&cluster, 0, "bob", "phone").await;
    let all = all_behind(&mut bob, None).await.unwrap();
    assert_eq!(bodies(&all), numbered("kept", 0..30));
    // The archive has been read, and still what it does not show is delivered.
    bob.become_available().await.unwrap();
    bob.expect(["not kept either".to_owned()]).await;
    bob.close().await.unwrap();
    let mut bob = cluster.client(0, "bob").await;
    prefer(&mut bob, "always").await;
    alice.say(BOB, "kept again").await;
    bob.expect(["kept again".to_owned()]).await;
    let all = all_behind(&mut bob, Some(&all[29].id)).await.unwrap();
    assert_eq!(bodies(&all), ["kept again"]);
    bob.check_nothing_more().await;
}

#[tokio::test]
async fn im_86_who_wants_an_archive_has_one_where_the_default_becomes_none() {
    let mut cluster = Cluster::start(1, &["alice", "bob"], UNLIMITED).await;
    let mut bob = cluster.client(0, "bob").await;
    prefer(&mut bob, "always").await;
    // All that the shard knows is gone with the disk, and no archive keeps anything from now on that nobody asks for.
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    let config = std::fs::read_to_string(cluster.config(0)).unwrap();
    let config = config + "\n[archive]\ndefault = \"never\"\n";
    std::fs::write(cluster.config(0), config).unwrap();
    cluster.run(0);
    cluster.ready(0).await;
    let mut bob = cluster.client_with(0, "bob", "later").await;
    let mut alice = cluster.client(0, "alice").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        alice.say(BOB, "kept").await;
        bob.expect(["kept".to_owned()]).await;
        if !all_behind(&mut bob, None).await.unwrap().is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "bob wants an archive");
    }
    let own = all_behind(&mut alice, None).await.unwrap();
    assert_eq!(bodies(&own), [""; 0], "alice has asked for nothing");
}

/// Sends numbered messages to bob until told to stop; returns how many there were.
async fn chatter(mut alice: Client, mut stop: watch::Receiver<bool>) -> usize {
    let mut number = 0;
    while !*stop.borrow_and_update() {
        alice.say(BOB, &number.to_string()).await;
        number += 1;
        if number % 8 == 0 {
            alice.settle().await.unwrap();
        }
        sleep(Duration::from_millis(rand::random_range(0..6))).await;
    }
    alice.settle().await.unwrap();
    alice.close().await.unwrap();
    number
}

/// What bob's two clients have seen: each starts where its own rules say.
#[derive(Default)]
struct Seen {
    /// The number of the message that nobody has got.
    undelivered: usize,
    /// The number of the first message that the archive's reader does not know.
    unread: usize,
    /// The archive id of the one before.
    last: Option<String>,
}

impl Seen {
    /// A message that came as it was sent, or from the offline store.
    fn live(&mut self, message: &Element, number: usize) {
        assert_eq!(body(message), number.to_string());
        self.undelivered = number + 1;
    }
}

/// Reads live messages, a few or none, and what has come with them: all that is acknowledged at the end.
async fn read_some(bob: &mut Client) -> Vec<Element> {
    let mut messages = Vec::new();
    for _ in 0..rand::random_range(0..6) {
        messages.push(bob.message_element().await.unwrap());
    }
    messages.extend(bob.take_messages(|_| true));
    messages
}

async fn plain_login(cluster: &Cluster, seen: &mut Seen) {
    let mut bob = cluster.client_with(0, "bob", "plain").await;
    for message in read_some(&mut bob).await {
        seen.live(&message, seen.undelivered);
    }
    bob.close().await.unwrap();
}

async fn mam_login(cluster: &Cluster, seen: &mut Seen) {
    let mut bob = connected(cluster, 0, "bob", "mam").await;
    for entry in all_behind(&mut bob, seen.last.as_deref()).await.unwrap() {
        assert_eq!(entry.body, seen.unread.to_string(), "from the archive");
        seen.unread += 1;
        seen.last = Some(entry.id);
    }
    bob.become_available().await.unwrap();
    // What was read from the archive is delivered.
    assert!(seen.unread >= seen.undelivered);
    seen.undelivered = seen.unread;
    for message in read_some(&mut bob).await {
        seen.live(&message, seen.unread);
        seen.unread += 1;
        seen.last = Some(archive::stanza_id(&message, BOB).expect("IM-84"));
    }
    bob.close().await.unwrap();
}

#[tokio::test]
async fn im_63_i_14_a_mam_client_and_a_plain_one_alternate_and_neither_misses_or_repeats() {
    let cluster = Cluster::start(1, &["alice", "bob"], UNLIMITED).await;
    let (stop, stopped) = watch::channel(false);
    let sending = tokio::spawn(chatter(cluster.client(0, "alice").await, stopped));
    let mut seen = Seen::default();
    for login in 0..LOGINS {
        match login % 2 {
            0 => plain_login(&cluster, &mut seen).await,
            _ => mam_login(&cluster, &mut seen).await,
        }
    }
    stop.send(true).unwrap();
    let sent = sending.await.unwrap();
    let mut bob = cluster.client_with(0, "bob", "plain").await;
    bob.expect((seen.undelivered..sent).map(|number| number.to_string()))
        .await;
    bob.check_nothing_more().await;
    let rest = all_behind(&mut bob, seen.last.as_deref()).await.unwrap();
    let expect: Vec<_> = (seen.unread..sent)
        .map(|number| number.to_string())
        .collect();
    assert_eq!(bodies(&rest), expect);
    assert!(sent > LOGINS, "{sent} messages are too few to be in flight");
}

#[tokio::test]
async fn old_messages_leave_the_archive_unless_somebody_still_waits_for_them() {
    let extra = "[archive]\nretention = \"2s\"\nquota_messages = 3\n";
    let cluster = Cluster::start(1, &["alice", "bob", "carol"], extra).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    alice.say(BOB, "seen").await;
    bob.expect(["seen".to_owned()]).await;
    bob.acknowledge().await.unwrap();
    alice.say(&format!("carol@{DOMAIN}"), "unseen").await;
    alice.settle().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !all_behind(&mut bob, None).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "it does not go");
        sleep(Duration::from_millis(50)).await;
    }
    let mut carol = connected(&cluster, 0, "carol", "desk").await;
    let all = all_behind(&mut carol, None).await.unwrap();
    assert_eq!(bodies(&all), ["unseen"]);
    // IM-62: beyond the quota the sender is told, and nothing waits.
    for number in 0..4 {
        alice.say(BOB, &number.to_string()).await;
    }
    let refused = loop {
        let message = alice.message_element().await.unwrap();
        if message.attr("type") == Some("error") {
            break message;
        }
    };
    let error = refused.child("error", ns::CLIENT).expect("an error");
    assert!(
        error.child("resource-constraint", ns::STANZAS).is_some(),
        "{refused:?}"
    );
    alice.settle().await.unwrap();
}

/// How long the database is away: `HOLDFAST_TEST_OUTAGE` seconds.
fn outage() -> Duration {
    let seconds = std::env::var("HOLDFAST_TEST_OUTAGE").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// A round of chat: each of the three says something to the next one, who gets it.
async fn round(people: &mut [Client], number: usize) {
    let names: Vec<String> = people.iter().map(|p| p.jid.bare().to_string()).collect();
    for (index, person) in people.iter_mut().enumerate() {
        person
            .say(&names[(index + 1) % names.len()], &number.to_string())
            .await;
    }
    for person in people {
        person.expect([number.to_string()]).await;
    }
}

#[tokio::test]
async fn f_29_without_the_database_chat_goes_on_and_the_archive_is_complete_afterwards() {
    let postgres = Postgres::start();
    let users = ["alice", "bob", "carol"];
    let mut cluster = Cluster::prepare(3, UNLIMITED).unwrap();
    cluster.store_in(&postgres.url());
    cluster = cluster.started(&users).await;
    let mut people = Vec::new();
    for (node, user) in users.into_iter().enumerate() {
        people.push(cluster.client(node, user).await);
    }
    let mut number = 0;
    let mut chat_for = async |people: &mut [Client], time: Duration| {
        let end = Instant::now() + time;
        let mut slowest = Duration::ZERO;
        while Instant::now() < end {
            let started = Instant::now();
            round(people, number).await;
            slowest = slowest.max(started.elapsed());
            number += 1;
            sleep(Duration::from_millis(20)).await;
        }
        slowest
    };
    chat_for(&mut people, Duration::from_secs(1)).await;
    postgres.stop();
    let slowest = chat_for(&mut people, outage()).await;
    assert!(
        slowest < Duration::from_secs(5),
        "the chat stood still for {slowest:?}"
    );
    postgres.run();
    chat_for(&mut people, Duration::from_secs(1)).await;
    // One that is there and does not answer.
    postgres.signal(Signal::SIGSTOP);
    chat_for(&mut people, outage() / 3).await;
    postgres.signal(Signal::SIGCONT);
    chat_for(&mut people, Duration::from_secs(1)).await;
    for person in &mut people {
        check_archive(person, number).await;
    }
}

/// Says something to bob, who gets it; or the error, if it is refused. That may be by the shard of either.
async fn offer(alice: &mut Client, bob: &mut Client, text: &str) -> Option<Element> {
    alice.say(BOB, text).await;
    tokio::select! {
        got = bob.message() => {
            assert_eq!(got.unwrap(), text);
            None
        }
        refused = alice.message_element() => Some(refused.unwrap()),
    }
}

#[tokio::test]
async fn f_29_when_too_much_waits_for_the_database_senders_are_told() {
    let postgres = Postgres::start();
    let extra = format!("{UNLIMITED}backlog_bytes = 20000\n");
    let cluster = Cluster::prepare(1, &extra).unwrap();
    cluster.store_in(&postgres.url());
    let cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    alice.say(BOB, "before").await;
    bob.expect(["before".to_owned()]).await;
    postgres.stop();
    let mut accepted = 0;
    let refused = loop {
        if let Some(refused) = offer(&mut alice, &mut bob, &accepted.to_string()).await {
            break refused;
        }
        accepted += 1;
        assert!(accepted < 1000, "nothing bounds what waits");
    };
    let error = refused.child("error", ns::CLIENT).expect("an error");
    let condition = error.child("resource-constraint", ns::STANZAS);
    assert!(
        condition.is_some() && error.attr("type") == Some("wait"),
        "{refused:?}"
    );
    postgres.run();
    let deadline = Instant::now() + PATIENCE;
    // What was accepted is kept, what was refused is not, and in the end there is room again.
    while archive_of(&mut bob)
        .await
        .is_none_or(|all| all.len() < accepted + 1)
    {
        assert!(
            Instant::now() < deadline,
            "what was accepted is not archived"
        );
        sleep(Duration::from_millis(100)).await;
    }
    let all = all_behind(&mut bob, None).await.unwrap();
    assert_eq!(all.len(), accepted + 1);
    while offer(&mut alice, &mut bob, "after").await.is_some() {
        assert!(Instant::now() < deadline, "there is no room again");
        sleep(Duration::from_millis(100)).await;
    }
    bob.check_nothing_more().await;
}

/// Everything was sent and received once: two rows for each number, in order of either direction.
async fn check_archive(person: &mut Client, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let all = loop {
        match archive_of(person).await {
            Some(all) if all.len() >= 2 * count => break all,
            found => {
                let found = found.map(|all| all.len());
                assert!(
                    Instant::now() < deadline,
                    "{}: {found:?} of {count}",
                    person.jid
                );
            }
        }
        sleep(Duration::from_millis(200)).await;
    };
    let mut numbers: Vec<usize> = all
        .iter()
        .map(|entry| entry.body.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    let expect: Vec<usize> = (0..count).flat_map(|number| [number, number]).collect();
    assert_eq!(numbers, expect, "{}", person.jid);
}

/// The archive, unless the database is still to come back.
async fn archive_of(person: &mut Client) -> Option<Vec<Archived>> {
    let probe = format!(
        "<iq type='get' id='up'><metadata xmlns='{}'/></iq>",
        ns::MAM
    );
    let answer = person.request(&probe, "up").await.unwrap();
    if answer.attr("type") == Some("error") {
        return None;
    }
    Some(all_behind(person, None).await.unwrap())
}
