//! What one client asks for is carried in pieces that others do not wait for: nobody's shard stands still.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::{Element, ns};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::{PATIENCE, until};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Those who chat: two at each node, so that all shards have some.
const PAIRS: [(&str, &str); 6] = [
    ("a0", "b0"),
    ("a1", "b1"),
    ("a2", "b2"),
    ("a3", "b3"),
    ("a4", "b4"),
    ("a5", "b5"),
];
/// A cluster.
const NODES: usize = 3;

/// People who chat until they are stopped: one message after the other, each waited for.
struct Chats {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Chats {
    async fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (n, (one, other)) in PAIRS.iter().enumerate() {
            let one = cluster.client(n % NODES, one).await;
            let other = cluster.client((n + 1) % NODES, other).await;
            tasks.push(tokio::spawn(chat(one, other, stop.clone())));
        }
        Self { stop, tasks }
    }

    /// Everybody got everything, and there was something to get.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert!(task.await.expect("nobody waits in vain") > 0);
        }
    }
}

async fn chat(mut one: Client, mut other: Client, stop: Arc<AtomicBool>) -> usize {
    for n in 0.. {
        let text = n.to_string();
        one.say(other.jid.as_str(), &text).await;
        let came = timeout(PATIENCE, other.message()).await;
        let came = came.unwrap_or_else(|_| panic!("{} waits for {n}", other.jid));
        assert_eq!(came.unwrap(), text);
        if n % 16 == 0 {
            other.acknowledge().await.unwrap();
        }
        if stop.load(Ordering::Relaxed) {
            return n + 1;
        }
    }
    0
}

async fn cluster(users: &[&str], extra: &str) -> Cluster {
    let pairs = PAIRS.iter().flat_map(|(one, other)| [*one, *other]);
    let users: Vec<&str> = pairs.chain(users.iter().copied()).collect();
    Cluster::start(NODES, &users, extra).await
}

/// The same request so many times, all at once; returns the answers.
async fn pipeline(client: &mut Client, count: usize, request: &str) -> Vec<Element> {
    let get = |n| format!("<iq type='get' id='get-{n}'>{request}</iq>");
    client.send_together((0..count).map(get).collect()).await;
    let mut answers = Vec::new();
    while answers.len() < count {
        let stanza = timeout(PATIENCE, client.stanza()).await;
        let stanza = stanza.expect("an answer in time").unwrap();
        if stanza.local() == "iq" {
            let id = format!("get-{}", answers.len());
            assert_eq!(stanza.attr("id"), Some(&*id), "in order");
            answers.push(stanza);
            client.acknowledge().await.unwrap();
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_of_128_kib_is_read_64_times_at_each_node_while_others_chat() {
    let cluster = cluster(&["c0", "c1", "c2"], "").await;
    let chats = Chats::start(&cluster).await;
    let mut readers = Vec::new();
    for (node, user) in ["c0", "c1", "c2"].iter().enumerate() {
        let mut client = cluster.client(node, user).await;
        let open = format!("<vCard xmlns='{}'><NOTE>", ns::VCARD);
        let close = "</NOTE></vCard>";
        let note = "x".repeat((128 << 10) - open.len() - close.len());
        let set = format!("<iq type='set' id='set'>{open}{note}{close}</iq>");
        let stored = client.request(&set, "set").await.unwrap();
        assert_eq!(stored.attr("type"), Some("result"));
        readers.push(tokio::spawn(async move {
            let get = format!("<vCard xmlns='{}'/>", ns::VCARD);
            let answers = pipeline(&mut client, 64, &get).await;
            for answer in answers {
                let card = answer.child("vCard", ns::VCARD).expect("a card");
                let read = card.child("NOTE", ns::VCARD).expect("a note");
                assert_eq!(read.text().len(), note.len());
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    chats.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_roster_is_read_again_and_again_while_others_chat() {
    let cluster = cluster(&["c0"], "").await;
    let chats = Chats::start(&cluster).await;
    let mut client = cluster.client(0, "c0").await;
    // As large as its owner may have it, or larger.
    let group = |n: usize| format!("<group>{n:0>1000}</group>");
    let groups: String = (0..16).map(group).collect();
    for n in 0..40 {
        let item = format!("<item jid='friend{n}@localhost'>{groups}</item>");
        let set = format!(
            "<iq type='set' id='set-{n}'><query xmlns='{}'>{item}</query></iq>",
            ns::ROSTER
        );
        client.request(&set, &format!("set-{n}")).await.unwrap();
    }
    let get = format!("<query xmlns='{}'/>", ns::ROSTER);
    for answer in pipeline(&mut client, 25, &get).await {
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }
    chats.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_when_it_is_written_holds_up_nobody() {
    let cluster = cluster(&["sender", "taker"], "").await;
    let chats = Chats::start(&cluster).await;
    let mut sender = cluster.client(0, "sender").await;
    let mut takers = Vec::new();
    for n in 0..4 {
        takers.push(
            cluster
                .client_with(n % NODES, "taker", &format!("r{n}"))
                .await,
        );
    }
    // Six bytes for each, as it is written: 60,000 can be carried and 200,000 cannot.
    let send = |n: usize, count: usize| {
        let body = "'".repeat(count);
        format!("<message to='taker@localhost' type='chat' id='m{n}'><body>{body}</body></message>")
    };
    const COUNT: usize = 24;
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            sender.send(&send(n, 60_000)).await;
        }
        sender.send(&send(COUNT, 200_000)).await;
        loop {
            let stanza = timeout(PATIENCE, sender.stanza()).await;
            let stanza = stanza.expect("an answer in time").unwrap();
            if stanza.local() == "message" {
                assert_eq!(stanza.attr("type"), Some("error"));
                assert_eq!(stanza.attr("id"), Some(&*format!("m{COUNT}")));
                return;
            }
        }
    });
    let mut taking = Vec::new();
    for mut taker in takers {
        taking.push(tokio::spawn(async move {
            for n in 0..COUNT {
                let message = timeout(PATIENCE, taker.message_element()).await;
                let message = message.expect("a message in time").unwrap();
                assert_eq!(message.attr("id"), Some(&*format!("m{n}")));
                taker.acknowledge().await.unwrap();
            }
        }));
    }
    sending.await.unwrap();
    for taker in taking {
        taker.await.unwrap();
    }
    chats.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_that_is_bounced_comes_back_in_full_and_holds_up_nobody() {
    // The sender is as fast as it can be: all of it is there before the session ends.
    let bounce = "[sm]\non_timeout = \"bounce\"\nhibernation_time = \"10s\"\n\
                  [limits]\nstanzas_per_second = 0\nbytes_per_second = 0\n";
    let cluster = cluster(&["sender", "taker"], bounce).await;
    let chats = Chats::start(&cluster).await;
    let mut sender = cluster.client(0, "sender").await;
    let mut taker = cluster.client(1, "taker").await;
    taker.settle().await.unwrap();
    taker.acknowledge().await.unwrap();
    let to = taker.jid.clone();
    taker.wire.cut();
    // More than a queue holds in full: what is beyond it is read back to be returned.
    const COUNT: usize = 60;
    let body = "x".repeat(200_000);
    for n in 0..COUNT {
        let message =
            format!("<message to='{to}' type='chat' id='m{n}'><body>{body}</body></message>");
        sender.send(&message).await;
        sender.settle().await.unwrap();
    }
    let mut back = std::collections::BTreeSet::new();
    while back.len() < COUNT {
        let stanza = timeout(PATIENCE, sender.message_element()).await;
        let stanza = stanza.expect("an error in time").unwrap();
        assert_eq!(stanza.attr("type"), Some("error"));
        assert!(back.insert(stanza.attr("id").unwrap().to_owned()), "twice");
    }
    chats.stop().await;
    for node in 0..NODES {
        until("ready", async || {
            cluster
                .get(node, "/readyz")
                .await
                .is_ok_and(|(status, _)| status == 200)
        })
        .await;
    }
}
