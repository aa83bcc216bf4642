//! Who is let in, and when, over two shards of which one takes nothing.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::BareJid;
use proto::stanza::{Header, Kind, MessageType, Packet};
use tokio::time::timeout;

use super::*;
use crate::ArchiveId;
use crate::lead::fake::{FakeGroup, Node, World};
use crate::lead::tests::{accounts, log_in};
use crate::session::outbox::SLOW;
use crate::session::{Command, Inbound, Message, Outcome, Relay, Traits};

struct Shards {
    world: Arc<World>,
    node: Arc<Node>,
    admission: Arc<Admission<FakeGroup>>,
    near: BareJid,
    far: BareJid,
}

/// The first shard has a leader, the second has none. No effect is carried out.
fn shards() -> Shards {
    let world = World::new(2);
    let node = world.node(1);
    node.host.failures.store(u32::MAX, Ordering::SeqCst);
    world.appoint(0, Some(1));
    let [near, far] = accounts(2).try_into().expect("two");
    Shards {
        admission: Arc::new(Admission::new(node.groups.clone().into())),
        world,
        node,
        near,
        far,
    }
}

impl Shards {
    fn chat(&self, to: &BareJid) -> Vec<Vec<Action>> {
        self.chat_of(to, 100_000)
    }

    fn chat_of(&self, to: &BareJid, bytes: usize) -> Vec<Vec<Action>> {
        let header = Header {
            kind: Kind::Message(MessageType::Chat),
            from: Some(self.near.with_resource("r").expect("valid")),
            to: Some(to.into()),
            id: None,
            lang: None,
        };
        let payload = Bytes::from(vec![b'x'; bytes]);
        let message = Message {
            packet: Packet { header, payload },
            mid: ArchiveId::new(1, 1),
            traits: Traits {
                archive_sent: to == &self.near,
                archive_received: true,
                ..Traits::default()
            },
        };
        vec![vec![Action::Send(Relay::Message(message))]]
    }

    /// Says so much to an account, without asking.
    async fn say(&self, to: &BareJid, bytes: u64) {
        let (session, epoch) = log_in(&self.node, 1, &self.near, 60).await;
        for n in 0..bytes.div_ceil(100_000) {
            let inbound = Inbound {
                session: session.clone(),
                epoch,
                first: n + 2,
                stanzas: self.chat(to),
            };
            let outcome = self.node.proposers[0]
                .propose(Command::Inbound(inbound))
                .await;
            assert_eq!(outcome, Ok(Outcome::Handled { next: n + 3 }));
        }
    }

    async fn admit(&self, to: &BareJid) {
        let chat = self.chat(to);
        let (_, refused) = self.admission.admit(ShardId(0), &chat).await;
        assert_eq!(refused, BTreeSet::new());
    }

    /// Whether one who asks now is let in within this time.
    async fn is_let_in(&self, to: &BareJid, within: Duration) -> bool {
        timeout(within, self.admit(to)).await.is_ok()
    }
}

/// Nothing has to be waited for.
const SOON: Duration = Duration::from_millis(1);
const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn who_sends_where_much_waits_is_slow_and_nobody_else() {
    let shards = shards();
    shards.say(&shards.far, SLOW).await;
    assert!(!shards.is_let_in(&shards.far, A_WHILE).await);
    assert!(shards.is_let_in(&shards.near, SOON).await);
    shards.world.appoint(1, Some(1));
    assert!(shards.is_let_in(&shards.far, A_WHILE).await);
}

#[tokio::test]
async fn a_shard_that_takes_nothing_is_not_waited_for_for_ever() {
    let shards = shards();
    shards.say(&shards.far, SLOW).await;
    assert!(!shards.is_let_in(&shards.far, A_WHILE).await);
    assert!(shards.is_let_in(&shards.far, 6 * A_WHILE).await);
}

#[tokio::test]
async fn whoever_comes_later_does_not_pass_those_who_wait() {
    let shards = shards();
    shards.say(&shards.far, SLOW).await;
    let first = shards.admit(&shards.far);
    tokio::pin!(first);
    assert!(timeout(A_WHILE, &mut first).await.is_err());
    let trim = Command::Trim {
        to: ShardId(1),
        upto: 50,
    };
    assert_eq!(
        shards.node.proposers[0].propose(trim).await,
        Ok(Outcome::Done)
    );
    assert!(!shards.is_let_in(&shards.far, SOON).await);
    assert!(shards.is_let_in(&shards.near, SOON).await);
    first.await;
    assert!(shards.is_let_in(&shards.far, SOON).await);
}

#[tokio::test]
async fn who_says_little_passes_those_who_say_much() {
    let shards = shards();
    shards.say(&shards.far, SLOW).await;
    assert!(!shards.is_let_in(&shards.far, A_WHILE).await);
    let little = shards.chat_of(&shards.far, 1000);
    let admitted = shards.admission.admit(ShardId(0), &little);
    assert!(timeout(SOON, admitted).await.is_ok());
}

#[tokio::test]
async fn of_what_is_large_a_node_has_little_under_way_to_a_shard() {
    let shards = shards();
    // To oneself nothing waits anywhere else.
    let large = shards.chat_of(&shards.near, 60_000);
    let small = shards.chat_of(&shards.near, 1000);
    let admit = async |chat: &Vec<Vec<Action>>, shard| {
        let admitted = shards.admission.admit(ShardId(shard), chat);
        timeout(A_WHILE, admitted).await.ok()
    };
    let first = admit(&large, 0).await;
    let _second = admit(&large, 0).await.expect("there is room for two");
    assert!(admit(&large, 0).await.is_none());
    assert!(admit(&small, 0).await.is_some());
    assert!(admit(&large, 1).await.is_some());
    drop(first);
    assert!(admit(&large, 0).await.is_some());
}
