//! Who hears what nodes of accounts tell (XEP-0163 §4), and who gets what was published last.
//!
//! Events are headlines: no archive keeps them, and they wait for nobody who is away. A session that hibernates holds the
//! newest of each kind, as the sender has marked it. There is no order between what two clients of an account publish
//! at one moment on two nodes; each reaches a session after all that the same client has published before.

use std::collections::{BTreeMap, BTreeSet};

use proto::{BareJid, Jid};

use super::effect::Effect;
use super::event::{LastEvents, NodeEvent, Recipient};
use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;
use crate::id::ShardId;

impl ShardState {
    /// One copy for each shard, with those who live there. A shard that takes nothing is left out: who is there reads
    /// what was published last when they ask for it or come back.
    pub(super) fn spread_event(
        &mut self,
        event: &NodeEvent,
        mut to: Vec<Recipient>,
        step: &mut Step,
    ) {
        let Some(owner) = event.owner() else {
            return;
        };
        self.leave_out_blocked(&owner, &mut to, |to| Some(&to.jid));
        let mut by_shard: BTreeMap<ShardId, Vec<Recipient>> = BTreeMap::new();
        for one in to {
            let account = one.jid.bare();
            if !self.is_cut_off(&account) {
                let home = self.home_of(&account);
                by_shard.entry(home).or_default().push(one);
            }
        }
        for (shard, to) in by_shard {
            let event = event.clone();
            self.send_to_shard(shard, Relay::Event { event, to }, step);
        }
    }

    /// Events arrive for accounts of this shard (PE-7).
    pub(super) fn deliver_event(&mut self, event: &NodeEvent, to: Vec<Recipient>, step: &mut Step) {
        let Some(owner) = event.owner() else {
            return;
        };
        let named = to.iter().any(|to| !to.jid.is_bare());
        let mut told: BTreeSet<Jid> = BTreeSet::new();
        for Recipient { jid, subscribed } in to {
            if self.has_blocked(&jid, owner.as_jid()) {
                continue;
            }
            let account = jid.bare();
            let wanted = self.account(&account).sessions_where(&account, |session| {
                session.is_available() && (subscribed || session.interest.contains(&event.node))
            });
            for session in wanted {
                if jid.is_bare() || jid == session {
                    if named && !told.insert(session.clone()) {
                        continue;
                    }
                    self.hand_event(&session, &owner, event, step);
                }
            }
        }
    }

    fn hand_event(&mut self, jid: &Jid, owner: &BareJid, event: &NodeEvent, step: &mut Step) {
        let item = event.item(jid, self.now());
        if let Some(session) = self.session_mut(jid) {
            session.interest.hear(owner, &event.node);
            session.queue.forget_event(owner.as_jid(), event.key);
        }
        self.enqueue(jid, item, step);
        self.notice_queued(jid, None, false, step);
    }

    /// A client wants to hear of these nodes from now on, and is given what was published last on those that are new.
    pub(super) fn take_interest(&mut self, jid: &Jid, nodes: Vec<Box<str>>) {
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let added = session.interest.replace(nodes);
        if session.is_available() {
            self.read_last(jid, added, None);
        }
    }

    /// A session has become available: it is given what was published last (PE-9).
    pub(super) fn begin_to_hear(&mut self, jid: &Jid) {
        let nodes = self.session(jid).map(|session| session.interest.nodes());
        self.read_last(jid, nodes.unwrap_or_default(), None);
    }

    /// The account may see another one from now on: its sessions are given what that has published last.
    pub(super) fn reveal(&mut self, account: &BareJid, peer: &BareJid) {
        let available = self.account(account).available(account);
        for (jid, _) in available {
            let nodes = self.session(&jid).map(|session| session.interest.nodes());
            self.read_last(&jid, nodes.unwrap_or_default(), Some(peer.clone()));
        }
    }

    fn read_last(&mut self, jid: &Jid, nodes: Vec<Box<str>>, owner: Option<BareJid>) {
        let Some(session) = self.session_mut(jid).filter(|_| !nodes.is_empty()) else {
            return;
        };
        session.interest.begin();
        self.add_effect(Effect::LastEvents(LastEvents {
            session: jid.clone(),
            nodes,
            owner,
            after: None,
        }));
    }

    /// What was published last has been read, or the first part of it.
    pub(super) fn take_last(
        &mut self,
        jid: &Jid,
        events: Vec<NodeEvent>,
        rest: Option<LastEvents>,
        step: &mut Step,
    ) {
        for event in events {
            let Some(owner) = event.owner() else {
                continue;
            };
            // It is another session of the same name, or its client has changed its mind.
            let wanted = self.session(jid).is_some_and(|session| {
                session.is_available()
                    && session.interest.contains(&event.node)
                    && !session.interest.has_heard(&owner, &event.node)
            });
            if wanted && !self.has_blocked(jid, owner.as_jid()) {
                let item = event.item(jid, self.now());
                self.enqueue(jid, item, step);
                self.notice_queued(jid, None, false, step);
            }
        }
        match (self.session_mut(jid), rest) {
            (Some(_), Some(rest)) => {
                self.add_effect(Effect::LastEvents(rest));
            }
            (Some(session), None) => session.interest.end(),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests;
