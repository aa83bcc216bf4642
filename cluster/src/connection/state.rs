//! What a connection is in, and what it has under way: one thing at a time.

use crate::session::Inbound;

/// How far the connection has come.
#[derive(Debug)]
pub(super) enum State {
    /// It acts for the session.
    Live(Job),
    /// It acts for the session until its job is done, because the node stops.
    Leaving(Job),
    /// A proposal was refused for its epoch. The shard's word on why is waited for until then.
    Stale {
        /// In milliseconds.
        until: u64,
    },
    /// The client ended its stream, which has been proposed.
    Closing,
    /// The session belongs to another, or is over, or its last command is on its way.
    Over,
}

/// What is under way. The next job begins after it, so that stanzas keep their order.
#[derive(Debug)]
pub(super) enum Job {
    /// Nothing.
    None,
    /// The node finds out what follows from stanzas.
    Resolving,
    /// What follows from them waits for room, and the client is not read meanwhile: its silence says nothing.
    Held,
    /// Stanzas are proposed.
    Handling(Handling),
    /// `<enable/>` is proposed, and `<enabled/>` not written yet.
    Enabling {
        /// So many stanzas preceded it.
        after: u64,
    },
    /// The client has asked for so much that its next stanzas have to wait until then, in milliseconds.
    Resting(u64),
}

/// Stanzas that are proposed.
#[derive(Debug)]
pub(super) struct Handling {
    /// What is proposed, for the case that it has to be proposed again.
    pub(super) inbound: Inbound,
    /// How often it was proposed.
    pub(super) tries: u32,
    /// So many bytes the client itself gets.
    pub(super) answered: usize,
}

/// What this process knows of its right to write. After a pause it may have been taken for dead (T-38).
#[derive(Debug)]
pub(super) enum Title {
    /// The session was this connection's after so many pauses.
    Known(u64),
    /// The shard is being asked.
    Asked,
}

/// How far the socket keeps up (T-13).
#[derive(Debug)]
pub(super) enum Flow {
    /// It was given so many bytes since it last said that they are written.
    Open(usize),
    /// It has enough: what the shard puts out waits.
    Full,
}

impl State {
    /// The job under way, while the connection acts for the session.
    pub(super) fn job(&self) -> Option<&Job> {
        match self {
            Self::Live(job) | Self::Leaving(job) => Some(job),
            Self::Stale { .. } | Self::Closing | Self::Over => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn job_mut(&mut self) -> Option<&mut Job> {
        match self {
            Self::Live(job) | Self::Leaving(job) => Some(job),
            Self::Stale { .. } | Self::Closing | Self::Over => None,
        }
    }

    /// The shard has not said yet that the session is not this connection's, nor has the client ended it.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self, Self::Live(_) | Self::Leaving(_) | Self::Stale { .. })
    }
}
