//! Presence: broadcasts, probes, and what a newly available session is given (RFC 6121 §4).

use std::collections::{BTreeMap, BTreeSet};

use proto::stanza::{Kind, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::state::{Available, ShardState};
use super::*;
use crate::id::EffectId;
use crate::id::ShardId;
use crate::shard::map::shard_of;

impl ShardState {
    /// A session's own presence changes (IM-39…41).
    pub(super) fn presence(&mut self, jid: &Jid, update: PresenceUpdate, out: &mut Vec<Output>) {
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
        let directed = if available {
            Default::default()
        } else {
            std::mem::take(&mut session.directed)
        };
        let directed = self.strangers(jid, directed);
        let subscribers = update.subscribers.iter().map(Jid::from);
        let to = together(subscribers, directed);
        self.spread_presence(&update.packet, to, out);
        self.show_to_own(&account, &update.packet, out);
        if !available {
            // The one that left sees it too (RFC 6121 §4.5.2).
            let mut packet = update.packet;
            packet.header.to = Some(Jid::from(&account));
            self.enqueue_plain(jid, packet, out);
            return;
        }
        if was.is_none() {
            self.welcome(jid, &update, out);
        }
        if update.priority >= 0 && was.is_none_or(|p| p < 0) {
            self.take_undelivered(jid, out);
        }
    }

    /// Those to whom a session directed its presence, without those of its own account who hear of its
    /// broadcasts anyway.
    pub(super) fn strangers(&self, jid: &Jid, directed: BTreeSet<Jid>) -> Vec<Jid> {
        let account = jid.bare();
        let is_one = |to: &Jid| {
            let unavailable = || self.session(to).is_some_and(|s| s.presence.is_none());
            !to.belongs_to(&account) || (to != jid && unavailable())
        };
        directed.into_iter().filter(is_one).collect()
    }

    /// The subscribers of a session that is gone are known: they are told, and with them those to whom it
    /// directed its presence, each once (IM-41, IM-47).
    pub(super) fn say_gone(
        &mut self,
        packet: &Packet,
        directed: &[Jid],
        relays: Vec<Relay>,
        rest: Option<EffectId>,
        out: &mut Vec<Output>,
    ) {
        // Whom the rest is for is told with it.
        let pending = rest.and_then(|rest| self.pending.get(rest).cloned());
        let later = match pending.as_deref() {
            Some(Effect::UnavailableBehind { directed, .. }) => directed.as_slice(),
            _ => &[],
        };
        let (mut packet, mut subscribers) = (packet.clone(), Vec::new());
        for relay in relays {
            match relay {
                Relay::Presence { packet: said, to } => {
                    packet = said;
                    subscribers.extend(to);
                }
                other => self.send(other, out),
            }
        }
        let from = packet.header.from.as_ref();
        let back = from.and_then(|jid| self.session(jid));
        // Who was shown the next session of that name must not be told afterwards that it is gone.
        let shown = |to: &&Jid| back.is_some_and(|s| s.directed.contains(*to));
        let now = directed
            .iter()
            .filter(|to| !later.contains(to) && !shown(to));
        let mut directed: Vec<Jid> = now.cloned().collect();
        if back.is_some_and(|s| s.presence.is_some()) {
            // Back before the subscribers were told: they have seen no gap.
            let bare: BTreeSet<BareJid> = subscribers.drain(..).map(|to: Jid| to.bare()).collect();
            directed.retain(|to| !bare.contains(&to.bare()));
            if let Some(rest) = rest.filter(|_| later.is_empty()) {
                self.remove_effect(rest);
            }
        }
        let to = together(subscribers.into_iter(), directed);
        self.spread_presence(&packet, to, out);
    }

    /// What an initial presence brings: the account's other resources, answers to probes, open requests.
    fn welcome(&mut self, jid: &Jid, update: &PresenceUpdate, out: &mut Vec<Output>) {
        let account = jid.bare();
        let others: Vec<Packet> = self
            .available(&account)
            .into_iter()
            .filter(|(other, _)| other != jid)
            .map(|(_, packet)| packet)
            .collect();
        for mut packet in others {
            packet.header.to = Some(jid.clone());
            self.enqueue_plain(jid, packet, out);
        }
        for request in &update.requests {
            self.enqueue_plain(jid, request.clone(), out);
        }
        self.spread_probe(jid, update.probes.clone(), out);
    }

    /// The account's available sessions see the presence of one of them (IM-39).
    pub(super) fn show_to_own(
        &mut self,
        account: &BareJid,
        packet: &Packet,
        out: &mut Vec<Output>,
    ) {
        for (own, _) in self.available(account) {
            let mut copy = packet.clone();
            copy.header.to = Some(account.into());
            self.enqueue_plain(&own, copy, out);
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
    pub(super) fn spread_presence(&mut self, packet: &Packet, to: Vec<Jid>, out: &mut Vec<Output>) {
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
            self.send_to_shard(shard, relay, out);
        }
    }

    pub(super) fn spread_probe(&mut self, from: &Jid, to: Vec<BareJid>, out: &mut Vec<Output>) {
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
            self.send_to_shard(shard, relay, out);
        }
    }

    fn send_to_shard(&mut self, shard: ShardId, relay: Relay, out: &mut Vec<Output>) {
        if shard == self.id {
            self.deliver(relay, out);
        } else {
            self.post(shard, relay);
        }
    }

    /// Presence arrives for accounts or sessions of this shard (IM table C).
    pub(super) fn deliver_presence(
        &mut self,
        packet: &Packet,
        to: Vec<Jid>,
        out: &mut Vec<Output>,
    ) {
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
                self.enqueue_plain(&target, copy.clone(), out);
            }
        }
    }

    /// Each of the accounts shows `from`, which may see it, where it is available (IM-43 d).
    pub(super) fn answer_probe(
        &mut self,
        from: &Jid,
        accounts: Vec<BareJid>,
        out: &mut Vec<Output>,
    ) {
        for account in accounts {
            for (_, packet) in self.available(&account) {
                self.spread_presence(&packet, vec![from.clone()], out);
            }
        }
    }
}

/// Everybody once who is a subscriber or to whom presence was directed.
fn together(subscribers: impl Iterator<Item = Jid>, directed: Vec<Jid>) -> Vec<Jid> {
    let few = directed.is_empty();
    let mut to: Vec<Jid> = subscribers.chain(directed).collect();
    if !few {
        to.sort_unstable();
        to.dedup();
    }
    to
}
