//! What leaves the shard with an entry, collected in one place while the entry is applied.

use proto::Jid;

use super::{Dissent, Notice, Outcome, Output};

/// What follows from one entry.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// For the owners of sessions, in order.
    pub outputs: Vec<Output>,
    /// What happened to sessions, in order.
    pub notices: Vec<Notice>,
    /// Replicas whose hash differs from that of this one.
    pub dissents: Vec<Dissent>,
}

/// Collects what follows from the entry that is being applied.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) outputs: Vec<Output>,
    pub(super) notices: Vec<Notice>,
    pub(super) dissents: Vec<Dissent>,
    /// Sessions that the command which is being applied has given too much.
    pub(super) overflown: Vec<Jid>,
}

impl Step {
    pub(super) fn applied(self, outcomes: Vec<Outcome>) -> Applied {
        Applied {
            outcomes,
            outputs: self.outputs,
            notices: self.notices,
            dissents: self.dissents,
        }
    }
}
