//! The first frame in each direction, once both ends have proved themselves: who is speaking.

use serde::{Deserialize, Serialize};

use super::Process;
use crate::identity::{ClusterId, Identity};
use crate::{BootId, NodeId};

/// The version of what follows. Frames of new kinds are added without changing it.
pub const VERSION: u32 = 1;

/// Who is speaking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version it speaks.
    pub version: u32,
    /// The configured name of its cluster.
    pub cluster_name: String,
    /// The cluster it belongs to, if any yet.
    pub cluster: Option<ClusterId>,
    /// The number of shards it is configured with.
    pub shards: u16,
    /// Its seat.
    pub seat: u64,
    /// Its disk.
    pub node: NodeId,
    /// Its run.
    pub boot: BootId,
}

/// The peer is not whom we may talk to. The connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another version.
    #[error("the peer speaks version {0}, this node {VERSION}")]
    Version(u32),
    /// Another name.
    #[error("the peer belongs to a cluster named {0}")]
    ClusterName(String),
    /// Another cluster with the same name.
    #[error("the peer belongs to cluster {:016x}", .0.0)]
    Cluster(ClusterId),
    /// A cluster is born with one number of shards.
    #[error("the peer is configured with {0} shards")]
    Shards(u16),
    /// Not the seat that was called, or not one that is configured.
    #[error("the peer has seat {0}, which is not the one expected")]
    Seat(u64),
    /// Our own disk, copied.
    #[error("the peer has the same node id {0} as another node: a copied data directory")]
    Copy(NodeId),
    /// A disk that was replaced.
    #[error("node {0} was replaced; empty its data directory to join anew under a new id")]
    Retired(NodeId),
}

impl Hello {
    /// What this node says.
    pub fn of(identity: &Identity, cluster_name: &str, shards: u16) -> Self {
        Self {
            version: VERSION,
            cluster_name: cluster_name.to_owned(),
            cluster: identity.cluster(),
            shards,
            seat: identity.seat(),
            node: identity.node(),
            boot: identity.boot(),
        }
    }

    /// Who it is.
    pub fn process(&self) -> Process {
        Process {
            seat: self.seat,
            node: self.node,
            boot: self.boot,
        }
    }

    /// Whether we may talk to the one who said `theirs` and who should have seat `seat`.
    pub fn check(&self, theirs: &Self, seat: u64, retired: bool) -> Result<(), HelloError> {
        if theirs.version != self.version {
            return Err(HelloError::Version(theirs.version));
        }
        if theirs.cluster_name != self.cluster_name {
            return Err(HelloError::ClusterName(theirs.cluster_name.clone()));
        }
        if let (Some(ours), Some(cluster)) = (self.cluster, theirs.cluster)
            && ours != cluster
        {
            return Err(HelloError::Cluster(cluster));
        }
        if theirs.shards != self.shards {
            return Err(HelloError::Shards(theirs.shards));
        }
        if theirs.seat != seat || theirs.seat == self.seat {
            return Err(HelloError::Seat(theirs.seat));
        }
        if theirs.node == self.node {
            return Err(HelloError::Copy(theirs.node));
        }
        match retired {
            true => Err(HelloError::Retired(theirs.node)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(seat: u64) -> Hello {
        Hello {
            version: VERSION,
            cluster_name: String::from("holdfast"),
            cluster: Some(ClusterId(1)),
            shards: 3,
            seat,
            node: NodeId(seat),
            boot: BootId(seat),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Hello), expect: Result<(), HelloError>) {
        let mut theirs = hello(2);
        change(&mut theirs);
        assert_eq!(hello(1).check(&theirs, 2, theirs.node == NodeId(9)), expect);
    }

    #[test]
    fn t_69_foreign_copied_and_replaced_nodes_are_refused() {
        check(|_| (), Ok(()));
        check(|theirs| theirs.cluster = None, Ok(()));
        check(
            |theirs| theirs.cluster = Some(ClusterId(2)),
            Err(HelloError::Cluster(ClusterId(2))),
        );
        check(
            |theirs| theirs.cluster_name.push('x'),
            Err(HelloError::ClusterName(String::from("holdfastx"))),
        );
        check(|theirs| theirs.version = 2, Err(HelloError::Version(2)));
        check(|theirs| theirs.shards = 4, Err(HelloError::Shards(4)));
        check(|theirs| theirs.seat = 3, Err(HelloError::Seat(3)));
        check(
            |theirs| theirs.node = NodeId(1),
            Err(HelloError::Copy(NodeId(1))),
        );
        check(
            |theirs| theirs.node = NodeId(9),
            Err(HelloError::Retired(NodeId(9))),
        );
    }
}
