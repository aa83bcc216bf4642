//! Between shards: what one has committed and the other has not yet confirmed.
//!
//! The sender keeps items in order until the receiver's cursor has passed them; the receiver skips what
//! its cursor covers and refuses gaps. Both move in the same entry as the state they belong to, so a
//! repeat after any crash is harmless.

use proto::BareJid;
use serde::{Deserialize, Serialize};

use super::cow::{CopyOnWrite, Queue};
use super::state::ShardState;
use super::{Outcome, Output, Relay};
use crate::id::ShardId;
use crate::shard::map::shard_of;

/// Items for one other shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// The number of the first item.
    pub(super) first: u64,
    pub(super) items: Queue<CopyOnWrite<Relay>>,
}

impl ShardState {
    /// Sends something to the account, in this shard or another.
    pub(super) fn dispatch(&mut self, account: &BareJid, relay: Relay, out: &mut Vec<Output>) {
        let shard = shard_of(account, self.shards);
        if shard == self.id {
            self.deliver(relay, out);
        } else {
            self.post(shard, relay);
        }
    }

    pub(super) fn post(&mut self, shard: ShardId, relay: Relay) {
        self.backlog += relay.size() as u64;
        let outbox = self.outboxes.entry(shard).or_insert(Outbox {
            first: 1,
            items: Queue::default(),
        });
        outbox.items.push_back(CopyOnWrite::new(relay));
    }

    pub(super) fn relayed(
        &mut self,
        from: ShardId,
        first: u64,
        items: Vec<Relay>,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let cursor = *self.cursors.get(&from).unwrap_or(&1);
        if first > cursor {
            return Outcome::Gap { expected: cursor };
        }
        let known = usize::try_from(cursor - first).unwrap_or(usize::MAX);
        let next = (first + items.len() as u64).max(cursor);
        for relay in items.into_iter().skip(known) {
            self.deliver(relay, out);
        }
        self.cursors.insert(from, next);
        Outcome::Relayed { cursor: next }
    }

    pub(super) fn trim(&mut self, to: ShardId, upto: u64) -> Outcome {
        if let Some(outbox) = self.outboxes.get_mut(&to) {
            while outbox.first < upto
                && let Some(relay) = outbox.items.pop_front()
            {
                outbox.first += 1;
                self.backlog -= relay.size() as u64;
            }
        }
        Outcome::Done
    }

    /// The numbers of the first unconfirmed item for `to` and of the next one to come.
    pub fn outbox_range(&self, to: ShardId) -> (u64, u64) {
        self.outboxes
            .get(&to)
            .map_or((1, 1), |o| (o.first, o.first + o.items.len() as u64))
    }

    /// Items for `to` from number `from` (or the first there is) on, at most `max_items` and about
    /// `max_bytes`, with the number of the first.
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
        let items = outbox.items.from(skip).take(max_items).take_while(|relay| {
            let fits = bytes < max_bytes;
            bytes += relay.size();
            fits
        });
        (first, items.map(|relay| Relay::clone(relay)).collect())
    }
}

impl Relay {
    /// About how many bytes the item takes on the wire.
    pub fn size(&self) -> usize {
        match self {
            Self::Message(m) => 128 + m.packet.payload.len(),
            Self::Iq { packet, .. }
            | Self::Subscription(packet)
            | Self::Push { packet, .. }
            | Self::Notice { packet, .. } => 96 + packet.payload.len(),
            Self::Presence { packet, to } => 96 + packet.payload.len() + 32 * to.len(),
            Self::Probe { to, .. } => 48 + 32 * to.len(),
            Self::Hidden { mids, .. } => 48 + 16 * mids.len(),
            Self::Unkept { packet, .. } => 96 + packet.payload.len(),
            Self::EndAll { .. } | Self::NoPush { .. } => 48,
        }
    }
}
