//! Who acts for a session: a connection, or nobody for a while.

use serde::{Deserialize, Serialize};

use super::clock::ShardTime;
use crate::id::{NodeId, Owner};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attachment {
    /// A connection acts for it.
    Attached {
        owner: Owner,
        /// Its client is inactive and owes an acknowledgement for long.
        overdue: bool,
    },
    /// Nobody does, until a client resumes it or its time is over.
    Hibernated(Hibernation),
}

/// Since and until when a session has no connection, on the shard's scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hibernation {
    /// Its client can be woken and has not been: it is at `until`, and the session sleeps on.
    pub(super) patient: bool,
    pub(super) since: ShardTime,
    pub(super) until: ShardTime,
    /// Where its connection was.
    pub(super) node: NodeId,
}

impl Attachment {
    pub(super) fn to(owner: Owner) -> Self {
        Self::Attached {
            owner,
            overdue: false,
        }
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        match self {
            Self::Attached { owner, .. } => Some(*owner),
            Self::Hibernated(_) => None,
        }
    }

    pub(super) fn hibernation(&self) -> Option<Hibernation> {
        match self {
            Self::Attached { .. } => None,
            Self::Hibernated(hibernation) => Some(*hibernation),
        }
    }

    /// What is sent now may not reach the client.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Self::Attached { overdue, .. } => *overdue,
            Self::Hibernated(_) => true,
        }
    }

    /// The client has not answered for long.
    pub(super) fn fall_overdue(&mut self) {
        if let Self::Attached { overdue, .. } = self {
            *overdue = true;
        }
    }

    /// The client has answered; returns whether that was overdue.
    pub(super) fn answered(&mut self) -> bool {
        match self {
            Self::Attached { overdue, .. } => std::mem::take(overdue),
            Self::Hibernated(_) => false,
        }
    }
}
