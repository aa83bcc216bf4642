//! Nodes on small file systems: they do not fill them by themselves, and live with others who do (T-75).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::client::{Client, body};
use tests::cluster::Cluster;
use tests::small::Small;
use tests::until;

const USERS: [&str; 8] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi",
];
/// Messages that each has under way.
const TOGETHER: usize = 4;
/// Bytes of each message.
const LONG: usize = 40_000;
/// Everybody says as much as the server takes. What waits for the database is kept small beside the disk: a state
/// that is too large for it is another matter.
const LIMITS: &str = "[limits]\nstanzas_per_second = 0\nbacklog_bytes = 16000000\n";
/// The file system, in MiB.
const SIZE: u64 = 100;
/// Nobody waits for longer, even on a machine that is busy. It is less than what sends clients away.
const SILENCE: Duration = Duration::from_secs(5);
/// A node that can take no entries sends clients away after 5 s, which it counts in looks; it may notice and act a
/// little later.
const AWAY: std::ops::Range<Duration> = Duration::from_secs(4)..Duration::from_secs(15);

/// What all who chat share.
#[derive(Default)]
struct Talk {
    stop: AtomicBool,
    bytes: AtomicU64,
}

/// One of them, with what it said and heard.
struct Chatter {
    client: Client,
    to: String,
    said: usize,
    heard: usize,
}

impl Chatter {
    fn new(client: Client, to: &str) -> Self {
        let to = format!("{to}@localhost");
        let (said, heard) = (0, 0);
        Self {
            client,
            to,
            said,
            heard,
        }
    }

    /// One of so many goes to the archives too, whose speed is not what is tested.
    async fn say(&mut self, padding: &str) {
        let (to, number) = (&self.to, self.said);
        let hint = match number % TOGETHER {
            0 => "",
            _ => "<no-store xmlns='urn:xmpp:hints'/>",
        };
        let body = format!("<body>{number} {padding}</body>");
        let message = format!("<message to='{to}' type='chat'>{body}{hint}</message>");
        self.client.send(&message).await;
        self.said += 1;
    }

    fn hear(&mut self, text: &str) {
        let number = text.split(' ').next().unwrap().parse();
        assert_eq!(number, Ok(self.heard), "{}", self.client.jid);
        self.heard += 1;
    }

    /// Says long things until all are told to stop, and takes what comes, which must be what is next.
    async fn chat(mut self, talk: Arc<Talk>) -> Self {
        let padding = "x".repeat(LONG);
        while !talk.stop.load(Ordering::SeqCst) {
            let begun = Instant::now();
            for _ in 0..TOGETHER {
                self.say(&padding).await;
            }
            self.client.settle().await.unwrap();
            let (silence, user) = (begun.elapsed(), &self.client.user);
            assert!(silence < SILENCE, "{user} waited for {silence:?}");
            let bytes = (TOGETHER * LONG) as u64;
            talk.bytes.fetch_add(bytes, Ordering::SeqCst);
            for message in self.client.take_messages(|_| true) {
                self.hear(&body(&message));
            }
        }
        self
    }

    async fn hear_all(&mut self, said: usize) {
        while self.heard < said {
            let text = self.client.message().await.unwrap();
            self.hear(&text);
        }
    }
}

/// The lines of a node's log that tell of errors and of what is unusual.
fn complaints(cluster: &Cluster, node: usize) -> Vec<String> {
    let log = std::fs::read_to_string(cluster.log(node)).unwrap();
    let loud = |line: &&str| line.contains(" ERROR ") || line.contains(" WARN ");
    log.lines().filter(loud).map(str::to_owned).collect()
}

/// Clients of the first of so many nodes say so many times what its file system can hold. It never touches the
/// reserve, nobody waits for long, and nothing is lost, also if the node is killed afterwards.
async fn check_much_is_said(nodes: usize, times: u64) {
    let cluster = Cluster::prepare(nodes, LIMITS).unwrap();
    let Some(small) = Small::mount(&cluster.data_dir(0), &format!("{SIZE}m")) else {
        return;
    };
    let mut cluster = cluster.started(&USERS).await;
    let talk = Arc::new(Talk::default());
    let mut all = Vec::new();
    for (n, user) in USERS.iter().enumerate() {
        let client = cluster.client(0, user).await;
        all.push(Chatter::new(client, USERS[(n + 1) % USERS.len()]));
    }
    let chats = all.into_iter();
    let chats: Vec<_> = chats
        .map(|chatter| tokio::spawn(chatter.chat(talk.clone())))
        .collect();
    while talk.bytes.load(Ordering::SeqCst) < (times * SIZE) << 20 {
        let left = small.free();
        assert!(left > (SIZE << 20) / 20, "{left} bytes are left");
        assert!(!chats.iter().any(|chat| chat.is_finished()), "one gave up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    talk.stop.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for chat in chats {
        all.push(chat.await.unwrap());
    }
    assert_eq!(complaints(&cluster, 0), [] as [String; 0]);
    cluster.kill(0);
    cluster.run(0);
    cluster.ready(0).await;
    for chatter in &mut all {
        chatter.client.resume(cluster.address(0)).await;
        chatter.say("end").await;
    }
    for n in 0..all.len() {
        let said = all[n].said;
        let next = (n + 1) % all.len();
        all[next].hear_all(said).await;
        all[next].client.check_nothing_more().await;
    }
    drop((cluster, small));
}

#[tokio::test]
async fn t_75_a_node_that_is_alone_never_fills_its_disk_however_much_is_said() {
    check_much_is_said(1, 3).await;
}

#[tokio::test]
async fn t_75_a_node_of_several_never_fills_its_disk_however_much_is_said() {
    check_much_is_said(3, 2).await;
}

/// Somebody else fills the disk of the first of so many nodes. Who is connected there is sent away, finds the session
/// at another node, if there is one, and is welcome again when there is room.
async fn check_others_fill_the_disk(nodes: usize) {
    let cluster = Cluster::prepare(nodes, "").unwrap();
    let Some(small) = Small::mount(&cluster.data_dir(0), &format!("{SIZE}m")) else {
        return;
    };
    let mut cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(0, "bob").await;
    let to_bob = bob.jid.to_string();
    let filling = Instant::now();
    small.fill_up();
    let end = alice.wire.end().await;
    let (took, passing) = (filling.elapsed(), end.is_passing());
    assert!(passing && AWAY.contains(&took), "{end} after {took:?}");
    assert!(bob.wire.end().await.is_passing());
    let (status, why) = cluster.get(0, "/readyz").await.unwrap();
    assert!(status == 503 && why.contains("disk"), "{why}");
    until("nobody listens", async || {
        TcpStream::connect(cluster.address(0)).is_err()
    })
    .await;
    if nodes > 1 {
        alice.resume(cluster.address(1)).await;
        bob.resume(cluster.address(2)).await;
        for n in 0..50 {
            alice.say(&to_bob, &format!("elsewhere {n}")).await;
        }
        bob.expect((0..50).map(|n| format!("elsewhere {n}"))).await;
    }
    small.make_room();
    cluster.ready(0).await;
    until("it listens", async || {
        TcpStream::connect(cluster.address(0)).is_ok()
    })
    .await;
    alice.resume(cluster.address(0)).await;
    bob.resume(cluster.address(0)).await;
    alice.say(&to_bob, "back").await;
    bob.expect(["back".to_owned()]).await;
    bob.check_nothing_more().await;
    let said = complaints(&cluster, 0);
    let errors: Vec<_> = said.iter().filter(|line| line.contains("ERROR")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("the disk is"),
        "{said:?}"
    );
    // Besides that it is not ready, and that clients were sent away.
    assert!(said.len() <= 3, "{said:?}");
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    let back = log.lines().filter(|line| line.contains("there is room"));
    assert_eq!(back.count(), 1);
    drop((cluster, small));
}

#[tokio::test]
async fn t_75_clients_of_a_node_without_room_go_elsewhere_and_return() {
    check_others_fill_the_disk(3).await;
}

#[tokio::test]
async fn t_75_clients_of_a_node_that_is_alone_without_room_wait_and_return() {
    check_others_fill_the_disk(1).await;
}
