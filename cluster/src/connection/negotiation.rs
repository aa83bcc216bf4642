//! What is decided until a connection acts for a session, without any I/O.
//!
//! Each [`Step`] says what the node that carries the connection has to find out or to do next, and holds what takes the
//! answer: so nothing is answered that was not asked. What cannot be found out ends the negotiation. Nobody knows then
//! whether a session was opened, and the client tries again (SM-60).
//!
//! ```text
//!   bind ───▶ Sessions ─────────────────────────────┐
//!                └─(the resource is held)─▶ TakeOver ┼─▶ Enter ─▶ Propose ─▶ Await ─▶ Over
//!   open ───▶ the same
//!   resume ─▶ Look ──────────────────────────────────┤              │
//!              └─(nothing there)─▶ Confirm ──────────┘              │
//!                                     └─────────(not resumed)───────┴─▶ Delay ─▶ Over
//! ```
//!
//! # Invariants
//!
//! 1. A connection is entered before anything is proposed in its name, so that no output can come before there is
//!    somebody to take it.
//! 2. That there is nothing to resume is said by the leader, never by a replica that may be late (T-40).
//! 3. A connection acts for a session when the source of its node has said that it is its own. If that was skipped, as
//!    the source has changed, the new one is asked. What was committed and is not seen here in time is given back.

use std::time::Duration;

use proto::sm::{CountTooHigh, Failed};
use proto::stanza::error::{Condition as Refusal, StanzaError};
use proto::stream::{Condition, StreamError};
use proto::{BareJid, Jid};

use super::Opening;
use crate::id::{Epoch, Owner, SmId};
use crate::session::{
    Bind, Command, Event, NotResumable, Open, OpenSm, Outcome, Resume, SessionView, is_of_client,
};

/// What a client hears that has too often asked for sessions that do not exist.
const TOO_MANY: &str = "too many failed resumptions, try again in a minute";

/// What the node has to do next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Read the account's sessions from the replica on this node.
    Sessions(Claim),
    /// Ask whether the account may drive out one more of its connections now. If it may, this one counts.
    TakeOver(TakeOver),
    /// Read from the replica on this node whether there is nothing to resume.
    Look(Look),
    /// The replica on this node says so, but it may be late: read the same from the leader.
    Confirm(Confirm),
    /// Enter the connection where outputs find it.
    Enter(Enter),
    /// Propose this.
    Propose(Proposal),
    /// Await the first output for the connection, or ask the shard for what stands for it if that was skipped.
    Await(Granted),
    /// Ask how long the answer has to wait, as earlier resumptions failed, and count this one.
    Delay(Delay),
    /// There is nothing more to find out.
    Over(Box<Verdict>),
}

/// What comes of a negotiation.
#[derive(Debug)]
pub enum Verdict {
    /// The connection acts for a new session from now on.
    Bound(Opening),
    /// The connection acts for an old session from now on.
    Resumed {
        /// The session.
        opening: Opening,
        /// How many of the client's stanzas were counted, for `<resumed/>`.
        h: u32,
    },
    /// No resource was bound. The client may ask again.
    NotBound(StanzaError),
    /// There was nothing to resume. The client may bind a resource.
    NotResumed {
        /// So long the answer waits.
        after: Duration,
        /// The answer.
        failed: Failed,
    },
    /// There was nothing to resume either, and that too often: the stream ends.
    TooOften(StreamError),
    /// The client's count cannot be right, and the stream ends. If it claims to have what it was never sent, its session
    /// is over as well.
    TooHigh(CountTooHigh),
    /// The shard had an outcome that answers something else.
    Undecided,
    /// The session is the connection's, but this node has not seen it in time. It is given back with this command.
    Unseen(Command),
}

/// What is wanted.
#[derive(Clone, Debug)]
enum Wish {
    Bind(Jid),
    Open(Jid, Box<Along>),
    Resume(Old),
}

/// What a client asks for along with a resource.
#[derive(Clone, Debug)]
pub struct Along {
    /// The last part of the resources that this client has, if that can be known.
    pub agent: Option<Box<str>>,
    /// Stream management.
    pub sm: Option<OpenSm>,
    /// Copies of what goes to other sessions.
    pub carbons: bool,
}

/// An old session, as its client names it.
#[derive(Clone, Debug)]
struct Old {
    account: BareJid,
    smid: SmId,
    h: u32,
}

/// A client binds a resource: the one that it wishes, or else one with this random name.
pub fn bind(account: &BareJid, wish: Option<String>, spare: &str) -> Step {
    let wished = wish.and_then(|resource| account.with_resource(&resource).ok());
    let spare = account.with_resource(spare).ok();
    match wished {
        Some(wished) => Step::Sessions(Claim {
            wished,
            spare,
            along: None,
        }),
        None => claimed(spare, None),
    }
}

/// A client asks for a resource, and for more, along with its login: the one of this name, or if that is driven out too
/// often this random one.
pub fn open(account: &BareJid, wish: &str, spare: &str, along: Along) -> Step {
    let spare = account.with_resource(spare).ok();
    let along = Some(Box::new(along));
    match account.with_resource(wish) {
        Ok(wished) => Step::Sessions(Claim {
            wished,
            spare,
            along,
        }),
        Err(_) => claimed(spare, along),
    }
}

/// A client resumes the session with this identifier, of which it has handled `h` stanzas.
pub fn resume(account: &BareJid, smid: SmId, h: u32) -> Step {
    let account = account.clone();
    Step::Look(Look(Old { account, smid, h }))
}

fn claimed(session: Option<Jid>, along: Option<Box<Along>>) -> Step {
    match (session, along) {
        (Some(session), None) => Step::Enter(Enter(Wish::Bind(session))),
        (Some(session), Some(along)) => Step::Enter(Enter(Wish::Open(session, along))),
        (None, _) => not_bound(Refusal::BadRequest),
    }
}

fn over(verdict: Verdict) -> Step {
    Step::Over(Box::new(verdict))
}

fn not_bound(refusal: Refusal) -> Step {
    over(Verdict::NotBound(StanzaError::new(refusal)))
}

/// See [`Step::Sessions`].
#[derive(Debug)]
pub struct Claim {
    wished: Jid,
    spare: Option<Jid>,
    along: Option<Box<Along>>,
}

impl Claim {
    /// These are the account's sessions. A wish is granted even if another connection holds the resource, unless two
    /// clients seem to drive each other out of it (ST-64, T-44). A session that hibernates is no other client's: it
    /// lost its connection, and its client is most likely the one that binds now.
    pub fn sessions(self, sessions: &[SessionView]) -> Step {
        let agent = self.along.as_ref().and_then(|along| along.agent.as_deref());
        let is_of = |held: &Jid, agent| {
            held.resource()
                .is_some_and(|held| is_of_client(held, agent))
        };
        let is_meant =
            |held: &Jid| *held == self.wished || agent.is_some_and(|agent| is_of(held, agent));
        let is_held = |held: &SessionView| held.owner.is_some() && is_meant(&held.jid);
        match sessions.iter().any(is_held) {
            true => Step::TakeOver(TakeOver(self)),
            false => claimed(Some(self.wished), self.along),
        }
    }
}

/// See [`Step::TakeOver`].
#[derive(Debug)]
pub struct TakeOver(Claim);

impl TakeOver {
    /// Whether the account may.
    pub fn answered(self, may: bool) -> Step {
        let Claim {
            wished,
            spare,
            mut along,
        } = self.0;
        if may {
            return claimed(Some(wished), along);
        }
        // Then nobody is driven out.
        if let Some(along) = &mut along {
            along.agent = None;
        }
        claimed(spare, along)
    }
}

/// See [`Step::Look`].
#[derive(Debug)]
pub struct Look(Old);

impl Look {
    /// The identifier that the client gave.
    pub fn smid(&self) -> &SmId {
        &self.0.smid
    }

    /// What [`ShardState::resumable`](crate::session::ShardState::resumable) says here.
    pub fn seen(self, old: Result<Jid, NotResumable>) -> Step {
        match old {
            Ok(_) => Step::Enter(Enter(Wish::Resume(self.0))),
            Err(_) => Step::Confirm(Confirm(self.0)),
        }
    }
}

/// See [`Step::Confirm`].
#[derive(Debug)]
pub struct Confirm(Old);

impl Confirm {
    /// The identifier that the client gave.
    pub fn smid(&self) -> &SmId {
        &self.0.smid
    }

    /// What [`ShardState::resumable`](crate::session::ShardState::resumable) says at the leader. A refusal costs no
    /// entry in the log.
    pub fn seen(self, old: Result<Jid, NotResumable>) -> Step {
        match old {
            Ok(_) => Step::Enter(Enter(Wish::Resume(self.0))),
            Err(gone) => Step::Delay(Delay { h: gone.h }),
        }
    }
}

/// See [`Step::Enter`].
#[derive(Debug)]
pub struct Enter(Wish);

impl Enter {
    /// This is the connection's name from now on.
    pub fn entered(self, owner: Owner) -> Step {
        Step::Propose(Proposal {
            wish: self.0,
            owner,
        })
    }
}

/// See [`Step::Propose`].
#[derive(Debug)]
pub struct Proposal {
    wish: Wish,
    owner: Owner,
}

impl Proposal {
    /// What is to be proposed.
    pub fn command(&self) -> Command {
        let owner = self.owner;
        match self.wish.clone() {
            Wish::Bind(session) => Command::Bind(Bind { session, owner }),
            Wish::Open(session, along) => Command::Open(Open {
                session,
                owner,
                agent: along.agent,
                sm: along.sm,
                carbons: along.carbons,
            }),
            Wish::Resume(Old { account, smid, h }) => Command::Resume(Resume {
                account,
                smid,
                h,
                owner,
            }),
        }
    }

    /// What the shard says.
    pub fn decided(self, outcome: Outcome) -> Step {
        match (self.wish, outcome) {
            (Wish::Bind(session), Outcome::Bound { epoch }) => {
                Step::Await(Granted::Bound(session, epoch))
            }
            (Wish::Open(session, along), Outcome::Bound { epoch }) => {
                let seed = along.sm.map(|sm| sm.seed);
                Step::Await(Granted::Opened(session, epoch, seed))
            }
            // An older node cannot apply it yet (during an upgrade).
            (Wish::Open(..), Outcome::NotYet { .. }) => not_bound(Refusal::ServiceUnavailable),
            (Wish::Bind(_) | Wish::Open(..), Outcome::TooManySessions) => {
                not_bound(Refusal::ResourceConstraint)
            }
            (Wish::Resume(_), Outcome::Resumed { session, epoch }) => {
                Step::Await(Granted::Resumed(session, epoch))
            }
            (Wish::Resume(_), Outcome::NotResumed { h }) => Step::Delay(Delay { h }),
            (Wish::Resume(_), Outcome::CountTooHigh { h, sent }) => {
                over(Verdict::TooHigh(CountTooHigh { h, sent }))
            }
            _ => over(Verdict::Undecided),
        }
    }
}

/// See [`Step::Await`]: the session, and the connection's epoch.
#[derive(Debug)]
pub enum Granted {
    /// A new one.
    Bound(Jid, Epoch),
    /// A new one with what was asked for along with it; its counters run from here.
    Opened(Jid, Epoch, Option<u32>),
    /// An old one.
    Resumed(Jid, Epoch),
}

impl Granted {
    /// The session, and the connection's epoch.
    pub fn what(&self) -> (&Jid, Epoch) {
        match self {
            Self::Bound(session, epoch)
            | Self::Opened(session, epoch, _)
            | Self::Resumed(session, epoch) => (session, *epoch),
        }
    }

    /// The first output for the connection, or what stands for it in the shard, says that the session is its own.
    /// None, if nothing said so in time.
    pub fn first(self, event: Option<Event>) -> Step {
        over(match (self, event) {
            (Self::Bound(session, epoch), Some(Event::Bound)) => {
                Verdict::Bound(Opening::bound(session, epoch))
            }
            // What stands for it in the shard looks like a session that goes on.
            (Self::Opened(session, epoch, seed), Some(Event::Bound | Event::Resumed(_))) => {
                Verdict::Bound(Opening::opened(session, epoch, seed))
            }
            (Self::Resumed(session, epoch), Some(Event::Resumed(resumed))) => Verdict::Resumed {
                opening: Opening::resumed(session, epoch, &resumed),
                h: resumed.h,
            },
            (
                Self::Bound(session, epoch)
                | Self::Opened(session, epoch, _)
                | Self::Resumed(session, epoch),
                _,
            ) => Verdict::Unseen(Command::Lost { session, epoch }),
        })
    }
}

/// See [`Step::Delay`]. Earlier failures only matter now that the state has said that there is nothing to resume
/// (T-40).
#[derive(Debug)]
pub struct Delay {
    h: Option<u32>,
}

impl Delay {
    /// The answer waits for so long; none, if there were too many failures.
    pub fn answered(self, delay: Option<Duration>) -> Step {
        over(match delay {
            Some(after) => Verdict::NotResumed {
                after,
                failed: Failed {
                    condition: Refusal::ItemNotFound,
                    h: self.h,
                },
            },
            None => {
                let error = StreamError::new(Condition::PolicyViolation);
                Verdict::TooOften(error.with_text(TOO_MANY))
            }
        })
    }
}
