//! What follows when an account blocks somebody, or no longer does, and how the shard gets to know of it.

use std::collections::BTreeSet;

use proto::stanza::Packet;
use proto::{BareJid, Jid};

use super::blocklist::BlocklistUpdate;
use super::effect::Effect;
use super::farewell::unavailable;
use super::session::Session;
use super::state::ShardState;
use super::step::Step;

impl ShardState {
    /// The account of `own` has blocked `peer`.
    pub(super) fn has_blocked(&self, own: &Jid, peer: &Jid) -> bool {
        let user = self.users().get(own.bare_str());
        let list = user.map(|user| &user.blocklist);
        // The name is made only for those who have a list.
        list.is_some_and(|list| !list.is_empty() && list.blocks(&own.bare(), peer))
    }

    /// Leaves out those whom the account has blocked (IM-48).
    pub(super) fn leave_out_blocked<T>(
        &self,
        account: &BareJid,
        all: &mut Vec<T>,
        jid: impl Fn(&T) -> Option<&Jid>,
    ) {
        let list = &self.account(account).blocklist;
        if !list.is_empty() {
            all.retain(|one| jid(one).is_none_or(|jid| !list.blocks(account, jid)));
        }
    }

    /// A client has changed its account's list.
    pub(super) fn change_blocklist(&mut self, jid: &Jid, update: BlocklistUpdate, step: &mut Step) {
        let account = jid.bare();
        let list = &self.account(&account).blocklist;
        let before: Vec<bool> = update
            .viewers
            .iter()
            .map(|v| list.blocks(&account, v))
            .collect();
        if self
            .account_or_new(account.clone())
            .blocklist
            .change(&update)
        {
            self.read_blocklist(&account);
        }
        let list = &self.account(&account).blocklist;
        let (mut hidden, mut shown) = (Vec::new(), Vec::new());
        for (viewer, before) in update.viewers.into_iter().zip(before) {
            match (before, list.blocks(&account, &viewer)) {
                (false, true) => hidden.push(viewer),
                // A shard that takes nothing is shown nothing; what takes something back always goes there.
                (true, false) if !self.is_cut_off(&viewer.bare()) => shown.push(viewer),
                _ => {}
            }
        }
        self.hide_from(&account, &hidden, step);
        for (own, packet) in self.account(&account).available(&account) {
            self.spread_presence(&packet, shown.clone(), step);
            self.spread_probe(&own, update.probes.clone(), step);
        }
        self.push_blocklist(&account, &update.push, step);
    }

    /// Each session is gone for those whom the account has blocked, if they could see it (IM-67).
    fn hide_from(&mut self, account: &BareJid, hidden: &[Jid], step: &mut Step) {
        let told: BTreeSet<&str> = hidden.iter().map(Jid::as_str).collect();
        for own in self.account(account).sessions_where(account, |_| true) {
            let list = self.account(account).blocklist.clone();
            let Some(session) = self.session_mut(&own) else {
                continue;
            };
            let available = session.is_available();
            let is_told = |to: &Jid| available && to.and_wider().any(|wider| told.contains(wider));
            let directed = session.directed().iter();
            let blocked = directed.filter(|to| list.blocks(account, to)).cloned();
            let mut to = Vec::from_iter(blocked);
            to.iter().for_each(|to| session.take_back_from(to));
            to.retain(|to| !is_told(to));
            if available {
                to.extend_from_slice(hidden);
            }
            self.spread_presence(&unavailable(&own), to, step);
        }
    }

    /// Tells the sessions that have asked for the list (IM-66).
    fn push_blocklist(&mut self, account: &BareJid, push: &Packet, step: &mut Step) {
        let known = self.account(account);
        for jid in known.sessions_where(account, Session::follows_blocklist) {
            let mut copy = push.clone();
            copy.header.to = Some(jid.clone());
            self.enqueue_plain(&jid, copy, step);
        }
    }

    /// The database has this state of the account's list.
    pub(super) fn confirm_blocklist(&mut self, account: &BareJid, revision: u64) {
        if self.account(account).blocklist.revision() != revision {
            self.read_blocklist(account);
        }
    }

    /// Has the list read from the database, whatever was read before.
    pub(super) fn read_blocklist(&mut self, account: &BareJid) {
        let effect = self.add_effect(Effect::Blocklist(account.clone()));
        let known = self.account_or_new(account.clone());
        if let Some(before) = known.blocklist.read_by(effect) {
            self.effects_mut().remove(before);
        }
    }

    /// The list has been read.
    pub(super) fn take_blocklist(&mut self, account: &BareJid, revision: u64, jids: Vec<Jid>) {
        let known = self.account_or_new(account.clone());
        known.blocklist.replace(revision, jids);
        self.tidy(account);
    }

    /// The state of the account's list that this shard knows; 0 = none.
    pub fn blocklist_revision(&self, account: &BareJid) -> u64 {
        self.account(account).blocklist.revision()
    }
}

#[cfg(test)]
mod tests;
