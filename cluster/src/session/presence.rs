//! Presence: broadcasts, probes, and what a newly available session is given (RFC 6121 §4).

use std::collections::{BTreeMap, BTreeSet};

use proto::stanza::{Kind, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::session::Available;
use super::state::ShardState;
use super::step::Step;
use super::*;
use crate::id::ShardId;
use crate::shard::map::shard_of;

impl ShardState {
    /// A session's own presence changes (IM-39…41).
    pub(super) fn presence(&mut self, jid: &Jid, update: PresenceUpdate, step: &mut Step) {
        let account = jid.bare();
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let available = update.packet.header.kind == Kind::Presence(PresenceType::Available);
        let was = session.presence.as_ref().map(|p| p.priority);
        if !available && was.is_none() && session.directed.is_empty() {
            return;
        }
        session.presence = available.then(|| Available {
            packet: update.packet.clone(),
            priority: update.priority,
        });
        let directed = match available {
            true => Default::default(),
            false => std::mem::take(&mut session.directed),
        };
        let directed = self.strangers(jid, directed);
        let subscribers = update.subscribers.iter().map(Jid::from).collect();
        match (available, was) {
            (true, Some(_)) => self.spread_presence(&update.packet, subscribers, step),
            (true, None) => {
                self.take_back_farewell(jid, &update.subscribers, step);
                self.spread_presence(&update.packet, subscribers, step);
            }
            (false, Some(_)) => self.say_gone(&update.packet, subscribers, directed, step),
            // Subscribers have not seen it.
            (false, None) => self.say_gone_to(jid, directed, step),
        }
        self.show_to_own(&account, &update.packet, step);
        if !available {
            // The one that left sees it too (RFC 6121 §4.5.2).
            let mut packet = update.packet;
            packet.header.to = Some(Jid::from(&account));
            self.enqueue_plain(jid, packet, step);
            return;
        }
        if was.is_none() {
            self.welcome(jid, &update, step);
        }
        if update.priority >= 0 && was.is_none_or(|p| p < 0) {
            self.take_undelivered(jid, step);
        }
    }

    /// What an initial presence brings: the account's other resources, answers to probes, open requests.
    fn welcome(&mut self, jid: &Jid, update: &PresenceUpdate, step: &mut Step) {
        let account = jid.bare();
        let others: Vec<Packet> = self
            .available(&account)
            .into_iter()
            .filter(|(other, _)| other != jid)
            .map(|(_, packet)| packet)
            .collect();
        for mut packet in others {
            packet.header.to = Some(jid.clone());
            self.enqueue_plain(jid, packet, step);
        }
        for request in &update.requests {
            self.enqueue_plain(jid, request.clone(), step);
        }
        self.spread_probe(jid, update.probes.clone(), step);
    }

    /// The account's available sessions see the presence of one of them (IM-39).
    pub(super) fn show_to_own(&mut self, account: &BareJid, packet: &Packet, step: &mut Step) {
        for (own, _) in self.available(account) {
            let mut copy = packet.clone();
            copy.header.to = Some(account.into());
            self.enqueue_plain(&own, copy, step);
        }
    }

    /// The account's available sessions with their last broadcast.
    pub(super) fn available(&self, account: &BareJid) -> Vec<(Jid, Packet)> {
        let Some(user) = self.users.get(account) else {
            return Vec::new();
        };
        let available = user.sessions.iter().filter_map(|(resource, session)| {
            let presence = session.presence.as_ref()?;
            Some((
                account.with_prepared_resource(resource),
                presence.packet.clone(),
            ))
        });
        available.collect()
    }

    /// One copy for each shard, with the addressees that live there.
    pub(super) fn spread_presence(&mut self, packet: &Packet, to: Vec<Jid>, step: &mut Step) {
        let mut by_shard: BTreeMap<ShardId, Vec<Jid>> = BTreeMap::new();
        for jid in to {
            by_shard
                .entry(shard_of(&jid.bare(), self.shards))
                .or_default()
                .push(jid);
        }
        for (shard, to) in by_shard {
            let relay = Relay::Presence {
                packet: packet.clone(),
                to,
            };
            self.send_to_shard(shard, relay, step);
        }
    }

    pub(super) fn spread_probe(&mut self, from: &Jid, to: Vec<BareJid>, step: &mut Step) {
        let mut by_shard: BTreeMap<ShardId, Vec<BareJid>> = BTreeMap::new();
        for account in to {
            by_shard
                .entry(shard_of(&account, self.shards))
                .or_default()
                .push(account);
        }
        for (shard, to) in by_shard {
            let relay = Relay::Probe {
                from: from.clone(),
                to,
            };
            self.send_to_shard(shard, relay, step);
        }
    }

    fn send_to_shard(&mut self, shard: ShardId, relay: Relay, step: &mut Step) {
        if shard == self.id {
            self.deliver(relay, step);
        } else {
            self.post(shard, relay);
        }
    }

    /// Presence arrives for accounts or sessions of this shard (IM-C).
    pub(super) fn deliver_presence(&mut self, packet: &Packet, to: Vec<Jid>, step: &mut Step) {
        let gone = matches!(
            packet.header.kind,
            Kind::Presence(PresenceType::Unavailable | PresenceType::Error)
        );
        // Only a session that is named may be among those of its account too.
        let named = to.iter().any(|to| to.resource().is_some());
        let mut told: BTreeSet<Jid> = BTreeSet::new();
        for to in to {
            let mut copy = packet.clone();
            copy.header.to = Some(to.clone());
            let targets: Vec<Jid> = if to.resource().is_some() {
                vec![to]
            } else {
                self.available(&to.bare())
                    .into_iter()
                    .map(|(jid, _)| jid)
                    .collect()
            };
            for target in targets {
                if named && !told.insert(target.clone()) {
                    continue;
                }
                if gone
                    && let (Some(session), Some(from)) =
                        (self.session_mut(&target), &packet.header.from)
                {
                    session.directed.remove(from);
                }
                self.enqueue_plain(&target, copy.clone(), step);
            }
        }
    }

    /// Each of the accounts shows `from`, which may see it, where it is available (IM-43).
    pub(super) fn answer_probe(&mut self, from: &Jid, accounts: Vec<BareJid>, step: &mut Step) {
        for account in accounts {
            for (_, packet) in self.available(&account) {
                self.spread_presence(&packet, vec![from.clone()], step);
            }
        }
    }
}
