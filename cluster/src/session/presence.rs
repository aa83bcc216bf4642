//! Presence: broadcasts, probes, and what a newly available session is given (RFC 6121 §4).

use std::collections::{BTreeMap, BTreeSet};

use proto::stanza::{Kind, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::action::PresenceUpdate;
use super::cow::CopyOnWrite;
use super::relay::Relay;
use super::session::Available;
use super::state::ShardState;
use super::step::Step;
use crate::id::ShardId;

impl ShardState {
    /// A session's own presence changes (IM-39…41).
    pub(super) fn presence(&mut self, jid: &Jid, mut update: PresenceUpdate, step: &mut Step) {
        let account = jid.bare();
        self.leave_out_blocked(&account, &mut update.subscribers, |to| Some(to.as_jid()));
        self.leave_out_blocked(&account, &mut update.requests, |r| r.header.from.as_ref());
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let available = update.packet.header.kind == Kind::Presence(PresenceType::Available);
        if !available && !session.is_available() && session.directed().is_empty() {
            return;
        }
        let was = session.set_presence(available.then(|| Available {
            packet: update.packet.clone(),
            priority: update.priority,
        }));
        let directed = match available {
            true => Default::default(),
            false => session.take_directed(),
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
            self.send_initial(jid, &update, step);
        }
        if update.priority >= 0 && was.is_none_or(|p| p < 0) {
            self.take_undelivered(jid, step);
        }
    }

    /// What an initial presence brings: the account's other resources, answers to probes, open requests.
    fn send_initial(&mut self, jid: &Jid, update: &PresenceUpdate, step: &mut Step) {
        let account = jid.bare();
        let others: Vec<Packet> = self
            .account(&account)
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
        self.begin_to_hear(jid);
    }

    /// The account's available sessions see the presence of one of them (IM-39).
    pub(super) fn show_to_own(&mut self, account: &BareJid, packet: &Packet, step: &mut Step) {
        for (own, _) in self.account(account).available(account) {
            let mut copy = packet.clone();
            copy.header.to = Some(account.into());
            self.enqueue_plain(&own, copy, step);
        }
    }

    /// One copy for each shard, with the addressees that live there.
    pub(super) fn spread_presence(&mut self, packet: &Packet, to: Vec<Jid>, step: &mut Step) {
        let mut by_shard: BTreeMap<ShardId, Vec<Jid>> = BTreeMap::new();
        for jid in to {
            by_shard
                .entry(self.home_of(&jid.bare()))
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

    pub(super) fn spread_probe(&mut self, from: &Jid, mut to: Vec<BareJid>, step: &mut Step) {
        self.leave_out_blocked(&from.bare(), &mut to, |to| Some(to.as_jid()));
        let mut by_shard: BTreeMap<ShardId, Vec<BareJid>> = BTreeMap::new();
        for account in to {
            by_shard
                .entry(self.home_of(&account))
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

    /// Shows presence, events or what is for everybody, or asks for presence, as far as there is room for it now.
    pub(super) fn fan_out(&mut self, relay: Relay, step: &mut Step) {
        self.fan_mut().push(CopyOnWrite::new(relay));
        if !self.fan_mut().is_busy() {
            self.fan_on(step);
        }
    }

    /// Goes on with what was left.
    pub(super) fn fan_on(&mut self, step: &mut Step) {
        self.fan_mut().set_busy(true);
        while let Some(relay) = self.fan_mut().pop() {
            let rest = match relay.into_inner() {
                Relay::Presence { packet, mut to } => {
                    let rest = self.fan_mut().slice(&mut to, Jid::bare);
                    self.deliver_presence(&packet, to, step);
                    let rest = Some(rest).filter(|rest| !rest.is_empty());
                    rest.map(|to| Relay::Presence { packet, to })
                }
                Relay::Probe { from, mut to } => {
                    let rest = self.fan_mut().slice(&mut to, BareJid::clone);
                    self.answer_probe(&from, to, step);
                    let rest = Some(rest).filter(|rest| !rest.is_empty());
                    rest.map(|to| Relay::Probe { from, to })
                }
                Relay::Event { event, mut to } => {
                    let rest = self.fan_mut().slice(&mut to, |to| to.jid.bare());
                    self.deliver_event(&event, to, step);
                    let rest = Some(rest).filter(|rest| !rest.is_empty());
                    rest.map(|to| Relay::Event { event, to })
                }
                Relay::Broadcast { id, packet, after } => {
                    let room = self.fan().room();
                    let (shown, after) = self.show_broadcast(&packet, after.as_ref(), room, step);
                    self.fan_mut().spend(shown);
                    after.map(|after| Relay::Broadcast {
                        id,
                        packet,
                        after: Some(after),
                    })
                }
                _ => None,
            };
            if let Some(rest) = rest {
                self.fan_mut().put_back(rest);
            }
        }
        self.fan_mut().set_busy(false);
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
            let from = packet.header.from.as_ref();
            if from.is_some_and(|from| self.has_blocked(&to, from)) {
                continue;
            }
            let mut copy = packet.clone();
            copy.header.to = Some(to.clone());
            let targets: Vec<Jid> = if to.resource().is_some() {
                vec![to]
            } else {
                let account = to.bare();
                self.account(&account)
                    .available(&account)
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
                    session.take_back_from(from);
                }
                self.enqueue_plain(&target, copy.clone(), step);
            }
        }
    }

    /// Each of the accounts shows `from`, which may see it, where it is available (IM-43).
    pub(super) fn answer_probe(&mut self, from: &Jid, accounts: Vec<BareJid>, step: &mut Step) {
        for account in accounts {
            if self.has_blocked(account.as_jid(), from) {
                continue;
            }
            for (_, packet) in self.account(&account).available(&account) {
                self.spread_presence(&packet, vec![from.clone()], step);
            }
        }
    }
}
