//! The greeting: the first frame in each direction, sent once both ends have authenticated. It says who is speaking,
//! and which versions of the formats it speaks.
//!
//! ```text
//! u8 0xff │ u8 oldest version │ u8 newest version │ Body │ zone
//! ```
//!
//! Builds of any age must be able to read a greeting, since it tells them that they do not fit together. So what stands
//! before the body never changes, new fields are only added at the end, a reader ignores what follows the fields that
//! it knows, and takes those that are missing as empty.

use serde::{Deserialize, Serialize};

use super::Process;
use crate::codec::{self, CodecError};
use crate::format::{self, Version, Versions};
use crate::identity::{ClusterId, Identity};
use crate::{BootId, NodeId};

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions of the formats that the sender reads and writes.
    pub speaks: Versions,
    /// Everything else that every build says which has more than version 1.
    pub body: Body,
    /// The zone that the sender is in. Empty if it is in none, or its build knows of none.
    pub zone: String,
}

/// What a greeting says beside the versions. It is not read if the sender has version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The configured name of the cluster.
    pub cluster_name: String,
    /// The cluster that the sender belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// The configured number of shards.
    pub shards: u16,
    /// The seat of the sender.
    pub seat: u64,
    /// The node id of the sender.
    pub node: NodeId,
    /// The run of the sender's process.
    pub boot: BootId,
    /// Host and port at which the sender is reached.
    pub address: String,
    /// The receiver's data directory was replaced, or the cluster gave it up: it has to start anew. Whoever accepts a
    /// connection answers so; whoever makes one greets a second time.
    pub replaced: bool,
}

/// What a node says of itself in every greeting.
#[derive(Clone, Debug)]
pub struct Place {
    /// The configured name of the cluster.
    pub cluster_name: String,
    /// The configured number of shards.
    pub shards: u16,
    /// Host and port at which others reach this node.
    pub address: String,
    /// The zone that this node is in, if it is in one.
    pub zone: String,
}

/// Why this node refuses a peer. The connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Its build is too old or too new.
    #[error("the peer speaks formats {theirs}, this node {ours}; upgrade one version at a time")]
    Versions {
        /// What the peer speaks.
        theirs: Versions,
        /// What this node speaks.
        ours: Versions,
    },
    /// Its cluster has another name.
    #[error("the peer belongs to a cluster named {0}")]
    ClusterName(String),
    /// It belongs to another cluster of the same name.
    #[error("the peer belongs to cluster {:016x}", .0.0)]
    Cluster(ClusterId),
    /// It is configured with another number of shards.
    #[error("the peer is configured with {0} shards")]
    Shards(u16),
    /// It has not the seat that was called, or none that is configured.
    #[error("the peer has seat {0}, which is not the one expected")]
    Seat(u64),
    /// It has the same node id, so its data directory is a copy.
    #[error("the peer has the same node id {0} as another node: a copied data directory")]
    Copy(NodeId),
    /// It is the process that asks: an address behind a name is its own.
    #[error("this node has called itself")]
    Myself,
    /// Its data directory was replaced by another, or the cluster gave it up.
    #[error(
        "node {0} is no longer a member: it was away for long, was removed, or another has its seat; it joins anew"
    )]
    Retired(NodeId),
}

impl Hello {
    /// The greeting of this node.
    pub fn of(identity: &Identity, speaks: Versions, place: &Place) -> Self {
        Self {
            speaks,
            body: Body {
                cluster_name: place.cluster_name.clone(),
                cluster: identity.cluster(),
                shards: place.shards,
                seat: identity.seat(),
                node: identity.node(),
                boot: identity.boot(),
                address: place.address.clone(),
                replaced: false,
            },
            zone: place.zone.clone(),
        }
    }

    /// Encodes the greeting as the payload of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(format::head(self.speaks.oldest));
        out.push(self.speaks.newest.0);
        codec::encode_into(&self.body, &mut out);
        if !self.zone.is_empty() {
            codec::encode_into(&self.zone, &mut out);
        }
        out
    }

    /// Decodes a greeting. From one of version 1, only the version is known.
    pub fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let (oldest, rest) = format::split(payload);
        let (newest, (body, rest)) = match rest.split_first() {
            Some((newest, body)) if oldest > Version::V1 => {
                (Version(*newest), codec::decode_first(body)?)
            }
            _ => (Version::V1, (Body::default(), &[][..])),
        };
        let zone = match rest {
            [] => String::new(),
            _ => codec::decode_first(rest)?.0,
        };
        let speaks = Versions { oldest, newest };
        Ok(Self { speaks, body, zone })
    }

    /// The process that sent it.
    pub fn process(&self) -> Process {
        Process {
            seat: self.body.seat,
            node: self.body.node,
            boot: self.body.boot,
        }
    }

    /// The newest version of the formats that both understand.
    pub fn common(&self, theirs: &Self) -> Result<Version, HelloError> {
        let (ours, theirs) = (self.speaks, theirs.speaks);
        ours.common(theirs)
            .ok_or(HelloError::Versions { theirs, ours })
    }

    /// Refuses a peer that sent `theirs` if it is not the one that should be in `seat`.
    pub fn check(&self, theirs: &Self, seat: u64, retired: bool) -> Result<(), HelloError> {
        self.common(theirs)?;
        let (ours, theirs) = (&self.body, &theirs.body);
        if (theirs.node, theirs.boot) == (ours.node, ours.boot) {
            return Err(HelloError::Myself);
        }
        if theirs.cluster_name != ours.cluster_name {
            return Err(HelloError::ClusterName(theirs.cluster_name.clone()));
        }
        if let (Some(ours), Some(cluster)) = (ours.cluster, theirs.cluster)
            && ours != cluster
        {
            return Err(HelloError::Cluster(cluster));
        }
        if theirs.shards != ours.shards {
            return Err(HelloError::Shards(theirs.shards));
        }
        if theirs.seat != seat || theirs.seat == ours.seat {
            return Err(HelloError::Seat(theirs.seat));
        }
        if theirs.node == ours.node {
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
            speaks: Versions::SPOKEN,
            body: Body {
                cluster_name: String::from("holdfast"),
                cluster: Some(ClusterId(1)),
                shards: 3,
                seat,
                node: NodeId(seat),
                boot: BootId(seat),
                address: format!("127.0.0.1:{seat}"),
                replaced: false,
            },
            zone: String::from("east"),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Hello), expect: Result<(), HelloError>) {
        let mut theirs = hello(2);
        change(&mut theirs);
        let retired = theirs.body.node == NodeId(9);
        assert_eq!(hello(1).check(&theirs, 2, retired), expect);
    }

    #[test]
    fn t_69_foreign_copied_and_replaced_nodes_are_refused() {
        check(|_| (), Ok(()));
        check(|theirs| theirs.body.cluster = None, Ok(()));
        check(
            |theirs| theirs.body.cluster = Some(ClusterId(2)),
            Err(HelloError::Cluster(ClusterId(2))),
        );
        check(
            |theirs| theirs.body.cluster_name.push('x'),
            Err(HelloError::ClusterName(String::from("holdfastx"))),
        );
        check(|theirs| theirs.body.shards = 4, Err(HelloError::Shards(4)));
        check(|theirs| theirs.body.seat = 3, Err(HelloError::Seat(3)));
        check(
            |theirs| theirs.body.node = NodeId(1),
            Err(HelloError::Copy(NodeId(1))),
        );
        check(|theirs| *theirs = hello(1), Err(HelloError::Myself));
        check(
            |theirs| theirs.body.node = NodeId(9),
            Err(HelloError::Retired(NodeId(9))),
        );
    }
    fn speaks(oldest: u8, newest: u8) -> Versions {
        Versions {
            oldest: Version(oldest),
            newest: Version(newest),
        }
    }

    #[test]
    fn a_build_that_reads_neither_our_version_nor_the_one_before_is_refused() {
        let (ours, newest) = (Versions::SPOKEN, Version::CURRENT.0);
        check(|theirs| theirs.speaks = speaks(newest, newest + 1), Ok(()));
        for theirs in [speaks(1, 1), speaks(newest + 1, newest + 2)] {
            check(
                |hello| hello.speaks = theirs,
                Err(HelloError::Versions { theirs, ours }),
            );
        }
    }

    #[test]
    fn an_earlier_build_s_greeting_names_no_zone() {
        let now = hello(2);
        let mut payload = now.encode();
        payload.truncate(payload.len() - codec::encode(&now.zone).len());
        let expect = Hello {
            zone: String::new(),
            ..now
        };
        assert_eq!(Hello::decode(&payload).expect("reads"), expect);
    }

    #[test]
    fn a_later_build_s_greeting_is_read_as_far_as_it_is_known() {
        let mut later = hello(2);
        later.speaks = speaks(3, 4);
        let mut payload = later.encode();
        payload.extend_from_slice(b"what nobody knows yet");
        assert_eq!(Hello::decode(&payload).expect("reads"), later);
    }
}
