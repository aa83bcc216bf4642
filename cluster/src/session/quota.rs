//! How many sessions of one account may hibernate, and how many ended ones are remembered.
//!
//! All sessions of an account live in one shard, so that this is the last word: whatever a shared count
//! elsewhere says or does not say, after each entry no account is above its limits (I-12). The oldest goes
//! first, in full, as if its time were over.

use std::collections::BTreeMap;

use proto::BareJid;
use serde::{Deserialize, Serialize};

use super::command::Outcome;
use super::limits::{Limits, Override};
use super::reason::EndReason;
use super::settings::Settings;
use super::state::ShardState;
use super::step::Step;
use crate::id::SmId;

/// Users looked at in one go: entries wait meanwhile.
const LOOK: usize = 4096;

/// An account's sessions as limits see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Ends the account's oldest hibernated sessions beyond the limit, in full.
    pub(super) fn enforce_limit(&mut self, account: &BareJid, step: &mut Step) {
        let limit = self.limits_of(account).0;
        while let Some(jid) = self.account(account).beyond(account, limit) {
            self.end(&jid, EndReason::Limit, step);
        }
    }

    /// Forgets the account's oldest ended sessions beyond the limit.
    pub(super) fn enforce_old(&mut self, account: &BareJid) {
        self.change_old(account, |_| {});
    }

    /// An operator decides for one account. What is beyond a lower limit goes at once.
    pub(super) fn set_limits(
        &mut self,
        account: &BareJid,
        limits: Option<Limits>,
        step: &mut Step,
    ) -> Outcome {
        let now = self.now();
        let limits = limits.unwrap_or_default();
        if !self.limits_mut().set(account, limits, now) {
            return Outcome::Done;
        }
        step.notice_limits(account);
        self.enforce_limit(account, step);
        self.enforce_old(account);
        self.tidy(account);
        Outcome::Done
    }

    /// The leader's settings are in force from now on.
    pub(super) fn set_settings(&mut self, settings: Settings, step: &mut Step) -> Outcome {
        let before = self.replace_settings(settings);
        if before != settings {
            let now = &settings;
            if now.max_hibernated_sessions < before.max_hibernated_sessions
                || now.max_old_sessions < before.max_old_sessions
            {
                self.limits_mut().begin_revision();
            }
            self.refill_all(step);
        }
        Outcome::Done
    }

    /// The account as limits see it.
    pub fn quota(&self, account: &BareJid) -> Quota {
        let user = self.account(account);
        let sleeping = user.sessions.iter();
        let mut sleeping: Vec<_> = sleeping
            .filter_map(|(r, s)| Some((s.hibernation()?.since, s.epoch(), Box::from(r))))
            .collect();
        sleeping.sort();
        let old = user.old.iter();
        let old = old.map(|old| (self.clock().date_until(old.until), old.smid.clone()));
        let (max_hibernated, max_old) = self.limits_of(account);
        Quota {
            account: account.clone(),
            live: user.sessions.len() - sleeping.len(),
            hibernated: sleeping
                .into_iter()
                .map(|(at, _, resource)| (self.clock().date_of(at), resource))
                .collect(),
            old: old.collect(),
            set: self.override_of(account),
            max_hibernated,
            max_old,
        }
    }

    /// A page of the accounts that have hibernated or old sessions or limits of their own, behind `after`, by
    /// account, and where the next page begins. A page may be empty and not the last.
    pub(crate) fn quotas(
        &self,
        after: Option<&BareJid>,
        max: usize,
    ) -> (Vec<Quota>, Option<BareJid>) {
        let mut users = self.users().after(after).peekable();
        let mut set = self.limits().after(after).peekable();
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
        self.limits().get(account)
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, message};
    use super::*;
    use crate::session::*;
    use crate::session::{Action, Command, Relay, SessionEvent};

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
        let limit = |n: &&crate::session::Notice| n.what == SessionEvent::Ended(EndReason::Limit);
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
            .filter(|n| n.what == SessionEvent::LimitsSet);
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
