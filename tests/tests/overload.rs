//! More than can be kept, or than can be written as fast as it comes, over real processes: whoever sends it
//! is told at once or is read more slowly; what was acknowledged arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::ns;
use tests::archive::all_behind;
use tests::client::{Client, body, numbered};
use tests::cluster::Cluster;
use tests::postgres::Postgres;

const BOB: &str = "bob@localhost";
/// One client says as much as it can.
const UNLIMITED: &str = "[limits]\nstanzas_per_second = 0\nbytes_per_second = 0\n";

/// Says something long to bob, who is away, and logs bob in. Whether it arrived; if not, it was refused.
async fn arrives(cluster: &Cluster, text: &str) -> bool {
    let mut alice = cluster.client(0, "alice").await;
    let chat = format!("<message to='{BOB}' type='chat' id='long'><body>{text}</body></message>");
    alice.send(&chat).await;
    alice.settle().await.unwrap();
    // A refusal may come behind the acknowledgement; it comes before what is asked for later.
    let ping = "<iq type='get' id='then' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
    alice.request(ping, "then").await.unwrap();
    let refused = alice.take_messages(|message| message.attr("type") == Some("error"));
    alice.close().await.unwrap();
    let mut bob = cluster.client(0, "bob").await;
    if let Some(refused) = refused.first() {
        let error = refused.child("error", ns::CLIENT).unwrap();
        assert!(
            error.child("policy-violation", ns::STANZAS).is_some(),
            "{error:?}"
        );
        bob.check_nothing_more().await;
        bob.close().await.unwrap();
        return false;
    }
    assert_eq!(body(&bob.message_element().await.unwrap()), text);
    bob.close().await.unwrap();
    true
}

#[tokio::test]
async fn t_72_what_grows_when_it_is_written_is_refused_before_it_is_acknowledged_or_arrives() {
    let postgres = Postgres::start();
    for url in [None, Some(postgres.url())] {
        let cluster = Cluster::prepare(1, UNLIMITED).unwrap();
        if let Some(url) = &url {
            cluster.store_in(url);
        }
        let cluster = cluster.started(&["alice", "bob"]).await;
        assert!(!arrives(&cluster, &"'".repeat(200_000)).await, "{url:?}");
        assert!(arrives(&cluster, &"'".repeat(40_000)).await, "{url:?}");
        assert!(arrives(&cluster, &"x".repeat(200_000)).await, "{url:?}");
    }
}

/// More messages than the backlog of [`t_53_a_flood_is_slowed_by_the_database_and_not_refused`] holds.
const FLOOD: usize = 400;

/// Says everything at once to bob, and waits until it is acknowledged.
async fn flood(mut client: Client) -> Client {
    for text in numbered(&client.user.clone(), 0..FLOOD) {
        client.say(BOB, &text).await;
    }
    client.settle().await.unwrap();
    client.check_nothing_more().await;
    client
}

#[tokio::test]
async fn t_53_a_flood_is_slowed_by_the_database_and_not_refused() {
    let postgres = Postgres::start();
    let extra = format!("{UNLIMITED}backlog_bytes = 40000\n");
    let cluster = Cluster::prepare(3, &extra).unwrap();
    cluster.store_in(&postgres.url());
    let users = ["alice", "bob", "carol", "dave"];
    let cluster = cluster.started(&users).await;
    let mut bob = cluster.client(1, "bob").await;
    let mut senders = Vec::new();
    for (node, user) in [(0, "alice"), (1, "carol"), (2, "dave")] {
        senders.push(tokio::spawn(flood(cluster.client(node, user).await)));
    }
    // For shorter than what makes the database count as away.
    postgres.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    postgres.signal(Signal::SIGCONT);
    let mut got = Vec::new();
    for _ in 0..3 * FLOOD {
        got.push(bob.message().await.unwrap());
    }
    for user in ["alice", "carol", "dave"] {
        let own: Vec<_> = got.iter().filter(|text| text.starts_with(user)).collect();
        let sent = numbered(user, 0..FLOOD);
        assert_eq!(own, sent.iter().collect::<Vec<_>>());
    }
    for sender in senders {
        let mut sender = sender.await.unwrap();
        assert_eq!(all_behind(&mut sender, None).await.unwrap().len(), FLOOD);
    }
    assert_eq!(all_behind(&mut bob, None).await.unwrap().len(), 3 * FLOOD);
    bob.check_nothing_more().await;
}

/// For so long the database takes to write a row of carol's archive.
const SLOW_ROW: Duration = Duration::from_secs(4);

#[tokio::test]
async fn im_97_an_archive_query_reads_past_what_waits_for_the_database() {
    let postgres = Postgres::start();
    let cluster = Cluster::prepare(1, UNLIMITED).unwrap();
    cluster.store_in(&postgres.url());
    let cluster = cluster.started(&["alice", "bob", "carol"]).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let mut carol = cluster.client(0, "carol").await;
    postgres.execute(&format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF NEW.owner = (SELECT id FROM archive_name WHERE owner = ''carol@localhost'' AND party = '''') \
         THEN PERFORM pg_sleep({}); END IF; RETURN NEW; END'; \
         CREATE TRIGGER slow BEFORE INSERT ON archive FOR EACH ROW EXECUTE FUNCTION slow()",
        SLOW_ROW.as_secs()
    ));
    // The first one is being written, the others and bob's wait for it.
    for n in 0..3 {
        alice.say("carol@localhost", &n.to_string()).await;
        carol.message().await.unwrap();
    }
    let start = Instant::now();
    alice.say(BOB, "past it").await;
    bob.message().await.unwrap();
    let found = all_behind(&mut bob, None).await.unwrap();
    assert_eq!(found.len(), 1);
    let took = start.elapsed();
    assert!(took < SLOW_ROW / 2, "{took:?}");
    assert_eq!(all_behind(&mut carol, None).await.unwrap().len(), 3);
}
