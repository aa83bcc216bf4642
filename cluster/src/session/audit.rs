//! Whether the replicas of a shard still agree.
//!
//! Replicas apply the same entries, so their states are the same, unless memory fails, or a build is not
//! as deterministic as it should be. Nobody would notice before clients saw it. So each replica keeps two
//! hashes in one:
//!
//! - one that runs along with the entries, over what each has brought about: outcomes, outputs, and the
//!   numbers that count accounts, effects, orders and epochs. It costs microseconds, and notices at once what
//!   makes a difference to anyone;
//! - at every checkpoint, which is after `compared_after` entries, a stretch of the accounts as they would be
//!   written into a snapshot, [`STRETCH`] at a time and round and round. To hash all of a large state at once
//!   would stop the shard for seconds; in stretches a difference that nobody has met yet is found as well,
//!   if later.
//!
//! Replicas tell each other their hashes by a command of their own ([`Command::Compare`](super::Command::Compare)), so that all of
//! them see the same claims in the same order. A replica whose hash is not that of most voters is the one that
//! is wrong, whether it leads or not: its process ends before it tells clients what is not so. When no hash has
//! a majority nobody knows who is right, and all say so.
//!
//! What is hashed must be the same for neighbouring versions: it is what the older one would have written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use proto::BareJid;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::command::Outcome;
use super::output::{Event, Output};
use super::users::Users;
use crate::codec;
use crate::id::NodeId;

/// Bytes of accounts at a checkpoint. Everybody in the shard waits while they are hashed, about a millisecond.
pub(crate) const STRETCH: u64 = 512 << 10;
/// Checkpoints that claims are taken for: a replica that is further behind is not compared.
const KEPT: usize = 4;
/// Claims for one checkpoint: more than there are voters.
const CLAIMS: usize = 64;

/// The hashes of a shard. All but the claims is each replica's own work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Audit {
    /// Entries that were applied since there are hashes.
    entries: u64,
    hash: u64,
    /// The next stretch begins behind this account,
    behind: Option<BareJid>,
    /// and so many bytes into the one that follows: it was too large for the last one.
    within: u64,
    /// Oldest first.
    checkpoints: VecDeque<Checkpoint>,
}

/// The hash after so many entries, and what the replicas say that it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Checkpoint {
    at: u64,
    hash: u64,
    claims: BTreeMap<NodeId, u64>,
}

/// Another replica has another hash than this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissent {
    /// Whose claim it is.
    pub node: NodeId,
    /// After so many entries.
    pub at: u64,
    /// This replica's hash.
    pub own: u64,
    /// The other one's.
    pub theirs: u64,
}

/// Hashes what is written to it.
struct Hashing {
    hasher: Xxh3,
}

impl Hashing {
    fn new(seed: u64) -> Self {
        Self {
            hasher: Xxh3::with_seed(seed),
        }
    }

    fn value(&mut self, value: &impl Serialize) {
        // A hash takes every byte, and all our types can be encoded.
        codec::encode_to(value, self).expect("hashing does not fail");
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    /// With its length, so that what follows is not taken for a part of it.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn output(&mut self, output: &Output) {
        self.bytes(output.session.as_str().as_bytes());
        self.number(output.owner.conn.0);
        self.number(output.epoch.0);
        match &output.event {
            Event::Bound => self.number(1),
            Event::Enabled(enabled) => self.number(enabled.next << 8 | 2),
            Event::Resumed(resumed) => {
                self.number(u64::from(resumed.h) << 8 | 3);
                self.number(resumed.next_in);
                self.number(resumed.next_out);
            }
            Event::Stanza { seq, item } => {
                self.number(seq << 8 | 4);
                self.number(item.order.0);
                self.bytes(&item.packet.payload);
            }
            Event::Detached(_) => self.number(5),
        }
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes a part of what is written to it, and fails behind that part, so that no more is written.
struct Part<'a> {
    hasher: &'a mut Xxh3,
    /// Bytes in front of it.
    skip: u64,
    /// Bytes of it that are still to come.
    left: &'a mut u64,
}

impl io::Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        let skipped = self.skip.min(len);
        let taken = (*self.left).min(len - skipped);
        // Neither is more than the length of a slice.
        self.hasher
            .update(&bytes[skipped as usize..(skipped + taken) as usize]);
        self.skip -= skipped;
        *self.left -= taken;
        match skipped + taken == len {
            true => Ok(bytes.len()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a replica's word about its hash amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This replica has no hash of that time any more, or none yet.
    Unknown,
    /// Both have the same one.
    Same,
    Different(Dissent),
}

impl Audit {
    /// Takes into the hash what an entry has brought about: numbers that count what the shard holds, outcomes and
    /// outputs. Returns whether this makes a checkpoint, if there is one after `every` so many entries.
    pub(super) fn add(
        &mut self,
        every: u64,
        numbers: impl IntoIterator<Item = u64>,
        outcomes: &[Outcome],
        outputs: &[Output],
    ) -> bool {
        let mut hashing = Hashing::new(self.hash);
        numbers
            .into_iter()
            .for_each(|number| hashing.number(number));
        hashing.value(&outcomes);
        for output in outputs {
            hashing.output(output);
        }
        self.hash = hashing.hasher.digest();
        self.entries += 1;
        self.entries.is_multiple_of(every)
    }

    pub(super) fn add_checkpoint(&mut self, users: &Users) {
        self.hash_stretch(users, STRETCH);
        self.checkpoints.push_back(Checkpoint {
            at: self.entries,
            hash: self.hash,
            claims: BTreeMap::new(),
        });
        if self.checkpoints.len() > KEPT {
            self.checkpoints.pop_front();
        }
    }

    /// Takes the next accounts into the hash, at most so many bytes of them. It goes on within an account, because one
    /// with full queues is as large as a hundred others.
    fn hash_stretch(&mut self, users: &Users, most: u64) {
        let mut hasher = Xxh3::with_seed(self.hash);
        let mut left = most;
        for (account, user) in users.after(self.behind.clone().as_ref()) {
            let before = left;
            let mut part = Part {
                hasher: &mut hasher,
                skip: self.within,
                left: &mut left,
            };
            if codec::encode_to(&(account, user), &mut part).is_err() {
                self.within += before - left;
                break;
            }
            self.behind = Some(account.clone());
            self.within = 0;
        }
        if users.after(self.behind.as_ref()).next().is_none() {
            self.behind = None;
        }
        self.hash = hasher.digest();
    }

    /// A replica says what its hash was.
    pub(super) fn claim(&mut self, node: NodeId, at: u64, theirs: u64) -> Claim {
        let mut checkpoints = self.checkpoints.iter_mut();
        let Some(checkpoint) = checkpoints.find(|checkpoint| checkpoint.at == at) else {
            return Claim::Unknown;
        };
        if checkpoint.claims.len() < CLAIMS {
            checkpoint.claims.insert(node, theirs);
        }
        let own = checkpoint.hash;
        if own == theirs {
            return Claim::Same;
        }
        Claim::Different(Dissent {
            node,
            at,
            own,
            theirs,
        })
    }

    /// After how many entries there last was a hash to tell, and what it was.
    pub(super) fn checkpoint(&self) -> Option<(u64, u64)> {
        let newest = self.checkpoints.back();
        newest.map(|checkpoint| (checkpoint.at, checkpoint.hash))
    }

    /// The last entry made a checkpoint.
    #[cfg(test)]
    pub(super) fn is_at_checkpoint(&self) -> bool {
        self.checkpoint().is_some_and(|(at, _)| at == self.entries)
    }

    /// The hash of most voters, if it is another one than that of this replica.
    pub(super) fn outvoted(&self, at: u64, voters: &BTreeSet<NodeId>) -> Option<u64> {
        let mut checkpoints = self.checkpoints.iter();
        let checkpoint = checkpoints.find(|checkpoint| checkpoint.at == at)?;
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for (node, hash) in &checkpoint.claims {
            *votes.entry(*hash).or_default() += usize::from(voters.contains(node));
        }
        let won = votes.into_iter().find(|(_, n)| 2 * n > voters.len());
        won.map(|(hash, _)| hash)
            .filter(|hash| *hash != checkpoint.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, jid};
    use super::*;
    use crate::format::Version;
    use crate::session::*;

    /// A shard with accounts, after so many entries with hashes.
    fn shard(entries: u64) -> ShardState {
        let mut stage = Stage::new();
        for n in 0..20 {
            stage.resumable(&format!("user{n}@example.org/r"), Some(0));
        }
        stage.apply(Command::Settings(Settings {
            compared_after: 2,
            ..Settings::default()
        }));
        let mut state = stage.state;
        for now in 0..entries {
            state.apply_as(Version::V2, tick(now));
        }
        state
    }

    fn tick(now: u64) -> Batch {
        Batch {
            now: 2_000_000 + now,
            commands: vec![Command::Tick],
        }
    }

    fn claim(state: &mut ShardState, node: u64, at: u64, hash: u64) -> Vec<Dissent> {
        let command = Command::Compare {
            node: NodeId(node),
            at,
            hash,
        };
        let batch = Batch {
            now: 3_000_000,
            commands: vec![command],
        };
        state.apply(batch).dissents
    }

    fn voters() -> BTreeSet<NodeId> {
        (1..=3).map(NodeId).collect()
    }

    #[test]
    fn i_16_whoever_differs_from_most_voters_is_the_one_that_is_wrong() {
        let mut state = shard(4);
        let (at, own) = state.checkpoint().expect("is one");
        assert_eq!((at, claim(&mut state, 1, at, own)), (4, Vec::new()));
        let dissents = claim(&mut state, 2, at, own + 1);
        let expect = Dissent {
            node: NodeId(2),
            at,
            own,
            theirs: own + 1,
        };
        assert_eq!(dissents, [expect]);
        assert_eq!(state.outvoted(at, &voters()), None, "one against one");
        claim(&mut state, 9, at, own + 1);
        assert_eq!(state.outvoted(at, &voters()), None, "no voter");
        claim(&mut state, 3, at, own + 1);
        assert_eq!(state.outvoted(at, &voters()), Some(own + 1));
    }

    #[test]
    fn i_16_a_difference_anywhere_in_an_account_shows_at_the_next_checkpoint() {
        let (one, mut other) = (shard(4), shard(4));
        assert_eq!(one.checkpoint(), other.checkpoint());
        let session = other.session_mut(&jid("user17@example.org/r"));
        session.expect("is there").fall_overdue();
        let next = |mut state: ShardState| {
            for now in 10..12 {
                state.apply_as(Version::V2, tick(now));
            }
            state.checkpoint()
        };
        assert_ne!(next(one), next(other));
    }

    #[test]
    fn stretches_go_round_through_all_accounts_in_parts_of_them() {
        let state = shard(0);
        let (mut audit, mut seen) = (state.audit().clone(), BTreeSet::new());
        let size = |(account, user)| codec::size(&(account, user)) as u64;
        let bytes: u64 = state.users().after(None).map(size).sum();
        let mut stretches = 0;
        while stretches == 0 || (audit.behind.is_some() || audit.within > 0) {
            audit.hash_stretch(state.users(), 64);
            seen.insert(audit.behind.clone());
            stretches += 1;
        }
        assert_eq!(
            seen.len(),
            20,
            "19 accounts, and none at the beginning and the end"
        );
        assert_eq!(stretches, bytes.div_ceil(64));
    }

    #[test]
    fn what_a_stretch_hashes_is_as_long_as_it_may_be_whatever_an_account_holds() {
        let hashed = |skip, mut left, pieces: &[&str]| {
            let mut hasher = Xxh3::new();
            let mut part = Part {
                hasher: &mut hasher,
                skip,
                left: &mut left,
            };
            let mut pieces = pieces.iter();
            let whole =
                pieces.all(|piece| io::Write::write_all(&mut part, piece.as_bytes()).is_ok());
            (hasher.digest(), whole)
        };
        let hash = xxhash_rust::xxh3::xxh3_64;
        assert_eq!(hashed(0, 9, &["abc", "defgh"]), (hash(b"abcdefgh"), true));
        assert_eq!(hashed(0, 8, &["abc", "defgh"]), (hash(b"abcdefgh"), true));
        assert_eq!(hashed(2, 4, &["abc", "defgh", "i"]), (hash(b"cdef"), false));
        assert_eq!(hashed(9, 4, &["abc", "defgh"]), (hash(b""), true));
    }

    #[test]
    fn entries_of_version_1_have_no_hash_and_old_checkpoints_take_no_claims() {
        let mut state = shard(0);
        for now in 0..5 {
            state.apply_as(Version::V1, tick(now));
        }
        assert_eq!(state.checkpoint(), None);
        let mut state = shard(2 * (KEPT as u64 + 1));
        assert!(claim(&mut state, 1, 2, 7).is_empty());
        assert_eq!(claim(&mut state, 1, 4, 7).len(), 1);
    }
}
