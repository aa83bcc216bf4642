//! For tests of the router and the services: an edge over a database in memory, and actions as text.

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::id::EffectId;
use cluster::session::{Action, Effect, Pending, Relay};
use cluster::{ArchiveId, ShardId};
use proto::stanza::{Packet, Stanza};
use proto::{BareJid, Element, Jid, ns};

use futures_util::future::BoxFuture;

use super::{SessionContext, effects, resolve};
use crate::auth::Accounts;
use crate::config::Config;
use crate::hooks::{ArchiveTail, Edge, Memory, Online, Presences, Registry, Service, Told};
use crate::services;
use crate::storage::{AccountKeys, Storage};

/// The time at which everything happens.
pub(crate) const NOW: u64 = 1_700_000_000_000;

/// Accounts of the domain `example.org`.
pub(crate) const ACCOUNTS: [&str; 3] =
    ["alice@example.org", "bob@example.org", "carol@example.org"];

/// Each account has one available session, of the resource `on`.
struct AllOn;

impl Presences for AllOn {
    fn sessions<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>> {
        self.available(account)
    }

    fn online<'a>(&'a self, _: &'a str, most: usize) -> Told<'a, Online> {
        let online = Online {
            count: ACCOUNTS.len(),
            first: ACCOUNTS.into_iter().take(most).map(bare).collect(),
        };
        Box::pin(std::future::ready(Ok(online)))
    }

    fn available<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, Vec<Jid>> {
        Box::pin(std::future::ready(vec![
            account.with_resource("on").unwrap(),
        ]))
    }

    fn archive_tail<'a>(&'a self, account: &'a BareJid) -> BoxFuture<'a, ArchiveTail> {
        let tail = ArchiveTail {
            rows: Vec::new(),
            // Of one account nothing new is known.
            current: account.local() != Some("carol"),
        };
        Box::pin(std::future::ready(tail))
    }
}

/// An edge with all services.
pub(crate) struct Node {
    pub(crate) edge: Arc<Edge>,
    pub(crate) services: Arc<Registry>,
}

impl std::ops::Deref for Node {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.edge
    }
}

/// An edge with [`ACCOUNTS`] and nothing else.
pub(crate) async fn edge() -> Node {
    edge_with(&[]).await
}

/// The same with these keys of the configuration.
pub(crate) async fn edge_with(sets: &[&str]) -> Node {
    node(services::ALL, sets).await
}

/// The same with one service more.
pub(crate) async fn with_service(service: Service, sets: &[&str]) -> Node {
    node(&[services::ALL, &[service]].concat(), sets).await
}

async fn node(all: &[Service], sets: &[&str]) -> Node {
    let needs = Registry::needs(all);
    let sets: Vec<_> = sets.iter().map(|set| String::from(*set)).collect();
    let config = Config::load(&needs.tables, None, &sets, []).unwrap();
    let services = Arc::new(Registry::new(all, &config).unwrap());
    let storage = Storage::in_memory(&needs.schema).await.unwrap();
    let keys = AccountKeys {
        sha1: None,
        sha256: None,
        sha512: None,
    };
    for account in ACCOUNTS {
        storage
            .create_account(&bare(account), &keys, NOW)
            .await
            .unwrap();
    }
    let edge = Arc::new(Edge {
        trail: crate::trace::Trail::new(1, || 0),
        domains: vec!["example.org".to_owned()],
        accounts: Accounts::new(storage.clone(), || NOW),
        storage,
        presences: Arc::new(AllOn),
        visibility: services.visibility().clone(),
        blocking: services.blocking().clone(),
        nodes: services.nodes().clone(),
        contacts: services.contacts().clone(),
        now: || NOW,
        random: || 7,
        started: NOW - 60_000,
        administrators: config.admin.jids.clone(),
    });
    Node { edge, services }
}

pub(crate) fn bare(jid: &str) -> BareJid {
    BareJid::new(jid).unwrap()
}

/// A session that has not sent presence yet.
pub(crate) fn session(node: &Node, jid: &str) -> SessionContext {
    let session = Jid::new(jid).unwrap();
    SessionContext {
        edge: node.edge.clone(),
        services: node.services.clone(),
        account: session.bare(),
        session,
        available: false,
        memory: Memory::default(),
    }
}

/// What follows from a stanza, as actions.
pub(crate) async fn acts(ctx: &SessionContext, xml: &str) -> Vec<Action> {
    let element = Element::parse_in(ns::CLIENT, xml).unwrap().pop().unwrap();
    resolve(ctx, Stanza::parse(element).unwrap()).await
}

/// What follows from a stanza, as text, without what follows from each initial presence alike.
pub(crate) async fn says(ctx: &SessionContext, xml: &str) -> Vec<String> {
    let actions = acts(ctx, xml).await;
    let actions = actions.iter();
    let told = actions.filter(|action| !matches!(action, Action::BlocklistAt(_)));
    told.map(action).collect()
}

/// Carries out one effect, twice: the second time nothing else may follow.
pub(crate) async fn perform(node: &Node, id: u64, effect: Effect) -> Vec<Relay> {
    let effect = Arc::new(effect);
    let id = EffectId(id);
    let pending = || {
        let effect = effect.clone();
        vec![Pending { id, effect }]
    };
    let first = effects::perform(&node.services, node, ShardId(0), pending()).await;
    let again = effects::perform(&node.services, node, ShardId(0), pending()).await;
    assert_eq!(first, again, "a repeated effect comes to something else");
    let completed = first.into_iter().next().expect("the effect is done");
    completed.relays
}

/// Carries actions on until every subscription stanza has arrived. As text, in order.
pub(crate) async fn settle(node: &Node, actions: Vec<Action>) -> Vec<String> {
    let mut relays: VecDeque<Relay> = actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send(relay) => Some(relay),
            _ => None,
        })
        .collect();
    let mut seen = Vec::new();
    let mut number = 0;
    while let Some(relay) = relays.pop_front() {
        seen.push(self::relay(&relay));
        if let Relay::Subscription(packet) = relay {
            number += 1;
            // Unlike any other of the test, as numbers of effects are.
            let id = number * 1000 + packet.size() as u64;
            relays.extend(perform(node, id, Effect::Subscription(packet)).await);
        }
    }
    seen
}

pub(crate) fn xml(packet: &Packet) -> String {
    let mut out = Vec::new();
    packet.write(&[], &mut out);
    String::from_utf8(out).unwrap()
}

/// An action as text.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Reply(packet) => format!("reply {}", xml(packet)),
        Action::Send(sent) => relay(sent),
        Action::Presence(update) => format!(
            "broadcast {} to {} probing {} showing {}: {}",
            update.priority,
            list(&update.subscribers),
            list(&update.probes),
            update.requests.len(),
            xml(&update.packet)
        ),
        Action::Directed(packet) => format!("directed {}", xml(packet)),
        Action::Carbons(on) => format!("carbons {on}"),
        Action::Interested => "interested".to_owned(),
        Action::PushEnabled(on) => format!("push {on}"),
        Action::FollowsBlocklist => "follows the blocklist".to_owned(),
        Action::Blocklist(update) => format!(
            "blocks {} unblocks {} viewers {} probing {}: {}",
            list(&update.block),
            list(&update.unblock),
            list(&update.viewers),
            list(&update.probes),
            xml(&update.push)
        ),
        Action::BlocklistAt(_) => "checks the blocklist".to_owned(),
        Action::ArchiveStated => "has stated what is archived".to_owned(),
        Action::Interest(nodes) => format!("interested in {}", list(nodes)),
        Action::Result { mid, order, packet } => {
            format!("result {mid} {} {}", order.0, xml(packet))
        }
    }
}

fn relay(relay: &Relay) -> String {
    match relay {
        Relay::Message(message) => {
            assert_eq!(message.mid, ArchiveId::new(NOW, 7));
            format!("message {}", xml(&message.packet))
        }
        Relay::Iq { packet, permitted } => format!("iq permitted={permitted} {}", xml(packet)),
        Relay::Presence { packet, to } => format!("presence to {}: {}", list(to), xml(packet)),
        Relay::Probe { from, to } => format!("{from} probes {}", list(to)),
        Relay::Subscription(packet) => format!("subscription {}", xml(packet)),
        Relay::RosterPush { account, packet } => format!("push to {account}: {}", xml(packet)),
        Relay::Announcement {
            account,
            packet,
            available,
        } => {
            let whom = if *available {
                "available"
            } else {
                "interested"
            };
            format!("notice to {whom} of {account}: {}", xml(packet))
        }
        Relay::NoPush { account, resource } => format!("no push for {resource} of {account}"),
        Relay::Unkept { account, mid, .. } => format!("unkept of {account}: {mid}"),
        Relay::Hidden { account, mids } => format!("hidden of {account}: {}", list(mids)),
        Relay::Blocklist { account, jids, .. } => format!("{account} blocks {}", list(jids)),
        Relay::Event { event, to } => {
            let to = to.iter().map(|to| match to.subscribed {
                true => format!("subscriber {}", to.jid),
                false => to.jid.to_string(),
            });
            let to = list(&Vec::from_iter(to));
            format!("event to {to}: {}", xml(&event.packet))
        }
        Relay::LastEvents {
            session,
            events,
            rest,
        } => {
            let events = events.iter().map(|event| xml(&event.packet));
            let events = list(&Vec::from_iter(events));
            let more = rest.is_some();
            format!("last for {session}, more {more}: {events}")
        }
        Relay::Revealed { account, peer } => format!("{account} may see {peer}"),
        Relay::EndAll { account, reason } => format!("end {account}: {reason:?}"),
        Relay::End { session, reason } => format!("end {session}: {reason:?}"),
        Relay::Broadcast { packet, .. } => format!("to everybody: {}", xml(packet)),
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    format!("[{}]", items.join(" "))
}
