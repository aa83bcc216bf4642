//! How a connection ends, and what it leaves behind.

use proto::stream::{Condition, StreamError};

use super::Connection;
use super::request::{Farewell, Reason, Request, Stop};
use super::state::State;
use crate::session::{Acknowledge, Command, Detached, EndReason};

/// For so long, in milliseconds, the shard's word on a session is waited for that has another owner, or none.
const WORD: u64 = 1_000;

impl Connection {
    /// The socket is gone. What it said before comes first.
    pub fn gone(&mut self) {
        self.inbox.push(super::inbox::Work::Lost);
    }

    /// The node stops: the connection leaves as soon as nothing is under way.
    pub fn leave(&mut self) {
        if let State::Live(job) = &mut self.state {
            let job = std::mem::replace(job, super::state::Job::None);
            self.state = State::Leaving(job);
        }
    }

    /// Nothing can be committed from here. Whose the session is by now is unknown, so nothing is said.
    pub fn away(&mut self) {
        if !self.is_over() {
            self.request(Request::Stop(Stop::Leave));
            self.lost();
        }
    }

    /// The client's end of its stream is committed, or that is not known. Ours follows, with a last `<a/>` (SM-30).
    pub fn closed(&mut self, is_committed: bool) {
        if !matches!(self.state, State::Closing) {
            return;
        }
        self.answer();
        self.flush();
        self.request(Request::Stop(Stop::Close));
        match is_committed {
            true => self.over(Reason::Ended(EndReason::Closed)),
            false => self.end(EndReason::Closed),
        }
    }

    /// The client ended its stream. We end ours once that is committed.
    pub(super) fn close(&mut self) {
        self.state = State::Closing;
        self.outgoing.closed();
        let farewell = self.farewell(self.end_command(EndReason::Closed));
        self.request(Request::Finish(farewell));
    }

    /// What is handled is said, so that the client need not send it again.
    pub(super) fn go(&mut self) {
        self.answer();
        self.flush();
        self.request(Request::Stop(Stop::Leave));
        self.lost();
    }

    /// The session has another owner, or none. If its output says why, it is on its way; without a word from the
    /// shard nothing more is written.
    pub(super) fn stale(&mut self, now: u64) {
        if self.state.job().is_some() {
            self.state = State::Stale { until: now + WORD };
        }
    }

    pub(super) fn told(&mut self, why: Detached) {
        self.detached(match why {
            Detached::Resumed => Some(Condition::Conflict),
            Detached::Ended(reason) => condition(reason),
            Detached::Fenced => None,
        });
    }

    /// The session belongs to another, or is over: a last word, or none.
    pub(super) fn detached(&mut self, condition: Option<Condition>) {
        if !self.state.is_undecided() {
            return;
        }
        self.request(Request::Stop(match condition {
            Some(condition) => Stop::Fail(Box::new(StreamError::new(condition))),
            None => Stop::Drop,
        }));
        self.over(Reason::Detached(condition));
    }

    /// Something that should not be: the client may resume, here or elsewhere.
    pub(super) fn give_up(&mut self) {
        self.request(Request::Stop(Stop::Trouble));
        self.lost();
    }

    /// The client does not live any more.
    pub(super) fn dead(&mut self) {
        self.fail(StreamError::new(Condition::ConnectionTimeout));
        self.lost();
    }

    pub(super) fn fail(&mut self, error: StreamError) {
        self.request(Request::Stop(Stop::Fail(Box::new(error))));
    }

    /// The connection is gone; what becomes of the session is the shard's business.
    pub(super) fn lost(&mut self) {
        let reason = match self.state {
            State::Leaving(_) => Reason::Leaving,
            _ => Reason::Lost,
        };
        let (session, epoch) = (self.session.clone(), self.epoch);
        self.depart(Command::Lost { session, epoch }, reason);
    }

    /// The session ends, whether the cluster answers or not.
    pub(super) fn end(&mut self, reason: EndReason) {
        let why = match self.state {
            State::Leaving(_) => Reason::Leaving,
            _ => Reason::Ended(reason),
        };
        self.depart(self.end_command(reason), why);
    }

    fn end_command(&self, reason: EndReason) -> Command {
        Command::End {
            session: self.session.clone(),
            epoch: Some(self.epoch),
            reason,
        }
    }

    fn depart(&mut self, last: Command, reason: Reason) {
        if !self.is_over() {
            let farewell = self.farewell(last);
            self.request(Request::Depart(farewell));
            self.over(reason);
        }
    }

    fn over(&mut self, reason: Reason) {
        self.state = State::Over;
        self.wake = None;
        self.request(Request::Over(reason));
    }

    fn farewell(&self, last: Command) -> Farewell {
        Farewell {
            acknowledge: self.acknowledge(),
            last,
        }
    }

    /// What the client is known to have.
    pub(super) fn acknowledge(&self) -> Acknowledge {
        Acknowledge {
            session: self.session.clone(),
            epoch: self.epoch,
            upto: self.outgoing.acked(),
        }
    }
}

/// What a client is told of an end that it did not ask for.
fn condition(reason: EndReason) -> Option<Condition> {
    match reason {
        EndReason::Closed => None,
        EndReason::Lost | EndReason::Expired => Some(Condition::ConnectionTimeout),
        EndReason::Conflict => Some(Condition::Conflict),
        EndReason::Limit | EndReason::Overflow => Some(Condition::ResourceConstraint),
        EndReason::Admin | EndReason::Violation => Some(Condition::PolicyViolation),
        EndReason::Credentials | EndReason::Removed => Some(Condition::NotAuthorized),
    }
}
