//! Ends a process whose replica of a shard differs from those of most voters; see `session::audit` for how
//! that is found.
//!
//! It would not be enough to leave only the shard or to be not ready: clients read from the replica on their own node,
//! it may be the leader, and its next snapshot would make the error permanent. The others carry on, and sessions resume
//! there. When the node is started again it replays its log on its last snapshot. If the snapshot is right the error is
//! gone; if not, the node ends again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::types::{LogId, StoredMembership};
use crate::identity::ANEW;
use crate::session::{Dissent, ShardState};
use crate::{NodeId, ShardId};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// How many hashes of other replicas have differed from those on this node since the process began.
pub fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

/// The state of this node's replica differs from that of most voters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the replica of shard {shard} on this node is wrong: after {at} entries its hash is {own:016x}, and that of most \
     voters is {most:016x} (told by entry {entry}); if this comes again after a restart, {ANEW}"
)]
pub struct Outvoted {
    shard: ShardId,
    entry: LogId,
    at: u64,
    own: u64,
    most: u64,
}

/// Logs which replicas differ. Returns an error if this node's replica is the wrong one.
pub(crate) fn judge(
    shard: ShardId,
    entry: LogId,
    state: &ShardState,
    membership: &StoredMembership,
    dissents: &[Dissent],
) -> Result<(), Outvoted> {
    for dissent in dissents {
        let Dissent {
            node,
            at,
            own,
            theirs,
        } = *dissent;
        SEEN.fetch_add(1, Ordering::Relaxed);
        let seat = membership
            .membership()
            .get_node(&node.0)
            .map(|seat| seat.seat);
        tracing::error!(
            %shard, seat, %node, %entry,
            "replicas disagree: after {at} entries the hash of this one is {own:016x}, that of the other {theirs:016x}"
        );
        let voters: BTreeSet<NodeId> = membership.membership().voter_ids().map(NodeId).collect();
        if let Some(most) = state.outvoted(at, &voters) {
            return Err(Outvoted {
                shard,
                entry,
                at,
                own,
                most,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::stream;
    use openraft::EntryPayload;
    use openraft::storage::RaftStateMachine;

    use super::*;
    use crate::raft::Fatal;
    use crate::raft::machine::Machine;
    use crate::raft::machine::tests::Deaf;
    use crate::raft::types::{Entry, Proposal, Seat, TC};
    use crate::session::{Batch, Command, Settings};

    async fn apply(
        machine: &mut Machine,
        index: u64,
        payload: EntryPayload<Proposal, u64, Seat>,
    ) -> bool {
        let log_id = openraft::testing::log_id::<TC>(1, 1, index);
        let entry = Entry { log_id, payload };
        machine
            .apply(stream::iter([Ok((entry, None))]))
            .await
            .is_ok()
    }

    fn batch(command: Command) -> EntryPayload<Proposal, u64, Seat> {
        let commands = vec![command];
        EntryPayload::Normal(Proposal::new(&Batch { now: 1, commands }))
    }

    #[tokio::test]
    async fn i_16_the_process_ends_whose_replica_most_voters_contradict() {
        let dir = tempfile::tempdir().expect("dir");
        let last_words = Arc::<Mutex<String>>::default();
        let heard = last_words.clone();
        let fatal = Fatal::new(move |why| *heard.lock().expect("lock") = why.to_owned());
        let mut machine =
            Machine::open((ShardId(1), 3), dir.path(), None, Arc::new(Deaf), fatal).expect("opens");
        let voters = (1..=3).map(|n| (n, Seat::default()));
        let voters: std::collections::BTreeMap<u64, Seat> = voters.collect();
        let membership = openraft::Membership::new(vec![voters.keys().copied().collect()], voters);
        let membership = EntryPayload::Membership(membership.expect("valid"));
        assert!(apply(&mut machine, 0, membership).await);
        let settings = Settings {
            compared_after: 1,
            ..Settings::default()
        };
        assert!(apply(&mut machine, 1, batch(Command::Settings(settings))).await);
        let at = 1;
        let claim = |node| Command::Compare {
            node: NodeId(node),
            at,
            hash: 7,
        };
        let before = seen();
        assert!(apply(&mut machine, 2, batch(claim(2))).await);
        assert_eq!(*last_words.lock().expect("lock"), "");
        assert!(!apply(&mut machine, 3, batch(claim(3))).await);
        let said = last_words.lock().expect("lock").clone();
        let named = ["shard 1", "after 1 entries", "0000000000000007"];
        assert!(named.iter().all(|part| said.contains(part)), "{said}");
        assert!(seen() >= before + 2);
    }
}
