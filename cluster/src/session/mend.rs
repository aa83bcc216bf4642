//! Makes shards agree again on what they have told each other, after some of them have lost their last entries.
//!
//! An item of an outbox is skipped if its number is below the receiver's cursor, and refused if there is a gap before
//! it. With the end of one of the two logs missing, the first would lose what is said next without a word, and the
//! second would hold everything up for ever.

use super::outbox::Outboxes;
use super::state::ShardState;
use crate::id::ShardId;

/// Items that one shard has taken and another does not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Whose items they were.
    pub from: ShardId,
    /// Who had taken them.
    pub by: ShardId,
    /// How many.
    pub items: u64,
}

/// Mends what is between each two of these shards. Returns what the receivers have forgotten.
pub(crate) fn mend(shards: &mut [ShardState]) -> Vec<Forgotten> {
    let mut forgotten = Vec::new();
    for sender in 0..shards.len() {
        for receiver in 0..shards.len() {
            let (from, to) = (shards[sender].id(), shards[receiver].id());
            let (first, next) = shards[sender].outboxes().range(to);
            let expected = shards[receiver].outboxes().expected(from);
            if expected < first {
                shards[receiver].outboxes_mut().expect(from, first);
                forgotten.push(Forgotten {
                    from,
                    by: to,
                    items: first - expected,
                });
            } else if expected > next {
                // What is here of these items has been taken, as it stands before what is missing.
                shards[sender].outboxes_mut().go_on(to, expected);
            }
        }
    }
    forgotten
}

impl Outboxes {
    /// The number of the next item that is expected from a shard.
    fn expected(&self, from: ShardId) -> u64 {
        self.cursors().get(&from).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use proto::BareJid;

    use super::*;
    use crate::session::cow::CopyOnWrite;
    use crate::session::{EndReason, Relay};

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    /// Shard A with so many items for B, of which this is the first, and B, which expects this one.
    fn shards(first: u64, items: u64, expected: u64) -> [ShardState; 2] {
        let [mut a, mut b] = [A, B].map(|shard| ShardState::new(shard, 2));
        a.outboxes_mut().begin(B, first);
        (0..items).for_each(|_| post(&mut a));
        b.outboxes_mut().expect(A, expected);
        [a, b]
    }

    fn post(shard: &mut ShardState) {
        let item = Relay::EndAll {
            account: BareJid::new("bob@example.org").expect("valid"),
            reason: EndReason::Expired,
        };
        shard.outboxes_mut().post(B, CopyOnWrite::new(item));
    }

    #[track_caller]
    fn check(mut shards: [ShardState; 2], range: (u64, u64), expected: u64, lost: u64) {
        let forgotten = mend(&mut shards);
        let items: u64 = forgotten.iter().map(|forgotten| forgotten.items).sum();
        assert_eq!(items, lost, "{forgotten:?}");
        let [mut a, mut b] = shards;
        assert_eq!(a.outbox_range(B), range);
        assert_eq!(b.outboxes().expected(A), expected);
        assert_eq!(a.outboxes().broken(), None);
        // Whatever was missing, the next item is taken, and none before it a second time.
        post(&mut a);
        let (first, items) = a.outboxes().items(B, 0, 100, usize::MAX);
        let taken = b
            .outboxes_mut()
            .take(A, first, items.len())
            .expect("no gap");
        assert!(taken.known < items.len(), "the last one is skipped");
    }

    #[test]
    fn shards_that_agree_are_left_alone() {
        check(shards(5, 3, 5), (5, 8), 5, 0);
        check(shards(5, 3, 7), (5, 8), 7, 0);
        check(shards(5, 3, 8), (5, 8), 8, 0);
    }

    #[test]
    fn a_receiver_that_has_forgotten_what_it_took_goes_on_behind_it() {
        check(shards(5, 3, 2), (5, 8), 5, 3);
        check(shards(5, 0, 1), (5, 5), 5, 4);
    }

    #[test]
    fn a_sender_that_has_forgotten_what_was_taken_goes_on_behind_it() {
        check(shards(5, 3, 9), (9, 9), 9, 0);
        let [_, receiver] = shards(1, 0, 57);
        check([ShardState::new(A, 2), receiver], (57, 57), 57, 0);
    }
}
