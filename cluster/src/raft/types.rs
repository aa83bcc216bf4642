//! The parameters of openraft, and a short name for each of its types that we use.
//!
//! No other module spells out openraft's generics.

use std::fmt;

use bytes::Bytes;
use openraft::alias;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::snapshot::SnapshotData;
use crate::format::{FormatError, Version};
use crate::session::{Batch, Outcome};

/// A [`Batch`], encoded once: the same bytes go to the log, to the wire and to the state machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Bytes);

impl Proposal {
    /// Encodes a batch.
    pub fn new(batch: &Batch) -> Self {
        Self(batch.write(Version::CURRENT).into())
    }

    /// The batch, of whichever version that this build reads.
    pub fn batch(&self) -> Result<(Version, Batch), FormatError> {
        Batch::read(&self.0)
    }
}

/// Shows only the size, as the content is people's messages (T-73).
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The place of a voter. Its Raft id names its disk; this names the seat that the disk is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The seat's number in the configuration.
    pub seat: u64,
    /// Host and port of the node-to-node listener.
    pub address: String,
}

openraft::declare_raft_types!(
    /// openraft's parameters.
    pub TC:
        D = Proposal,
        R = Vec<Outcome>,
        NodeId = u64,
        Node = Seat,
);

/// The identity of a disk, as openraft sees it; [`crate::NodeId`] elsewhere.
pub type RaftId = u64;
/// One Raft group of this process.
pub type Raft = openraft::Raft<TC, Machine>;
/// A log entry.
pub type Entry = alias::EntryOf<TC>;
/// The identity of a log entry.
pub type LogId = alias::LogIdOf<TC>;
/// A vote, or a leader's title.
pub type Vote = alias::VoteOf<TC>;
/// Voters and learners, with the entry that made them so.
pub type StoredMembership = alias::StoredMembershipOf<TC>;
/// First and last entry of a log.
pub type LogState = openraft::LogState<TC>;
/// Called when entries are on disk.
pub type IoFlushed = openraft::storage::IOFlushed<TC>;
/// An entry to apply, and who waits for it.
pub type EntryResponder = openraft::storage::EntryResponder<TC>;
/// What a snapshot covers.
pub type SnapshotMeta = alias::SnapshotMetaOf<TC>;
/// A snapshot with its data.
pub type Snapshot = alias::SnapshotOf<TC, SnapshotData>;
/// See [`openraft::raft::AppendEntriesRequest`].
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TC>;
/// See [`openraft::raft::AppendEntriesResponse`].
pub type AppendResponse = openraft::raft::AppendEntriesResponse<TC>;
/// See [`openraft::raft::VoteRequest`].
pub type VoteRequest = openraft::raft::VoteRequest<TC>;
/// See [`openraft::raft::VoteResponse`].
pub type VoteResponse = openraft::raft::VoteResponse<TC>;
/// See [`openraft::raft::TransferLeaderRequest`].
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TC>;
/// See [`openraft::raft::TransferLeaderResponse`].
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TC>;
/// See [`openraft::raft::SnapshotResponse`].
pub type SnapshotResponse = openraft::raft::SnapshotResponse<TC>;
/// A call to a peer failed.
pub type RpcError = openraft::errors::RPCError<TC>;
/// A snapshot transfer failed.
pub type StreamingError = openraft::errors::StreamingError<TC>;
/// The group has stopped for good.
pub type GroupStopped = openraft::errors::Fatal<TC>;
/// What a group tells about itself.
pub type Metrics = openraft::RaftMetrics<TC>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_73_a_proposal_shows_its_size_only() {
        let batch = Batch {
            now: 1,
            commands: Vec::new(),
        };
        let proposal = Proposal::new(&batch);
        assert_eq!(
            format!("{proposal} {proposal:?}"),
            format!("{0} bytes {0} bytes", proposal.0.len())
        );
        assert_eq!(
            proposal.batch().expect("decodes"),
            (Version::CURRENT, batch)
        );
    }
}
