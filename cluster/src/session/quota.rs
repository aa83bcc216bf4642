//! How many sessions of one account may hibernate, and how many ended ones are remembered.
//!
//! All sessions of an account live in one shard, so that this is the last word: whatever a shared count
//! elsewhere says or does not say, after each entry no account is above its limits (I-12). The oldest goes
//! first, in full, as if its time were over.

use std::collections::BTreeMap;

use proto::BareJid;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::old::OldSessions;
use super::state::ShardState;
use super::step::Step;
use super::timers::Timers;
use super::{EndReason, Outcome, Settings};
use crate::id::SmId;

/// No account gets more than so many of either kind, whoever asks for it.
pub const MAX_LIMIT: u32 = 10_000;

/// Users looked at in one go: entries wait meanwhile.
const LOOK: usize = 4096;

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
    pub fn is_default(&self) -> bool {
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

/// An account's sessions as limits see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The account.
    pub account: BareJid,
    /// Sessions with a connection.
    pub live: usize,
    /// Hibernated sessions: since when (milliseconds since 1970) and the resource, oldest first.
    pub hibernated: Vec<(u64, Box<str>)>,
    /// Ended sessions: until when they are remembered, oldest first.
    pub old: Vec<(u64, SmId)>,
    /// What was set for the account.
    pub set: Override,
    /// The limit of hibernated sessions that is in force.
    pub max_hibernated: u32,
    /// The limit of old sessions that is in force.
    pub max_old: u32,
}

impl Quota {
    /// There is nothing that could be limited, and nothing was ever set.
    fn is_void(&self) -> bool {
        self.hibernated.is_empty() && self.old.is_empty() && self.set.version == 0
    }
}

impl ShardState {
    /// Sessions of this account that may hibernate, and old ones that are remembered.
    pub(super) fn limits_of(&self, account: &BareJid) -> (u32, u32) {
        let set = self.limits.get(account).map(|set| set.limits);
        let set = set.unwrap_or_default();
        let settings = &self.settings;
        (
            set.hibernated.unwrap_or(settings.max_hibernated_sessions),
            set.old.unwrap_or(settings.max_old_sessions),
        )
    }

    /// Ends the account's oldest hibernated sessions beyond the limit, in full.
    pub(super) fn enforce_limit(&mut self, account: &BareJid, step: &mut Step) {
        let limit = self.limits_of(account).0 as usize;
        while let Some(user) = self.users.get(account) {
            let sleeping = user
                .sessions
                .iter()
                .filter_map(|(r, s)| Some((s.attachment.hibernation()?.since, s.epoch, r)));
            if sleeping.clone().count() <= limit {
                return;
            }
            let Some(jid) = sleeping
                .min()
                .map(|(_, _, r)| account.with_prepared_resource(r))
            else {
                return;
            };
            self.end(&jid, EndReason::Limit, step);
        }
    }

    /// Forgets the account's oldest ended sessions beyond the limit.
    pub(super) fn enforce_old(&mut self, account: &BareJid) {
        self.change_old(account, |_| {});
    }

    /// The one way to change what is remembered of an account's ended sessions, so that none is above the limit
    /// and `forgets` names each account once, by when the first of them is to be forgotten.
    pub(super) fn change_old(&mut self, account: &BareJid, change: impl FnOnce(&mut OldSessions)) {
        let limit = self.limits_of(account).1 as usize;
        let Some(user) = self.users.get_mut(account) else {
            return;
        };
        let before = user.old.next_forget();
        change(&mut user.old);
        user.old.limit(limit);
        let after = user.old.next_forget();
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.forgets.cancel(at, account.clone());
        }
        if let Some(at) = after {
            self.forgets.set(at, account.clone());
        }
    }

    /// Names each account that has old sessions, by when the first of them is to be forgotten.
    pub(super) fn index_old(&mut self) {
        self.forgets = Timers::default();
        for (account, user) in self.users.iter() {
            if let Some(at) = user.old.next_forget() {
                self.forgets.set(at, account.clone());
            }
        }
    }

    /// An operator decides for one account. What is beyond a lower limit goes at once.
    pub(super) fn set_limits(
        &mut self,
        account: &BareJid,
        limits: Option<Limits>,
        step: &mut Step,
    ) -> Outcome {
        let limits = limits.unwrap_or_default().clamped();
        let known = self.limits.get(account).copied().unwrap_or_default();
        if known.limits == limits {
            return Outcome::Done;
        }
        self.last_limits = self.clock.now().max(self.last_limits + 1);
        let version = self.last_limits;
        self.limits
            .insert(account.clone(), Override { limits, version });
        self.notice_limits(account, step);
        self.enforce_limit(account, step);
        self.enforce_old(account);
        self.tidy(account);
        Outcome::Done
    }

    /// The leader's settings are in force from now on.
    pub(super) fn set_settings(&mut self, settings: Settings, step: &mut Step) -> Outcome {
        let before = std::mem::replace(&mut self.settings, settings);
        if before != self.settings {
            let now = &self.settings;
            if now.max_hibernated_sessions < before.max_hibernated_sessions
                || now.max_old_sessions < before.max_old_sessions
            {
                self.revise_limits();
            }
            self.refill_all(step);
        }
        Outcome::Done
    }

    /// The account as limits see it.
    pub fn quota(&self, account: &BareJid) -> Quota {
        static NOBODY: std::sync::LazyLock<Account> = std::sync::LazyLock::new(Account::default);
        self.quota_of(
            account,
            self.users.get(account).map_or(&*NOBODY, |user| user),
        )
    }

    fn quota_of(&self, account: &BareJid, user: &Account) -> Quota {
        let sleeping = user.sessions.iter();
        let mut sleeping: Vec<_> = sleeping
            .filter_map(|(r, s)| Some((s.attachment.hibernation()?.since, s.epoch, Box::from(r))))
            .collect();
        sleeping.sort();
        let old = user.old.iter();
        let old = old.map(|old| (self.clock.date_until(old.until), old.smid.clone()));
        let (max_hibernated, max_old) = self.limits_of(account);
        Quota {
            account: account.clone(),
            live: user.sessions.len() - sleeping.len(),
            hibernated: sleeping
                .into_iter()
                .map(|(at, _, resource)| (self.clock.date_of(at), resource))
                .collect(),
            old: old.collect(),
            set: self.override_of(account),
            max_hibernated,
            max_old,
        }
    }

    /// A page of the accounts that have hibernated or old sessions or limits of their own, behind `after`, by
    /// account, and where the next page begins. A page may be empty and not the last.
    pub fn quotas(&self, after: Option<&BareJid>, max: usize) -> (Vec<Quota>, Option<BareJid>) {
        let mut users = self.users.after(after).peekable();
        let mut set = self.limits.after(after).peekable();
        let mut page = BTreeMap::new();
        let mut last = None;
        for _ in 0..LOOK {
            let next = match (users.peek(), set.peek()) {
                (Some((user, _)), Some((set, _))) => (*user).min(*set),
                (Some((account, _)), None) | (None, Some((account, _))) => *account,
                (None, None) => return (page.into_values().collect(), None),
            };
            while users.peek().is_some_and(|(account, _)| *account == next) {
                users.next();
            }
            while set.peek().is_some_and(|(account, _)| *account == next) {
                set.next();
            }
            last = Some(next.clone());
            let quota = self.quota(next);
            if !quota.is_void() {
                page.insert(next.clone(), quota);
            }
            if page.len() >= max {
                break;
            }
        }
        (page.into_values().collect(), last)
    }

    /// What was set for the account.
    pub fn override_of(&self, account: &BareJid) -> Override {
        self.limits.get(account).copied().unwrap_or_default()
    }

    /// The settings that are in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, message};
    use super::*;
    use crate::session::{Action, Command, Occasion, Relay};

    const ALICE: &str = "alice@example.org/a";

    fn bob() -> BareJid {
        BareJid::new("bob@example.org").expect("valid")
    }

    /// So many sessions of bob's fall asleep, one after another; each holds a message.
    fn asleep(count: usize) -> Stage {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        for n in 0..count {
            let session = format!("bob@example.org/{n}");
            stage.resumable(&session, Some(0));
            let sent = message(MessageType::Normal, ALICE, &session, n as u128);
            stage.act(ALICE, Action::Send(Relay::Message(sent)));
        }
        for n in 0..count {
            stage.now += 10;
            stage.lose(&format!("bob@example.org/{n}"));
        }
        stage
    }

    fn set(stage: &mut Stage, hibernated: Option<u32>, old: Option<u32>) {
        let limits = Some(Limits { hibernated, old });
        let account = bob();
        stage.apply(Command::SetLimits { account, limits });
    }

    /// The resources that hibernate, and how many are old.
    #[track_caller]
    fn check(stage: &Stage, hibernated: &[&str], old: usize) {
        let quota = stage.state.quota(&bob());
        let names: Vec<_> = quota.hibernated.iter().map(|(_, r)| &**r).collect();
        assert_eq!((&*names, quota.old.len()), (hibernated, old));
    }

    #[test]
    fn i_12_a_lower_limit_ends_the_oldest_at_once_and_keeps_their_messages() {
        let mut stage = asleep(4);
        set(&mut stage, Some(1), None);
        check(&stage, &["3"], 3);
        assert_eq!(stage.undelivered("bob@example.org"), 3);
        let limit = |n: &&crate::session::Notice| n.what == Occasion::Ended(EndReason::Limit);
        assert_eq!(stage.notices.iter().filter(limit).count(), 3);
        set(&mut stage, Some(1), Some(2));
        check(&stage, &["3"], 2);
        let newest = stage.state.quota(&bob()).old;
        assert_eq!(&*newest[1].1.0, "bob@example.org/2", "the oldest go first");
    }

    #[test]
    fn i_12_an_account_of_its_own_limits_is_held_to_those_alone() {
        let mut stage = Stage::new();
        stage.settings.max_hibernated_sessions = 1;
        set(&mut stage, Some(3), Some(0));
        for n in 0..5 {
            stage.now += 10;
            let session = format!("bob@example.org/{n}");
            stage.resumable(&session, Some(0));
            stage.lose(&session);
        }
        check(&stage, &["2", "3", "4"], 0);
        set(&mut stage, None, None);
        check(&stage, &["4"], 2);
    }

    #[test]
    fn i_12_a_lower_limit_in_the_configuration_holds_with_the_next_entry() {
        let mut stage = asleep(3);
        stage.settings.max_hibernated_sessions = 2;
        stage.apply(Command::Tick);
        stage.apply(Command::Tick);
        check(&stage, &["1", "2"], 1);
        stage.settings.max_old_sessions = 0;
        stage.apply(Command::Tick);
        stage.apply(Command::Tick);
        check(&stage, &["1", "2"], 0);
    }

    #[test]
    fn each_change_of_limits_is_newer_than_the_one_before_and_a_repeat_is_none() {
        let mut stage = Stage::new();
        let mut versions = Vec::new();
        for limit in [Some(3), Some(4), Some(4), None] {
            set(&mut stage, limit, None);
            versions.push(stage.state.quota(&bob()).set.version);
        }
        assert!(versions[0] < versions[1] && versions[2] < versions[3]);
        assert_eq!(versions[1], versions[2]);
        let told = stage
            .notices
            .iter()
            .filter(|n| n.what == Occasion::LimitsSet);
        assert_eq!(told.count(), 3);
        set(&mut stage, Some(u32::MAX), None);
        assert_eq!(stage.state.quota(&bob()).max_hibernated, MAX_LIMIT);
    }

    #[test]
    fn pages_hold_every_account_that_limits_matter_to_once() {
        let mut stage = asleep(2);
        let carol = BareJid::new("carol@example.org").expect("valid");
        let limits = Some(Limits {
            hibernated: Some(1),
            old: None,
        });
        stage.apply(Command::SetLimits {
            account: carol.clone(),
            limits,
        });
        let (first, next) = stage.state.quotas(None, 1);
        assert_eq!(first[0].account, bob());
        let (second, next) = stage.state.quotas(next.as_ref(), 1);
        assert_eq!(second[0].account, carol);
        assert_eq!(stage.state.quotas(next.as_ref(), 1), (Vec::new(), None));
    }
}
