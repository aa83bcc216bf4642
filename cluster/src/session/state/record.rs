//! A shard's state as a series of records, as a snapshot keeps it.
//!
//! Each is small beside the whole, so that neither who writes a snapshot nor who reads one ever holds the
//! state twice. What follows from other records is not among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::ShardState;
use crate::format::Version;
use crate::id::{EffectId, ShardId};
use crate::session::account::Account;
use crate::session::announced::Broadcasts;
use crate::session::audit::Audit;
use crate::session::clock::Clock;
use crate::session::cow::CopyOnWrite;
use crate::session::effect::Effect;
use crate::session::limits::{Override, Overrides, Revision};
use crate::session::numbers::Numbers;
use crate::session::outbox::{Outbox, Outboxes, Untold};
use crate::session::relay::Relay;
use crate::session::retired::Retired;
use crate::session::settings::Settings;

/// A part of a shard's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record(Part);

/// New kinds come last: the number of a kind is in the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    /// The first.
    Head(Box<Head>),
    Account(BareJid, CopyOnWrite<Account>),
    Effect(EffectId, Arc<Effect>),
    /// What waits for another shard, and the number of its first item. The items follow.
    Outbox(ShardId, u64),
    Item(CopyOnWrite<Relay>),
    Limits(BareJid, Override),
    /// A farewell that was set aside in the outbox before it.
    Aside(Jid, Untold),
    /// Presence that is still to be shown, in its order.
    Fan(CopyOnWrite<Relay>),
}

/// All that there is one of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::session) struct Head {
    pub(in crate::session) id: ShardId,
    pub(in crate::session) shards: u16,
    pub(in crate::session) clock: Clock,
    pub(in crate::session) settings: Settings,
    pub(in crate::session) cursors: BTreeMap<ShardId, u64>,
    pub(in crate::session) numbers: Numbers,
    pub(in crate::session) last_limits: u64,
    pub(in crate::session) format: Version,
    pub(in crate::session) audit: Audit,
    pub(in crate::session) revision: Option<Revision>,
    pub(in crate::session) broadcasts: Broadcasts,
    pub(in crate::session) retired: Retired,
}

/// A series of records that is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("records in the wrong order")]
pub struct Disorder;

impl ShardState {
    /// The whole state. Equal states have equal records.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        // Whoever adds a field decides here where it goes.
        let Self {
            id,
            shards,
            clock,
            settings,
            users,
            deadlines: _,
            forgets: _,
            outboxes,
            effects,
            numbers,
            limits,
            format,
            audit,
            fan,
            broadcasts,
            retired,
        } = self;
        let head = Part::Head(Box::new(Head {
            id: *id,
            shards: *shards,
            clock: *clock,
            settings: *settings,
            cursors: outboxes.cursors().clone(),
            numbers: *numbers,
            last_limits: limits.last(),
            format: *format,
            audit: audit.clone(),
            revision: limits.revision().cloned(),
            broadcasts: broadcasts.clone(),
            retired: retired.clone(),
        }));
        let users = users
            .iter()
            .map(|(account, user)| Part::Account(account.clone(), user.clone()));
        let effects = effects
            .iter()
            .map(|(id, effect)| Part::Effect(*id, effect.clone()));
        let outboxes = outboxes.iter().flat_map(outbox_parts);
        let limits = limits
            .iter()
            .map(|(account, set)| Part::Limits(account.clone(), *set));
        std::iter::once(head)
            .chain(users)
            .chain(effects)
            .chain(outboxes)
            .chain(limits)
            .chain(fan.iter().cloned().map(Part::Fan))
            .map(Record)
    }

    /// The state that was taken apart.
    pub(crate) fn restore<E: From<Disorder>>(
        mut records: impl Iterator<Item = Result<Record, E>>,
    ) -> Result<Self, E> {
        let Some(Record(Part::Head(head))) = records.next().transpose()? else {
            return Err(Disorder.into());
        };
        let mut state = head.state();
        let mut outbox = None;
        for record in records {
            let Record(part) = record?;
            state.put(part, &mut outbox)?;
        }
        Ok(state)
    }

    /// `outbox` is the one that items belong to.
    fn put(&mut self, part: Part, outbox: &mut Option<ShardId>) -> Result<(), Disorder> {
        match part {
            Part::Head(_) => return Err(Disorder),
            Part::Account(account, user) => self.put_account(account, user),
            Part::Effect(id, effect) => self.effects.insert(id, effect),
            Part::Outbox(to, first) => {
                self.outboxes.begin(to, first);
                *outbox = Some(to);
            }
            Part::Item(item) => self.outboxes.post(outbox.ok_or(Disorder)?, item),
            Part::Limits(account, set) => self.limits.put(account, set),
            Part::Fan(relay) => self.fan.push(relay),
            Part::Aside(jid, untold) => {
                let to = outbox.ok_or(Disorder)?;
                self.outboxes.set_aside(to, &jid, untold);
            }
        }
        Ok(())
    }
}

/// What waits for one shard.
fn outbox_parts((to, outbox): (&ShardId, &Outbox)) -> impl Iterator<Item = Part> {
    let items = outbox.items().map(|item| Part::Item(item.clone()));
    let aside = outbox.aside();
    let aside = aside.map(|(jid, untold)| Part::Aside(jid.clone(), untold.clone()));
    std::iter::once(Part::Outbox(*to, outbox.first()))
        .chain(items)
        .chain(aside)
}

impl Head {
    /// A state without all that there are many of.
    pub(in crate::session) fn state(self) -> ShardState {
        ShardState {
            clock: self.clock,
            settings: self.settings,
            outboxes: Outboxes::of(BTreeMap::new(), self.cursors),
            numbers: self.numbers,
            limits: Overrides::of(self.last_limits, self.revision),
            format: self.format,
            audit: self.audit,
            broadcasts: self.broadcasts,
            retired: self.retired,
            ..ShardState::new(self.id, self.shards)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(records: Vec<Record>) -> Result<ShardState, Disorder> {
        ShardState::restore(records.into_iter().map(Ok))
    }

    #[test]
    fn a_state_in_which_nothing_is_empty_comes_back() {
        let state = crate::session::fixture::state();
        let kinds = state
            .records()
            .map(|Record(part)| std::mem::discriminant(&part));
        assert_eq!(kinds.collect::<std::collections::HashSet<_>>().len(), 8);
        assert_eq!(restore(state.records().collect()), Ok(state));
    }

    #[test]
    fn records_in_the_wrong_order_are_no_state() {
        let state = ShardState::new(ShardId(1), 3);
        let head = || state.records().next().expect("has a head");
        let item = Record(Part::Item(CopyOnWrite::new(Relay::EndAll {
            account: BareJid::new("bob@example.org").expect("valid"),
            reason: crate::session::EndReason::Expired,
        })));
        assert_eq!(restore(vec![]), Err(Disorder));
        assert_eq!(restore(vec![head(), head()]), Err(Disorder));
        assert_eq!(restore(vec![head(), item.clone()]), Err(Disorder));
        let outbox = Record(Part::Outbox(ShardId(2), 7));
        let whole = restore(vec![head(), outbox, item]).expect("is one");
        assert_eq!(whole.outbox_range(ShardId(2)), (7, 8));
    }
}
