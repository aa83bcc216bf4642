//! Between shards: what one has committed and the other has not yet confirmed.
//!
//! The sender keeps items in order until the receiver's cursor has passed them; the receiver skips what
//! its cursor covers and refuses gaps. Both move in the same entry as the state they belong to, so a
//! repeat after any crash is harmless.
//!
//! A shard that takes nothing must cost its neighbours little: who sends to it is slowed down when
//! [`SLOW`] bytes wait for it (see [`Cluster::admit`](crate::Cluster::admit)), and refused when [`FULL`] do. From
//! then on an outbox grows only by what takes the place of something that was accepted before and is about as large:
//! an error that of the message or the request which it is about, an end that of what it takes back.

use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::cow::{CopyOnWrite, Map, Queue};
use super::farewell::Untold;
use super::state::ShardState;
use super::step::Step;
use super::*;
use crate::codec;
use crate::id::ShardId;
use crate::shard::map::shard_of;

/// With so many bytes for one other shard those who send there have to wait, unless it takes nothing at all. They are
/// taken in order: whoever says little waits behind all of it.
pub const SLOW: u64 = 256 << 10;
/// With so many they are refused.
pub const FULL: u64 = 16 << 20;
/// With so many also what takes something back is, unless it can be said only once.
const FLOODED: u64 = 2 * FULL;

/// Items for one other shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// The number of the first item.
    pub(super) first: u64,
    pub(super) items: Queue<CopyOnWrite<Relay>>,
    /// Of the items.
    pub(super) bytes: u64,
    /// Farewells that will be told when there is room again, by the session that is gone.
    pub(super) aside: Map<Jid, Untold>,
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
}

impl ShardState {
    /// Sends something to the account, in this shard or another.
    pub(super) fn dispatch(&mut self, account: &BareJid, relay: Relay, step: &mut Step) {
        let shard = shard_of(account, self.shards);
        if shard == self.id {
            self.deliver(relay, step);
        } else {
            self.post(shard, relay);
        }
    }

    pub(super) fn post(&mut self, shard: ShardId, relay: Relay) {
        let size = relay.size() as u64;
        self.backlog += size;
        let outbox = self.outboxes.entry(shard).or_default();
        outbox.bytes += size;
        outbox.items.push_back(CopyOnWrite::new(relay));
    }

    /// Counts it anew: an earlier build may have counted in another way.
    pub(super) fn count_backlog(&mut self) {
        let pending: u64 = self.pending.iter().map(|(_, effect)| effect.size()).sum();
        let outboxes: u64 = self.outboxes.values().map(|outbox| outbox.bytes).sum();
        self.backlog = pending + outboxes;
    }

    /// More waits for the account's shard than may: what is sent there is refused.
    pub(super) fn is_cut_off(&self, account: &BareJid) -> bool {
        self.outbox_load(shard_of(account, self.shards)).bytes >= FULL
    }

    /// So much more that even what takes something back is refused.
    pub(super) fn is_flooded(&self, account: &BareJid) -> bool {
        self.outbox_load(shard_of(account, self.shards)).bytes >= FLOODED
    }

    pub(super) fn relayed(
        &mut self,
        from: ShardId,
        first: u64,
        items: Vec<Relay>,
        step: &mut Step,
    ) -> Outcome {
        let cursor = *self.cursors.get(&from).unwrap_or(&1);
        if first > cursor {
            return Outcome::Gap { expected: cursor };
        }
        let known = usize::try_from(cursor - first).unwrap_or(usize::MAX);
        let next = (first + items.len() as u64).max(cursor);
        for relay in items.into_iter().skip(known) {
            self.deliver(relay, step);
        }
        self.cursors.insert(from, next);
        Outcome::Relayed { cursor: next }
    }

    pub(super) fn trim(&mut self, to: ShardId, upto: u64) -> Outcome {
        if let Some(outbox) = self.outboxes.get_mut(&to) {
            self.backlog -= outbox.trim(upto);
        }
        Outcome::Done
    }

    /// What waits for another shard to take it.
    pub fn outbox_load(&self, to: ShardId) -> Load {
        let outbox = self.outboxes.get(&to);
        outbox.map_or(Load::default(), |outbox| Load {
            bytes: outbox.bytes,
            gone: outbox.first,
        })
    }

    /// The numbers of the first unconfirmed item for `to` and of the next one to come.
    pub fn outbox_range(&self, to: ShardId) -> (u64, u64) {
        self.outboxes
            .get(&to)
            .map_or((1, 1), |o| (o.first, o.first + o.items.len() as u64))
    }

    /// Items for `to` from number `from` (or the first there is) on, at most `max_items` and `max_bytes` of them as
    /// they are encoded, or one, with the number of the first.
    pub fn outbox(
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
}

impl Action {
    /// Shows each account that it reaches beside the session's own.
    pub(crate) fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Send(relay) => relay.each_account(show),
            Self::Directed(packet) => addressee(packet, show),
            Self::Presence(update) => {
                update.subscribers.iter().for_each(&mut *show);
                update.probes.iter().for_each(show);
            }
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::Push(_)
            | Self::Result { .. } => {}
        }
    }

    /// The bytes of an answer to the client itself, if it is one.
    pub fn answer_size(&self) -> usize {
        match self {
            Self::Reply(packet) | Self::Result { packet, .. } => packet.size(),
            Self::Send(_)
            | Self::Presence(_)
            | Self::Directed(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::Push(_) => 0,
        }
    }

    /// About how many bytes it takes where it waits, but for the names of many accounts.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Send(relay) => relay.size(),
            Self::Directed(packet) => 48 + packet.size(),
            Self::Presence(update) => 48 + update.packet.size(),
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::Push(_)
            | Self::Result { .. } => 0,
        }
    }
}

fn addressee(packet: &Packet, show: &mut impl FnMut(&BareJid)) {
    if let Some(to) = &packet.header.to {
        show(&to.bare());
    }
}

impl Relay {
    fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Message(message) => addressee(&message.packet, show),
            Self::Iq { packet, .. } | Self::Subscription(packet) => addressee(packet, show),
            Self::Presence { to, .. } => to.iter().for_each(|to| show(&to.bare())),
            Self::Probe { to, .. } => to.iter().for_each(show),
            Self::Push { account, .. }
            | Self::Notice { account, .. }
            | Self::Hidden { account, .. }
            | Self::NoPush { account, .. }
            | Self::EndAll { account, .. }
            | Self::Unkept { account, .. } => show(account),
        }
    }

    /// About how many bytes the item takes while it waits.
    pub fn size(&self) -> usize {
        match self {
            Self::Message(Message { packet, .. }) | Self::Unkept { packet, .. } => {
                64 + packet.size()
            }
            Self::Iq { packet, .. }
            | Self::Subscription(packet)
            | Self::Push { packet, .. }
            | Self::Notice { packet, .. } => 48 + packet.size(),
            Self::Presence { packet, to } => {
                48 + packet.size() + to.iter().map(|to| name(to.as_str())).sum::<usize>()
            }
            Self::Probe { to, .. } => 48 + to.iter().map(|to| name(to.as_str())).sum::<usize>(),
            Self::Hidden { mids, .. } => 48 + size_of_val(mids.as_slice()),
            Self::EndAll { .. } | Self::NoPush { .. } => 48,
        }
    }
}

/// Bytes of an address among others.
fn name(text: &str) -> usize {
    16 + text.len()
}

#[cfg(test)]
mod tests;
