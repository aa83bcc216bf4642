//! What the edge decides for one client's connection, without any I/O.
//!
//! How a connection comes to its session is decided in [`negotiation`]. From then on a [`Connection`] acts for the
//! session that was bound or resumed. The node that carries it tells it what happens: what
//! the client says, what the shard puts out, what becomes of proposals, that time passes. It answers with
//! [`Request`]s, which the node carries out in their order, and with the time at which it wants to be woken. It reads no
//! clock and draws no random number: both are arguments, so that a script of inputs can test it, and a simulation
//! drive it.
//!
//! What is true is the replicated state: the connection proposes what the client did and writes what the shard put
//! out, in the shard's order. What it keeps itself are positions in that order.
//!
//! ```text
//!                     ┌───────────┐ the node stops ┌─────────┐
//!   bound, resumed ──▶│   live    │───────────────▶│ leaving │──▶ over, as soon as nothing is under way
//!                     └───────────┘                └─────────┘
//!     a proposal is refused │ │ </stream:stream>, after everything before it
//!                           ▼ ▼
//!                       stale closing ──▶ over: the shard has said why, or its end is committed
//! ```
//!
//! From each state it is over at once when the shard says that the session has another owner or is over, when the
//! client is gone, dead or breaks the protocol, and when the cluster cannot be reached. While it is live, one job at a
//! time is under way (`state::Job`).
//!
//! # Invariants
//!
//! 1. At most one proposal of this session's stanzas is in flight, so that they keep their order.
//! 2. `<a/>` says what an outcome said before it (P1); a stanza is written when its output came (P2).
//! 3. Once the epoch is known to be over, nothing more is written (P3).
//!
//! # Driving it
//!
//! After one or several inputs, call [`Connection::settle`], then [`Connection::poll`] until it returns `None`. After
//! each output of the shard call `poll` as well: what was skipped must be read before the next one. Call `settle` again
//! at the time that [`Connection::wake`] says.

mod close;
mod count;
pub mod inbox;
pub mod liveness;
#[cfg(test)]
mod mutant;
pub mod negotiation;
mod output;
mod postpone;
pub mod rate;
pub mod reading;
mod request;
mod state;
#[cfg(test)]
mod tests;
mod unwritten;
mod work;
mod write;

use std::collections::VecDeque;

use proto::stanza::{IqType, Kind, Stanza};
use proto::stream::Input;
use proto::{BareJid, Jid};

use self::count::{Incoming, Outgoing};
use self::inbox::{Inbox, Work};
use self::liveness::{Beat, Liveness};
use self::postpone::Postponed;
use self::rate::Answers;
pub use self::request::*;
use self::state::{Flow, Job, State, Title};
use self::unwritten::Unwritten;
use crate::id::{ArchiveId, Epoch};
use crate::session::EndReason;

/// So long, in milliseconds, an `<r/>` waits for the stanzas before it (SM-24).
const REQUEST_PATIENCE: u64 = 5_000;
/// How often it is looked whether a client that is not read may be read again, in milliseconds.
const HELD_PAUSE: u64 = 1_000;

/// Gives a random name of so many bits, in lower-case letters and digits.
pub type Names = Box<dyn FnMut(u32) -> String>;

/// See the module.
pub struct Connection {
    session: Jid,
    account: BareJid,
    epoch: Epoch,
    state: State,
    title: Title,
    flow: Flow,
    incoming: Incoming,
    outgoing: Outgoing,
    inbox: Inbox,
    unwritten: Unwritten,
    postponed: Postponed,
    /// So many [`Request::Read`]s have no answer yet. Nothing is written meanwhile.
    reads: u32,
    /// Stanzas below this number were queued before the stream was resumed.
    late: u64,
    liveness: Liveness,
    answers: Answers,
    settings: Settings,
    names: Names,
    /// The ping that is not answered yet, and what it would acknowledge.
    ping: Option<(String, u64)>,
    /// Messages in flight, by their numbers.
    traced: VecDeque<(u64, ArchiveId)>,
    /// What is to be sent next.
    buffer: Vec<u8>,
    requests: VecDeque<Request>,
    wake: Option<u64>,
}

impl Connection {
    /// A connection that acts for a session from now on. Time begins at 0, and the process has stood still so often.
    pub fn new(
        opening: Opening,
        settings: Settings,
        answers: Answers,
        names: Names,
        pauses: u64,
    ) -> Self {
        let times = settings.times(opening.outgoing.counts());
        Self {
            account: opening.session.bare(),
            session: opening.session,
            epoch: opening.epoch,
            state: State::Live(Job::None),
            title: Title::Known(pauses),
            flow: Flow::Open(0),
            incoming: opening.incoming,
            outgoing: opening.outgoing,
            inbox: Inbox::default(),
            unwritten: opening.unwritten,
            postponed: Postponed::default(),
            reads: 0,
            late: opening.late,
            liveness: Liveness::new(times),
            answers,
            settings,
            names,
            ping: None,
            traced: VecDeque::new(),
            buffer: Vec::new(),
            requests: VecDeque::new(),
            wake: None,
        }
    }

    /// The session's full JID.
    pub fn session(&self) -> &Jid {
        &self.session
    }

    /// The connection's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Nothing is left to do.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The operator has changed their mind.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        let times = settings.times(self.outgoing.counts());
        self.liveness.set_times(times);
    }

    /// The next thing to be done. A connection with nothing to do keeps no memory for it.
    pub fn poll(&mut self) -> Option<Request> {
        let next = self.requests.pop_front();
        if next.is_none() {
            self.requests = VecDeque::new();
        }
        next
    }

    /// When to call [`Connection::settle`] if nothing else happens before.
    pub fn wake(&self) -> Option<u64> {
        self.wake
    }

    /// Bytes came from the client, whatever they are.
    pub fn heard(&mut self, now: u64) {
        self.liveness.heard(now);
    }

    /// What the client said. The machine of the stream is past login and binding for good.
    pub fn input(&mut self, now: u64, input: Input) {
        match input {
            _ if self.is_over() => {}
            Input::Stanza(stanza) => self.stanza(now, stanza),
            Input::Invalid { reply } => self.inbox.push(Work::Answer(reply)),
            Input::Enable { resume, max } => self.inbox.push(Work::Enable { resume, max }),
            Input::AckRequest => self.inbox.push(Work::AckRequest(now)),
            Input::Ack(h) => self.acknowledged(now, h),
            Input::Csi(active) => {
                self.liveness.set_inactive(!active);
                if active {
                    self.release();
                }
                self.inbox.push(Work::Nothing);
            }
            Input::Closed => self.inbox.push(Work::Closed),
            Input::Failed(_) => self.inbox.push(Work::Violation),
            Input::StartTls
            | Input::Lookup { .. }
            | Input::VerifyPlain { .. }
            | Input::LookupTokens { .. }
            | Input::Open(_)
            | Input::Authenticated { .. }
            | Input::AuthFailed { .. }
            | Input::Bind { .. }
            | Input::Register(_)
            | Input::Resume { .. } => debug_assert!(false, "negotiation after binding"),
        }
    }

    fn stanza(&mut self, now: u64, stanza: Stanza) {
        let pong = self.ping.take_if(|(id, _)| is_answer(&stanza, id));
        let Some((_, upto)) = pong else {
            return self.inbox.push(Work::Stanza(stanza));
        };
        // It has a number like any other stanza, and nothing follows from it.
        self.inbox.push(Work::Answer(None));
        let news = self.outgoing.answered(upto);
        self.tell(now, news);
    }

    fn acknowledged(&mut self, now: u64, h: u32) {
        self.inbox.push(Work::Nothing);
        match self.outgoing.acknowledge(h) {
            Ok(news) => self.tell(now, news),
            Err(too_high) => {
                self.fail(too_high.into());
                self.end(EndReason::Violation);
            }
        }
    }

    /// The client has everything below `upto`.
    fn tell(&mut self, now: u64, upto: Option<u64>) {
        let (stanzas, bytes) = self.outgoing.in_flight();
        if let Some(asked) = self.liveness.asking_since() {
            let after = now.saturating_sub(asked);
            self.request(Request::Note(Note::Answered(after)));
        }
        self.liveness.answered(now, stanzas, bytes);
        if upto.is_none() {
            return;
        }
        let acked = self.outgoing.acked();
        let mut messages = Vec::new();
        while let Some((_, mid)) = self.traced.pop_front_if(|(seq, _)| *seq < acked) {
            messages.push(mid);
        }
        if !messages.is_empty() {
            self.request(Request::Note(Note::Acknowledged(messages)));
        }
        let acknowledge = self.acknowledge();
        self.request(Request::Acknowledge(acknowledge));
    }

    /// What follows from the inputs before: jobs begin, and what is due is written.
    pub fn settle(&mut self, moment: Moment) {
        self.wake = None;
        let now = moment.now;
        // A client that is active again has what was postponed before any answer (IM-101).
        if self.postponed.is_due() {
            self.drain(moment);
        }
        self.end_waiting(now);
        self.work();
        self.drain(moment);
        match self.state {
            State::Live(_) | State::Leaving(_) => {}
            State::Stale { until } => return self.wake = Some(until),
            State::Closing | State::Over => return,
        }
        let is_held = matches!(self.state.job(), Some(Job::Held));
        if self.liveness.next(now) == Beat::Ask {
            // The client wakes up for the question: what was postponed goes along with it.
            self.release();
            self.drain(moment);
            self.ask(now);
        }
        if self.liveness.next(now) == Beat::Late && !is_held {
            self.late();
        }
        let next = match self.liveness.next(now) {
            Beat::At(at) => at,
            // It may have answered: it is not read.
            Beat::Late | Beat::Dead if is_held => now + HELD_PAUSE,
            Beat::Ask | Beat::Late => now,
            Beat::Dead => return self.dead(),
        };
        self.flush();
        let request = self.inbox.oldest_request();
        let request = request.map_or(u64::MAX, |at| at + REQUEST_PATIENCE);
        let rested = match self.state.job() {
            Some(Job::Resting(until)) => *until,
            _ => u64::MAX,
        };
        let due = self.postponed.until();
        self.wake = Some(next.min(request).min(rested).min(due));
    }

    /// What waited for a time that has come.
    fn end_waiting(&mut self, now: u64) {
        match &mut self.state {
            State::Stale { until } if *until <= now => self.detached(None),
            State::Live(job) | State::Leaving(job) => {
                if matches!(job, Job::Resting(until) if *until <= now) {
                    *job = Job::None;
                }
                let since = now.checked_sub(REQUEST_PATIENCE);
                if since.is_some_and(|since| self.inbox.overdue(since)) {
                    self.answer();
                }
            }
            State::Stale { .. } | State::Closing | State::Over => {}
        }
    }

    fn request(&mut self, request: Request) {
        self.requests.push_back(request);
    }
}

/// Whether a client says this to the ping of that id, in whatever way (XEP-0199).
fn is_answer(stanza: &Stanza, id: &str) -> bool {
    let is_answer = matches!(stanza.header.kind, Kind::Iq(IqType::Result | IqType::Error));
    is_answer && stanza.header.id.as_deref() == Some(id)
}
