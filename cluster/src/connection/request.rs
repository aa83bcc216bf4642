//! What a connection wants from the node that carries it, and what it is told.

use proto::Jid;
use proto::stream::{Condition, StreamError};

use super::count::{Incoming, Outgoing};
use super::inbox::Work;
use super::liveness::{Times, UNCOUNTED};
use super::unwritten::Unwritten;
use crate::id::{ArchiveId, Epoch};
use crate::session::{Acknowledge, Command, Enable, EndReason, Resumed};

/// Something to be done. What is answered, and how, each of them says.
#[derive(Debug)]
pub enum Request {
    /// Send these bytes to the client.
    Write(Vec<u8>),
    /// Say when nearly everything is written: [`Connection::drained`](super::Connection::drained).
    Report,
    /// So many inputs have been taken up, so that as many more may be read.
    Taken(usize),
    /// Find out what follows from these stanzas, in order: [`Connection::resolved`](super::Connection::resolved),
    /// and once there is room for that, [`Connection::admitted`](super::Connection::admitted).
    Resolve(Vec<Work>),
    /// Propose this: [`Connection::enable_decided`](super::Connection::enable_decided).
    Enable(Enable),
    /// Tell the client that Stream Management could not be switched on.
    EnableFailed,
    /// Propose this whenever it suits. A lost word costs nothing: the next one repeats it.
    Acknowledge(Acknowledge),
    /// Propose this. No answer is needed, but it must not be overtaken by what is proposed whenever it suits.
    Propose(Command),
    /// Read from this node's replica what comes from this number on:
    /// [`Connection::missed`](super::Connection::missed).
    Read(u64),
    /// Ask the shard whether the session is this connection's, as there were so many pauses:
    /// [`Connection::verified`](super::Connection::verified).
    Verify(u64),
    /// Propose this: [`Connection::closed`](super::Connection::closed).
    Finish(Farewell),
    /// Propose this until it is committed, whatever becomes of the connection.
    Depart(Farewell),
    /// End the stream.
    Stop(Stop),
    /// Nothing is left to do.
    Over(Reason),
    /// Something happened that is counted or traced.
    Note(Note),
}

/// What a connection leaves behind.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// What the client said it has. The word on it travels lazily and may not have arrived.
    pub acknowledge: Acknowledge,
    /// The last command.
    pub last: Command,
}

/// How a stream ends.
#[derive(Debug)]
pub enum Stop {
    /// With this error.
    Fail(Box<StreamError>),
    /// With the error of a node that is in trouble: the client may resume, here or elsewhere.
    Trouble,
    /// In good order.
    Close,
    /// What there is gets written and the socket is closed; the stream does not end, as the session goes on elsewhere.
    Leave,
    /// At once: nothing more may reach the client (P3).
    Drop,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The node stops.
    Leaving,
    /// The connection is lost, or given up.
    Lost,
    /// The session is over.
    Ended(EndReason),
    /// The session is not this connection's any more, and that is what the client is told.
    Detached(Option<Condition>),
}

/// See [`Request::Note`].
#[derive(Debug)]
pub enum Note {
    /// Stanzas were written, these messages among them.
    Written {
        /// How many.
        stanzas: usize,
        /// The archive ids of messages that are no copies.
        messages: Vec<ArchiveId>,
    },
    /// The client has these messages.
    Acknowledged(Vec<ArchiveId>),
    /// The client has answered a question after so many milliseconds.
    Answered(u64),
    /// The client has not answered for long.
    Late {
        /// So many stanzas are in flight.
        stanzas: usize,
    },
    /// The socket does not keep up.
    HeldBack,
}

/// When something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the connection began.
    pub now: u64,
    /// How often this process has stood still.
    pub pauses: u64,
}

/// A proposal has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not in time. It may be committed all the same.
    Unavailable,
    /// Nor will it ever have one.
    Refused,
}

/// What the operator decides about connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For clients that count.
    pub times: Times,
    /// How long a session may hibernate, in seconds; 0 = not at all.
    pub hibernation: u32,
    /// Where counters start.
    pub first_count: u32,
}

impl Settings {
    /// The times of a client that counts, or of one that does not.
    pub(super) fn times(&self, counts: bool) -> Times {
        let unacked = match counts {
            true => self.times.unacked,
            false => UNCOUNTED,
        };
        Times {
            unacked,
            ..self.times
        }
    }
}

/// A session at the moment that it becomes a connection's.
#[derive(Debug)]
pub struct Opening {
    /// The session's full JID.
    pub session: Jid,
    /// The connection's epoch.
    pub epoch: Epoch,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) unwritten: Unwritten,
    /// Stanzas below this number were queued before the stream was resumed.
    pub(super) late: u64,
}

impl Opening {
    /// A resource was bound.
    pub fn bound(session: Jid, epoch: Epoch) -> Self {
        Self {
            session,
            epoch,
            incoming: Incoming::bound(),
            outgoing: Outgoing::new(1, None),
            unwritten: Unwritten::new(1),
            late: 0,
        }
    }

    /// A resource was bound, and both counters run from `seed` if stream management came with it.
    pub fn opened(session: Jid, epoch: Epoch, seed: Option<u32>) -> Self {
        let mut opening = Self::bound(session, epoch);
        if let Some(seed) = seed {
            opening.incoming.enable(0, seed);
            opening.outgoing.enable(seed);
        }
        opening
    }

    /// A session was resumed.
    pub fn resumed(session: Jid, epoch: Epoch, resumed: &Resumed) -> Self {
        Self {
            session,
            epoch,
            incoming: Incoming::resumed(resumed.next_in, resumed.h),
            outgoing: Outgoing::new(resumed.next_out, Some(resumed.acked)),
            unwritten: Unwritten::new(resumed.next_out),
            late: resumed.late,
        }
    }
}
