//! A shard's state as a series of records, as a snapshot keeps it.
//!
//! Each is small beside the whole, so that neither who writes a snapshot nor who reads one ever holds the
//! state twice. What follows from other records is not among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::audit::Audit;
use super::clock::Clock;
use super::cow::{CopyOnWrite, Map, Queue};
use super::fan::Fan;
use super::farewell::Untold;
use super::numbers::Numbers;
use super::outbox::Outbox;
use super::pending::PendingEffects;
use super::revision::Revision;
use super::state::ShardState;
use super::timers::Timers;
use super::{Effect, Override, Relay, Settings};
use crate::format::Version;
use crate::id::{EffectId, ShardId};

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
struct Head {
    id: ShardId,
    shards: u16,
    clock: Clock,
    settings: Settings,
    cursors: BTreeMap<ShardId, u64>,
    numbers: Numbers,
    last_limits: u64,
    format: Version,
    audit: Audit,
    revision: Option<Revision>,
}

/// A series of records that is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("records in the wrong order")]
pub struct Disorder;

impl ShardState {
    /// The whole state. Equal states have equal records.
    pub fn records(&self) -> impl Iterator<Item = Record> {
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
            cursors,
            pending,
            backlog: _,
            numbers,
            limits,
            last_limits,
            format,
            audit,
            revision,
            fan,
        } = self;
        let head = Part::Head(Box::new(Head {
            id: *id,
            shards: *shards,
            clock: *clock,
            settings: *settings,
            cursors: cursors.clone(),
            numbers: *numbers,
            last_limits: *last_limits,
            format: *format,
            audit: audit.clone(),
            revision: revision.clone(),
        }));
        let users = users
            .iter()
            .map(|(account, user)| Part::Account(account.clone(), user.clone()));
        let effects = pending
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
    pub fn restore<E: From<Disorder>>(
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
        state.count_backlog();
        Ok(state)
    }

    /// `outbox` is the one that items belong to.
    fn put(&mut self, part: Part, outbox: &mut Option<ShardId>) -> Result<(), Disorder> {
        match part {
            Part::Head(_) => return Err(Disorder),
            Part::Account(account, user) => {
                for (resource, session) in user.sessions.iter() {
                    if let Some(sleep) = session.attachment.hibernation() {
                        let jid = account.with_prepared_resource(resource);
                        let name = session.name(&jid).clone();
                        self.deadlines.set(sleep.until, name);
                    }
                }
                if let Some(at) = user.old.next_forget() {
                    self.forgets.set(at, account.clone());
                }
                self.users.insert(account, user);
            }
            Part::Effect(id, effect) => {
                self.pending.insert(id, effect);
            }
            Part::Outbox(to, first) => {
                self.outboxes
                    .insert(to, Outbox::of(first, Queue::default()));
                *outbox = Some(to);
            }
            Part::Item(item) => {
                let to = outbox.ok_or(Disorder)?;
                let outbox = self.outboxes.get_mut(&to).ok_or(Disorder)?;
                outbox.bytes += item.size() as u64;
                outbox.items.push_back(item);
            }
            Part::Limits(account, set) => {
                self.limits.insert(account, set);
            }
            Part::Fan(relay) => self.fan.push(relay),
            Part::Aside(jid, untold) => {
                let to = outbox.ok_or(Disorder)?;
                let outbox = self.outboxes.get_mut(&to).ok_or(Disorder)?;
                outbox.aside.insert(jid, untold);
            }
        }
        Ok(())
    }
}

/// What waits for one shard.
fn outbox_parts((to, outbox): (&ShardId, &Outbox)) -> impl Iterator<Item = Part> {
    let items = outbox.items.iter().map(|item| Part::Item(item.clone()));
    let aside = outbox.aside.iter();
    let aside = aside.map(|(jid, untold)| Part::Aside(jid.clone(), untold.clone()));
    std::iter::once(Part::Outbox(*to, outbox.first))
        .chain(items)
        .chain(aside)
}

impl Head {
    fn state(self) -> ShardState {
        ShardState {
            id: self.id,
            shards: self.shards,
            clock: self.clock,
            settings: self.settings,
            users: Map::default(),
            deadlines: Timers::default(),
            forgets: Timers::default(),
            outboxes: BTreeMap::new(),
            cursors: self.cursors,
            pending: PendingEffects::default(),
            backlog: 0,
            numbers: self.numbers,
            limits: Map::default(),
            last_limits: self.last_limits,
            format: self.format,
            audit: self.audit,
            revision: self.revision,
            fan: Fan::default(),
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
