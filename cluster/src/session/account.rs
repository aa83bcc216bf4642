//! What the shard knows of one account, beside its sessions: who is remembered, which messages wait, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::old::OldSessions;
use super::push::Clients;
use super::resources::Resources;
use super::shared::SharedMessages;
use crate::id::Mid;

/// Exists only while there is something to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) sessions: Resources,
    pub(super) old: OldSessions,
    /// Messages not yet delivered to anyone, by their order. The first is the marker.
    undelivered: BTreeMap<u64, Waiting>,
    /// Messages that several sessions hold.
    pub(super) shared: SharedMessages,
    /// Clients that can be woken.
    pub(super) push: Clients,
    /// Messages that are out of the archive's sight and whose rows are to go once they are delivered.
    hidden: BTreeSet<Mid>,
}

/// A message in the archive (or hidden beside it) that nobody has got.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) mid: Mid,
    pub(super) hidden: bool,
    /// Of the stanza, in bytes.
    pub(super) size: u32,
}

impl Account {
    /// An account as version 1 wrote it down.
    pub(super) fn of(
        (sessions, old, push): (Resources, OldSessions, Clients),
        undelivered: BTreeMap<u64, Waiting>,
        shared: SharedMessages,
        hidden: BTreeSet<Mid>,
    ) -> Self {
        Self {
            sessions,
            old,
            undelivered,
            shared,
            push,
            hidden,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self {
            sessions,
            old,
            undelivered,
            shared,
            push,
            hidden,
        } = self;
        sessions.is_empty()
            && old.is_empty()
            && undelivered.is_empty()
            && shared.is_empty()
            && push.is_empty()
            && hidden.is_empty()
    }

    /// How many messages wait for the account's next session.
    pub(super) fn waits(&self) -> usize {
        self.undelivered.len()
    }

    /// A message waits for the account's next session.
    pub(super) fn wait(&mut self, order: u64, waiting: Waiting) {
        if waiting.hidden {
            self.hidden.insert(waiting.mid);
        }
        self.undelivered.insert(order, waiting);
    }

    /// Takes those messages that wait, with their order, but for those that are `kept`.
    pub(super) fn take_waiting(&mut self, kept: &BTreeSet<Mid>) -> Vec<(u64, Waiting)> {
        let all = std::mem::take(&mut self.undelivered).into_iter();
        let (keep, taken) = all.partition::<Vec<_>, _>(|(_, w)| kept.contains(&w.mid));
        self.undelivered = BTreeMap::from_iter(keep);
        taken
    }

    /// A message of this order has found its way: whether it waited.
    pub(super) fn no_longer_waits(&mut self, order: u64, mid: Mid) -> bool {
        let waits = self.undelivered.get(&order).is_some_and(|w| w.mid == mid);
        waits && self.undelivered.remove(&order).is_some()
    }

    /// The archive will never have the message: whether it waited there.
    pub(super) fn lose(&mut self, mid: Mid) -> bool {
        self.hidden.remove(&mid);
        let waited = self.undelivered.len();
        self.undelivered.retain(|_, waiting| waiting.mid != mid);
        self.undelivered.len() < waited
    }

    pub(super) fn is_hidden(&self, mid: Mid) -> bool {
        self.hidden.contains(&mid)
    }

    /// The archive does not show the message; returns whether that is news.
    pub(super) fn hide(&mut self, mid: Mid) -> bool {
        self.hidden.insert(mid)
    }

    /// The same of messages that the archive was meant to show.
    pub(super) fn hide_all(&mut self, mids: &[Mid]) {
        for waiting in self.undelivered.values_mut() {
            waiting.hidden |= mids.contains(&waiting.mid);
        }
        self.hidden.extend(mids);
    }

    /// The hidden messages that nobody holds or waits for any more are forgotten. Only of `gone`, if it is known what
    /// may have become free.
    pub(super) fn take_free(&mut self, gone: Option<Vec<Mid>>) -> BTreeSet<Mid> {
        let mut free: BTreeSet<Mid> = match gone {
            Some(gone) => gone.into_iter().filter(|m| self.is_hidden(*m)).collect(),
            None => self.hidden.clone(),
        };
        if free.is_empty() {
            return free;
        }
        self.each_held(|mid| {
            free.remove(&mid);
        });
        self.hidden.retain(|mid| !free.contains(mid));
        free
    }

    /// Tells of every message that somebody holds or that waits for somebody.
    pub(super) fn each_held(&self, mut tell: impl FnMut(Mid)) {
        for session in self.sessions.values() {
            session.queue.mids().for_each(&mut tell);
        }
        self.undelivered.values().for_each(|w| tell(w.mid));
    }

    /// For broken builds: as many messages wait as did before.
    #[cfg(test)]
    pub(super) fn wait_as(&mut self, before: &Self) {
        self.undelivered.clone_from(&before.undelivered);
    }
}
