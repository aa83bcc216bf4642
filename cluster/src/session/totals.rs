//! What a shard holds, counted, for operators.

use super::state::ShardState;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sessions, with and without connections.
    pub sessions: usize,
    /// Sessions without a connection.
    pub hibernated: usize,
    /// Ended sessions whose inbound count is kept.
    pub old: usize,
    /// Stanzas in the queues of sessions.
    pub queued: usize,
    /// Their bytes in memory, about.
    pub queued_bytes: usize,
    /// Messages that wait for a user's next session, behind the markers.
    pub undelivered: usize,
    /// Work outside of the shard that is not confirmed.
    pub effects: usize,
    /// Items that wait for other shards to take them.
    pub outbox: usize,
    /// Their bytes, about.
    pub outbox_bytes: u64,
}

impl Totals {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            hibernated: self.hibernated + other.hibernated,
            old: self.old + other.old,
            queued: self.queued + other.queued,
            queued_bytes: self.queued_bytes + other.queued_bytes,
            undelivered: self.undelivered + other.undelivered,
            effects: self.effects + other.effects,
            outbox: self.outbox + other.outbox,
            outbox_bytes: self.outbox_bytes + other.outbox_bytes,
        }
    }
}

impl ShardState {
    /// Counts everything once; takes time in proportion to what there is.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            hibernated: self.deadlines().len(),
            effects: self.effects().len(),
            outbox: self.outboxes().items_waiting(),
            outbox_bytes: self.outboxes().bytes(),
            ..Totals::default()
        };
        for user in self.users().values() {
            totals.sessions += user.sessions.len();
            totals.old += user.old.len();
            totals.undelivered += user.waits();
            for session in user.sessions.values() {
                let (stanzas, bytes) = session.queue.load();
                totals.queued += stanzas;
                totals.queued_bytes += usize::try_from(bytes).unwrap_or(usize::MAX);
            }
        }
        totals
    }
}
