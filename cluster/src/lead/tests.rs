//! Proposals and a leader's duties over shards whose leaders come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto::stanza::{Header, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fake::{Node, World};
use super::retire;
use crate::format::Version;
use crate::id::Owner;
use crate::peers::{Away, Peers};
use crate::propose::Proposer;
use crate::session::*;
use crate::shard::map::shard_of;
use crate::{ArchiveId, BootId, ConnId, Epoch, NodeId, ShardId, SmId};

pub(crate) fn owner(node: u64) -> Owner {
    Owner {
        node: NodeId(node),
        boot: BootId(1),
        conn: ConnId(1),
    }
}

/// An account of each of the first `shards` shards.
pub(crate) fn accounts(shards: u16) -> Vec<BareJid> {
    let all = (0..).map(|n| BareJid::new(&format!("user{n}@example.org")).expect("valid"));
    let found =
        (0..shards).map(|shard| all.clone().find(|a| shard_of(a, shards) == ShardId(shard)));
    found
        .map(|account| account.expect("all shards have accounts"))
        .collect()
}

fn packet(kind: Kind, from: &Jid, to: Option<&BareJid>, text: &str) -> Packet {
    let to = to.map(Jid::from);
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Packet {
        header: Header {
            kind,
            from: Some(from.clone()),
            to,
            id: None,
            lang: None,
        },
        payload,
    }
}

fn proposer<'a>(node: &'a Node, account: &BareJid) -> &'a Proposer {
    &node.proposers[usize::from(shard_of(account, node.proposers.len() as u16).0)]
}

/// A session that may be resumed, with presence.
pub(crate) async fn log_in(node: &Node, id: u64, account: &BareJid, max: u32) -> (Jid, Epoch) {
    let session = account.with_resource("r").expect("valid");
    let proposer = proposer(node, account);
    let bind = Bind {
        session: session.clone(),
        owner: owner(id),
    };
    let Ok(Outcome::Bound { epoch }) = proposer.propose(Command::Bind(bind)).await else {
        panic!("not bound")
    };
    let smid = Some(SmId(session.as_str().into()));
    let enable = Enable {
        session: session.clone(),
        epoch,
        after: 0,
        smid,
        max,
        seed: 0,
    };
    assert_eq!(
        proposer.propose(Command::Enable(enable)).await,
        Ok(Outcome::Done)
    );
    let update = PresenceUpdate {
        packet: packet(Kind::Presence(PresenceType::Available), &session, None, ""),
        priority: 0,
        subscribers: Vec::new(),
        probes: Vec::new(),
        requests: Vec::new(),
    };
    let stanzas = vec![vec![Action::Presence(update)]];
    let inbound = Inbound {
        session: session.clone(),
        epoch,
        first: 1,
        stanzas,
    };
    assert_eq!(
        proposer.propose(Command::Inbound(inbound)).await,
        Ok(Outcome::Handled { next: 2 })
    );
    (session, epoch)
}

/// Sends `count` numbered messages, each acknowledged before the next.
async fn send(node: &Node, (session, epoch): (Jid, Epoch), to: &BareJid, count: u64) {
    for n in 0..count {
        let message = Message {
            packet: packet(
                Kind::Message(MessageType::Chat),
                &session,
                Some(to),
                &format!("<body>{n}</body>"),
            ),
            mid: ArchiveId::new(1, u128::from(n)),
            traits: Traits {
                archive_received: true,
                offline: true,
                ..Traits::default()
            },
        };
        let stanzas = vec![vec![Action::Send(Relay::Message(message))]];
        let inbound = Inbound {
            session: session.clone(),
            epoch,
            first: n + 2,
            stanzas,
        };
        let outcome = proposer(node, &session.bare())
            .propose(Command::Inbound(inbound))
            .await;
        assert_eq!(outcome, Ok(Outcome::Handled { next: n + 3 }));
    }
}

/// Waits until `done`, for a while.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn chats(node: &Node) -> Vec<String> {
    node.host
        .delivered()
        .into_iter()
        .filter(|payload| payload.starts_with("<body>"))
        .collect()
}

fn expected(count: u64) -> Vec<String> {
    (0..count).map(|n| format!("<body>{n}</body>")).collect()
}

fn settled(world: &World, shards: u16) -> bool {
    (0..shards).map(ShardId).all(|shard| {
        let state = world.state(shard);
        let empty = |to| state.outbox_range(ShardId(to)).0 == state.outbox_range(ShardId(to)).1;
        state.pending_count() == 0 && (0..shards).all(empty)
    })
}

#[tokio::test]
async fn one_node_binds_and_delivers_between_shards_and_tidies_up() {
    let world = World::new(2);
    let node = world.node(1);
    (0..2).for_each(|shard| world.appoint(shard, Some(1)));
    let accounts = accounts(2);
    let sender = log_in(&node, 1, &accounts[0], 60).await;
    node.host.outputs.lock().expect("whole").clear();
    log_in(&node, 1, &accounts[1], 60).await;
    send(&node, sender, &accounts[1], 20).await;
    until("all is delivered", || chats(&node) == expected(20)).await;
    until("nothing is left to do", || settled(&world, 2)).await;
}

#[tokio::test]
async fn im_messages_arrive_once_and_in_order_while_leaders_change_and_answers_get_lost() {
    let world = World::new(3);
    let nodes: Vec<Arc<Node>> = (1..=3).map(|id| world.node(id)).collect();
    (0..3).for_each(|shard| world.appoint(shard, Some(u64::from(shard) + 1)));
    let accounts = accounts(3);
    let sender = log_in(&nodes[0], 1, &accounts[1], 60).await;
    log_in(&nodes[2], 3, &accounts[2], 60).await;
    world.lossy.store(4, Ordering::SeqCst);
    let mover = tokio::spawn({
        let world = world.clone();
        async move {
            for n in 0..u64::MAX {
                tokio::time::sleep(Duration::from_millis(15)).await;
                world.appoint((n % 3) as u16, None);
                tokio::time::sleep(Duration::from_millis(5)).await;
                world.appoint((n % 3) as u16, Some(n * 7 % 3 + 1));
            }
        }
    });
    send(&nodes[0], sender, &accounts[2], 60).await;
    until("all is delivered", || chats(&nodes[2]) == expected(60)).await;
    mover.abort();
    let _ = mover.await;
    (0..3).for_each(|shard| world.appoint(shard, Some(1)));
    until("nothing is left to do", || settled(&world, 3)).await;
    assert_eq!(chats(&nodes[2]), expected(60));
}

#[tokio::test]
async fn effects_that_fail_are_repeated_in_order_and_by_the_next_leader() {
    let world = World::new(1);
    let (first, second) = (world.node(1), world.node(2));
    world.appoint(0, Some(1));
    let account = accounts(1).remove(0);
    first.host.failures.store(u32::MAX, Ordering::SeqCst);
    let sender = log_in(&first, 1, &account, 60).await;
    send(&first, sender, &account, 3).await;
    until("they are tried twice", || {
        first.host.performed.lock().expect("whole").len() > 6
    })
    .await;
    second.host.failures.store(2, Ordering::SeqCst);
    world.kill(1);
    world.appoint(0, Some(2));
    until("the next leader does them", || {
        world.state(ShardId(0)).pending_count() == 0
    })
    .await;
    let ids = [&first, &second].map(|node| {
        let performed = node.host.performed.lock().expect("whole");
        let ids = performed.iter().take(3).map(|pending| pending.id.0);
        ids.collect::<Vec<u64>>()
    });
    // Numbers follow the clock, which may have moved between two messages.
    assert_eq!((ids[0][0], ids[1].len()), (ids[1][0], 3));
    assert!(ids[1].is_sorted_by(|one, next| one < next), "{ids:?}");
    assert_eq!(second.host.failures.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_proposal_waits_for_a_leader_and_lazy_ones_for_company() {
    let world = World::new(1);
    let (leader, other) = (world.node(1), world.node(2));
    let account = accounts(1).remove(0);
    let waiting = tokio::spawn({
        let (other, account) = (other.clone(), account.clone());
        async move { log_in(&other, 2, &account, 60).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    world.appoint(0, Some(1));
    let (session, epoch) = waiting.await.expect("binds");
    send(&other, (session.clone(), epoch), &account, 1).await;
    let queue_length = || world.state(ShardId(0)).sessions(&account)[0].queue;
    assert!(queue_length() > 0);
    other.proposers[0].propose_lazily(Command::Acknowledge(Acknowledge {
        session,
        epoch,
        upto: 9,
    }));
    until("the acknowledgement has gone", || queue_length() == 0).await;
    drop(leader);
}

#[tokio::test]
async fn hibernation_ends_by_itself_in_a_silent_shard() {
    let world = World::new(1);
    let node = world.node(1);
    world.appoint(0, Some(1));
    let account = accounts(1).remove(0);
    let (session, epoch) = log_in(&node, 1, &account, 1).await;
    let lost = Command::Lost { session, epoch };
    assert_eq!(node.proposers[0].propose(lost).await, Ok(Outcome::Done));
    assert_eq!(world.state(ShardId(0)).counts(), (1, 1));
    until("it has expired", || {
        world.state(ShardId(0)).counts() == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn the_sessions_of_a_lost_process_hibernate() {
    let world = World::new(1);
    let (leader, _other) = (world.node(1), world.node(2));
    let peers = |boot: Option<u64>| Peers {
        up: boot
            .map(|boot| (NodeId(2), BootId(boot)))
            .into_iter()
            .collect(),
        expected: 1,
        away: BTreeMap::from([(
            NodeId(2),
            Away {
                boot: BootId(1),
                since: Instant::now(),
                gone: boot.is_none(),
            },
        )]),
    };
    leader.peers.send_replace(peers(Some(1)));
    world.appoint(0, Some(1));
    let account = accounts(1).remove(0);
    log_in(&leader, 2, &account, 60).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.state(ShardId(0)).counts(), (1, 0));
    leader.peers.send_replace(peers(None));
    until("it hibernates", || {
        world.state(ShardId(0)).counts() == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_command_that_some_member_cannot_apply_is_refused_until_all_can() {
    let world = World::new(1);
    let node = world.node(1);
    node.formats.send_replace(Version::V1);
    world.appoint(0, Some(1));
    let settings = Command::Settings(Settings::default());
    let since = settings.since();
    let refused = node.proposers[0].propose(settings.clone()).await;
    assert_eq!(refused, Ok(Outcome::NotYet { since }));
    assert_eq!(world.state(ShardId(0)).format(), Version::V1);
    node.formats.send_replace(Version::V2);
    assert_eq!(
        node.proposers[0].propose(settings.clone()).await,
        Ok(Outcome::Done)
    );
    // A node that has just started and has not met all others yet finds it in the shard that they can.
    node.formats.send_replace(Version::V1);
    assert_eq!(node.proposers[0].propose(settings).await, Ok(Outcome::Done));
}

#[tokio::test]
async fn a_shard_follows_the_settings_of_whoever_leads_it() {
    let world = World::new(1);
    let (one, two) = (world.node(1), world.node(2));
    let follows = |limit| world.state(ShardId(0)).settings().max_old_sessions == limit;
    let settings = |max_old_sessions| Settings {
        max_old_sessions,
        ..Settings::default()
    };
    one.settings.send_replace(settings(3));
    two.settings.send_replace(settings(4));
    world.appoint(0, Some(1));
    until("the first leads", || follows(3)).await;
    one.settings.send_replace(settings(5));
    until("its configuration has changed", || follows(5)).await;
    world.appoint(0, Some(2));
    until("the second leads", || follows(4)).await;
}

#[tokio::test]
async fn m_13_whoever_leads_tells_its_shard_who_is_no_longer_a_member() {
    let world = World::new(2);
    let nodes = [world.node(1), world.node(2)];
    let set = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
    let orders = watch::Sender::new(vec![set(&[7]), set(&[])]);
    let mut tasks = JoinSet::new();
    for (node, shard) in nodes.iter().flat_map(|node| [(node, 0), (node, 1)]) {
        let (group, proposer) = (node.groups[shard].clone(), node.proposers[shard].clone());
        tasks.spawn(retire::run(group, proposer, orders.subscribe()));
    }
    let knows = |shard, nodes: &[u64]| world.state(ShardId(shard)).retired() == set(nodes);
    world.appoint(0, Some(1));
    until("the first has told it", || knows(0, &[7])).await;
    // It is gone before the other shard has heard of it.
    world.kill(1);
    orders.send_replace(vec![set(&[]), set(&[7])]);
    world.appoint(1, Some(2));
    until("the second has told the other", || knows(1, &[7])).await;
    assert!(knows(0, &[7]));
}
