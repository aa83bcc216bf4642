//! The ways between accounts: within the shard at once, to another one through its outbox.

use proto::BareJid;

use super::command::Outcome;
use super::cow::CopyOnWrite;
use super::outbox::FLOODED;
use super::relay::Relay;
use super::state::ShardState;
use super::step::Step;
use crate::id::ShardId;

impl ShardState {
    /// Sends something to the account, in this shard or another.
    pub(super) fn dispatch(&mut self, account: &BareJid, relay: Relay, step: &mut Step) {
        self.send_to_shard(self.home_of(account), relay, step);
    }

    pub(super) fn send_to_shard(&mut self, shard: ShardId, relay: Relay, step: &mut Step) {
        if shard == self.id() {
            self.deliver(relay, step);
        } else {
            self.outboxes_mut().post(shard, CopyOnWrite::new(relay));
        }
    }

    /// More waits for the account's shard than may: what is sent there is refused.
    pub(super) fn is_cut_off(&self, account: &BareJid) -> bool {
        self.outboxes().is_full(self.home_of(account))
    }

    /// So much more that even what takes something back is refused.
    pub(super) fn is_flooded(&self, account: &BareJid) -> bool {
        self.outboxes().load(self.home_of(account)).bytes >= FLOODED
    }

    /// Items come from another shard: those that are new take effect.
    pub(super) fn relayed(
        &mut self,
        from: ShardId,
        first: u64,
        items: Vec<Relay>,
        step: &mut Step,
    ) -> Outcome {
        let taken = match self.outboxes_mut().take(from, first, items.len()) {
            Ok(taken) => taken,
            Err(expected) => return Outcome::Gap { expected },
        };
        for relay in items.into_iter().skip(taken.known) {
            self.deliver(relay, step);
        }
        Outcome::Relayed { cursor: taken.next }
    }
}
