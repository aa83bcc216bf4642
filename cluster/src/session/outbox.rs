//! What one shard has committed for others and they have not yet confirmed, and how far it has come with theirs.
//!
//! The sender keeps items in order until the receiver's cursor has passed them; the receiver skips what
//! its cursor covers and refuses gaps. Both move in the same entry as the state they belong to, so a
//! repeat after any crash is harmless.
//!
//! A shard that takes nothing must cost its neighbours little: who sends to it is slowed down when
//! [`SLOW`] bytes wait for it (see [`Cluster::admit`](crate::Cluster::admit)), and refused when [`FULL`] do. From
//! then on an outbox grows only by what takes the place of something that was accepted before and is about as large:
//! an error that of the message or the request which it is about, an end that of what it takes back.

use std::collections::{BTreeMap, BTreeSet};

use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::cow::{CopyOnWrite, Map, Queue};
use super::load::Load;
use super::relay::Relay;
use crate::codec;
use crate::id::ShardId;

/// With so many bytes for one other shard those who send there have to wait, unless it takes nothing at all. They are
/// taken in order: whoever says little waits behind all of it.
pub(crate) const SLOW: u64 = 256 << 10;
/// With so many they are refused.
pub(crate) const FULL: u64 = 16 << 20;
/// With so many also what takes something back is, unless it can be said only once.
pub(super) const FLOODED: u64 = 2 * FULL;

/// The outboxes of a shard for the others, and the number of the next item that it expects from each of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outboxes {
    outboxes: BTreeMap<ShardId, Outbox>,
    cursors: BTreeMap<ShardId, u64>,
    /// Of all items.
    bytes: u64,
}

/// Items for one other shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// The number of the first item.
    first: u64,
    items: Queue<CopyOnWrite<Relay>>,
    /// Of the items.
    bytes: u64,
    /// Farewells that will be told when there is room again, by the session that is gone.
    aside: Map<Jid, Untold>,
}

/// Those who have yet to be told of the end of a session: subscribers, and to whom presence was directed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Untold {
    /// Subscribers up to here, in the order of their addresses, know it already.
    pub(super) after: Option<BareJid>,
    pub(super) directed: Vec<Jid>,
}

/// A stretch of items from another shard that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many of them are known.
    pub(super) known: usize,
    /// The number of the item that is expected then.
    pub(super) next: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::of(1, Queue::default())
    }
}

impl Outbox {
    /// With these items, of which the first has this number.
    pub(super) fn of(first: u64, items: Queue<CopyOnWrite<Relay>>) -> Self {
        let bytes = items.iter().map(|relay| relay.size() as u64).sum();
        Self {
            first,
            items,
            bytes,
            aside: Map::default(),
        }
    }

    /// The number of the first item.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// In their order.
    pub(super) fn items(&self) -> impl Iterator<Item = &CopyOnWrite<Relay>> {
        self.items.iter()
    }

    /// The farewells that were set aside, by the session that is gone.
    pub(super) fn aside(&self) -> impl Iterator<Item = (&Jid, &Untold)> {
        self.aside.iter()
    }

    /// The number that the next item gets.
    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Returns the bytes of the item.
    fn push(&mut self, relay: CopyOnWrite<Relay>) -> u64 {
        let bytes = relay.size() as u64;
        self.bytes += bytes;
        self.items.push_back(relay);
        bytes
    }

    /// Takes out the items below number `upto`; returns their bytes.
    fn trim(&mut self, upto: u64) -> u64 {
        let mut bytes = 0;
        while self.first < upto
            && let Some(relay) = self.items.pop_front()
        {
            self.first += 1;
            bytes += relay.size() as u64;
        }
        self.bytes -= bytes;
        bytes
    }

    fn has_farewells_due(&self) -> bool {
        self.bytes < SLOW && !self.aside.is_empty()
    }
}

impl Outboxes {
    /// As they were written down.
    pub(super) fn of(outboxes: BTreeMap<ShardId, Outbox>, cursors: BTreeMap<ShardId, u64>) -> Self {
        let bytes = outboxes.values().map(|outbox| outbox.bytes).sum();
        Self {
            outboxes,
            cursors,
            bytes,
        }
    }

    /// Bytes of all that waits, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many items wait.
    pub(super) fn items_waiting(&self) -> usize {
        let waiting = self.outboxes.values().map(|outbox| outbox.items.len());
        waiting.sum()
    }

    /// The number of the next item that is expected from each shard.
    pub(super) fn cursors(&self) -> &BTreeMap<ShardId, u64> {
        &self.cursors
    }

    /// In the order of the shards.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ShardId, &Outbox)> {
        self.outboxes.iter()
    }

    /// An outbox that was written down without its items, which follow.
    pub(super) fn begin(&mut self, to: ShardId, first: u64) {
        let outbox = Outbox::of(first, Queue::default());
        let before = self.outboxes.insert(to, outbox);
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    /// Something waits for another shard from now on.
    pub(super) fn post(&mut self, to: ShardId, relay: CopyOnWrite<Relay>) {
        self.bytes += self.outboxes.entry(to).or_default().push(relay);
    }

    /// The other shard has everything below number `upto`.
    pub(super) fn trim(&mut self, to: ShardId, upto: u64) {
        if let Some(outbox) = self.outboxes.get_mut(&to) {
            self.bytes -= outbox.trim(upto);
        }
    }

    /// So many items come from another shard, of which the first has this number. With a gap before them none is
    /// taken, and the number that is expected is returned.
    pub(super) fn take(&mut self, from: ShardId, first: u64, count: usize) -> Result<Taken, u64> {
        let cursor = *self.cursors.get(&from).unwrap_or(&1);
        if first > cursor {
            return Err(cursor);
        }
        let known = usize::try_from(cursor - first).unwrap_or(usize::MAX);
        let next = (first + count as u64).max(cursor);
        self.cursors.insert(from, next);
        Ok(Taken { known, next })
    }

    /// The next item that is expected from another shard has this number, whatever was before.
    pub(super) fn expect(&mut self, from: ShardId, next: u64) {
        self.cursors.insert(from, next);
    }

    /// The other shard has everything below number `upto`, which the next item gets if none is left.
    pub(super) fn go_on(&mut self, to: ShardId, upto: u64) {
        let outbox = self.outboxes.entry(to).or_default();
        self.bytes -= outbox.trim(upto);
        outbox.first = outbox.first.max(upto);
    }

    /// What waits for another shard to take it.
    pub(super) fn load(&self, to: ShardId) -> Load {
        let outbox = self.outboxes.get(&to);
        outbox.map_or(Load::default(), |outbox| Load {
            bytes: outbox.bytes,
            gone: outbox.first,
        })
    }

    /// So much waits for the other shard that it gets nothing more.
    pub(super) fn is_full(&self, to: ShardId) -> bool {
        self.load(to).bytes >= FULL
    }

    /// The numbers of the first unconfirmed item for `to` and of the next one to come.
    pub(super) fn range(&self, to: ShardId) -> (u64, u64) {
        let outbox = self.outboxes.get(&to);
        outbox.map_or((1, 1), |outbox| (outbox.first, outbox.next()))
    }

    /// Items for `to` from number `from` (or the first there is) on, at most `max_items` and `max_bytes` of them as
    /// they are encoded, or one, with the number of the first.
    pub(super) fn items(
        &self,
        to: ShardId,
        from: u64,
        max_items: usize,
        max_bytes: usize,
    ) -> (u64, Vec<Relay>) {
        let Some(outbox) = self.outboxes.get(&to) else {
            return (from, Vec::new());
        };
        let first = from.max(outbox.first);
        let skip = usize::try_from(first - outbox.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let next = outbox.items.from(skip).take(max_items);
        let items = next.enumerate().take_while(|(n, relay)| {
            bytes += codec::size(&**relay);
            *n == 0 || bytes <= max_bytes
        });
        (first, items.map(|(_, relay)| Relay::clone(relay)).collect())
    }

    /// The shards for which so much waits that they take nothing more.
    pub(super) fn full(&self) -> BTreeSet<ShardId> {
        let full = self.iter().filter(|(_, outbox)| outbox.bytes >= FULL);
        full.map(|(shard, _)| *shard).collect()
    }

    /// Sets a farewell aside until the shard takes something again.
    pub(super) fn set_aside(&mut self, to: ShardId, jid: &Jid, untold: Untold) {
        let aside = &mut self.outboxes.entry(to).or_default().aside;
        match aside.get_mut(jid) {
            Some(known) => {
                // Who may have heard of neither hears of both.
                known.after = known.after.take().min(untold.after);
                join(&mut known.directed, untold.directed);
            }
            None => {
                aside.insert(jid.clone(), untold);
            }
        }
    }

    /// The farewells of this session that were set aside, with the shards that they are for.
    pub(super) fn untold_of(&mut self, jid: &Jid) -> impl Iterator<Item = (ShardId, &mut Untold)> {
        let outboxes = self.outboxes.iter_mut();
        outboxes.filter_map(|(shard, outbox)| Some((*shard, outbox.aside.get_mut(jid)?)))
    }

    /// The farewells of this session are not told: those to whom it had directed its presence.
    pub(super) fn take_back(&mut self, jid: &Jid) -> Vec<Jid> {
        let outboxes = self.outboxes.values_mut();
        let untold = outboxes.filter_map(|outbox| outbox.aside.remove(jid));
        untold.flat_map(|untold| untold.directed).collect()
    }

    /// Takes out farewells for shards that take something again, so many for each.
    pub(super) fn take_due(&mut self, most: usize) -> Vec<(ShardId, Jid, Untold)> {
        let mut due = Vec::new();
        for (shard, outbox) in &mut self.outboxes {
            if !outbox.has_farewells_due() {
                continue;
            }
            for _ in 0..most {
                let Some((jid, _)) = outbox.aside.first() else {
                    break;
                };
                let jid = jid.clone();
                let untold = outbox.aside.remove(&jid);
                due.extend(untold.map(|untold| (*shard, jid, untold)));
            }
        }
        due
    }

    /// The next entry has farewells to tell.
    pub(super) fn has_farewells_due(&self) -> bool {
        self.outboxes.values().any(Outbox::has_farewells_due)
    }

    /// What is wrong with them, if anything is.
    #[cfg(test)]
    pub(super) fn broken(&self) -> Option<String> {
        for (to, outbox) in &self.outboxes {
            let bytes: u64 = outbox.items.iter().map(|item| item.size() as u64).sum();
            if outbox.bytes != bytes {
                return Some(format!("what waits for shard {to} is miscounted"));
            }
        }
        let bytes: u64 = self.outboxes.values().map(|outbox| outbox.bytes).sum();
        (bytes != self.bytes).then(|| String::from("the backlog is miscounted"))
    }
}

/// Adds those who are not among them.
pub(super) fn join(told: &mut Vec<Jid>, more: Vec<Jid>) {
    for to in more {
        if !told.contains(&to) {
            told.push(to);
        }
    }
}

#[cfg(test)]
mod tests;
