//! What operators have set for single accounts, and how far a shard has come with holding its accounts to it.

use proto::BareJid;
use serde::{Deserialize, Serialize};

use super::cow::Map;

/// No account gets more than so many of either kind, whoever asks for it.
pub const MAX_LIMIT: u32 = 10_000;

/// What an operator has set for one account; absent values are the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions that may hibernate at a time.
    pub hibernated: Option<u32>,
    /// Ended sessions whose count is kept.
    pub old: Option<u32>,
}

impl Limits {
    /// Both as configured.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn clamped(self) -> Self {
        Self {
            hibernated: self.hibernated.map(|limit| limit.min(MAX_LIMIT)),
            old: self.old.map(|limit| limit.min(MAX_LIMIT)),
        }
    }
}

/// Limits that were set, and when: rises with each change of any account, so that of two copies the newer
/// is known. Stays behind when the limits are the default again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What was set.
    pub limits: Limits,
    /// When; 0 = never.
    pub version: u64,
}

/// The limits of all accounts of a shard that have some of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Overrides {
    set: Map<BareJid, Override>,
    /// The version of the last change to them.
    last: u64,
    /// Accounts have yet to be held to lower limits.
    revision: Option<Revision>,
}

/// How far the revision of all accounts has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    /// All accounts up to this one are done.
    behind: Option<BareJid>,
}

impl Overrides {
    /// As they were written down: each account's own follow.
    pub(super) fn of(last: u64, revision: Option<Revision>) -> Self {
        Self {
            set: Map::default(),
            last,
            revision,
        }
    }

    /// What was written down of an account.
    pub(super) fn put(&mut self, account: BareJid, set: Override) {
        self.set.insert(account, set);
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn get(&self, account: &BareJid) -> Override {
        self.set.get(account).copied().unwrap_or_default()
    }

    /// In the order of the accounts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&BareJid, &Override)> {
        self.set.iter()
    }

    /// Those of the accounts behind `account`, or of all.
    pub(super) fn after(
        &self,
        account: Option<&BareJid>,
    ) -> impl Iterator<Item = (&BareJid, &Override)> {
        self.set.after(account)
    }

    /// An operator decides for one account at `now`; returns whether that changes anything.
    pub(super) fn set(&mut self, account: &BareJid, limits: Limits, now: u64) -> bool {
        let limits = limits.clamped();
        if self.get(account).limits == limits {
            return false;
        }
        self.last = now.max(self.last + 1);
        let version = self.last;
        self.set
            .insert(account.clone(), Override { limits, version });
        true
    }

    /// All accounts are to be held to lower limits, from the first on, also if an earlier revision is under way.
    pub(super) fn begin_revision(&mut self) {
        self.revision = Some(Revision::default());
    }

    pub(super) fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    /// Takes the revision that is under way: it is over, unless it goes on behind some account.
    pub(super) fn take_revision(&mut self) -> Option<Revision> {
        self.revision.take()
    }

    pub(super) fn go_on(&mut self, revision: Revision) {
        self.revision = Some(revision);
    }

    /// Whether the account may still hold more than its limits allow.
    #[cfg(test)]
    pub(super) fn awaits_revision(&self, account: &BareJid) -> bool {
        let revision = self.revision.as_ref();
        revision.is_some_and(|r| r.behind().is_none_or(|behind| account > behind))
    }
}

impl Revision {
    pub(super) fn behind(&self) -> Option<&BareJid> {
        self.behind.as_ref()
    }

    /// The account is done too.
    pub(super) fn pass(&mut self, account: BareJid) {
        self.behind = Some(account);
    }
}
