//! [`Session`]: the requests of a client and the bytes of a stream, each made of the other.
//!
//! What a request brings is taken up when its turn has come and all before it was read, so that whoever reads slowly
//! slows the client down. What the stream writes waits for a request, within a bound. A request waits for something to
//! say, as long as it may and no other one has come to wait instead.
//!
//! # The driver's part
//!
//! After each call, take [`Session::ready`] and send it; the stream may have something to read or room to write then.
//! Call [`Session::tick`] when [`Session::due`] has come. When [`Session::is_gone`], forget it.
//!
//! # Invariants
//!
//! 1. What the stream writes is in one answer only, in order; an answer that is lost is given again (BO-3).
//! 2. At most [`QUEUE_BYTES`](super::outbox::QUEUE_BYTES) of whole elements wait, and one element beside them.
//! 3. Once it is over, nothing more is read or written, and every request is told so.

#![allow(
    clippy::result_large_err,
    reason = "an error is rare, and ends the stream"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, terminal};
use super::condition::Condition;
use super::outbox::Outbox;
use super::request::Request;
use super::terms::{INACTIVITY, POLLING, Terms, pause};
use super::window::{Arrival, Window};
use crate::stream::error::{self, StreamError};
use crate::stream::framing::{ROOT_END, root};
use crate::stream::written::Progress;

/// So many empty requests that follow each other too fast are too many.
pub const HASTE: u32 = 60;
/// How many requests a client may make before it is logged in.
pub const REQUESTS_BEFORE_AUTH: u32 = 100;
/// How long a session is remembered whose end the client has not heard yet, or may not have.
pub const LINGER: Duration = Duration::from_secs(15);
/// What an empty request costs of a client's rate, in bytes: about what its head and its tag have (T-15).
const EMPTY: usize = 256;

/// What becomes of a request that has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// It waits for its answer, which will be among those of [`Session::ready`].
    Waits,
    /// This is its answer.
    Answered(Arc<[u8]>),
}

/// An answer, and the number of the request that it is for.
pub type Ready = (u64, Arc<[u8]>);

/// How far the session has come to its end.
#[derive(Debug)]
enum Phase {
    /// The first request waits for our header.
    Beginning,
    Flowing,
    /// The client has ended it; what the stream still says is awaited.
    Ending,
    /// It is over since then. The last answer, if no request has had it.
    Over(Duration, Option<Arc<[u8]>>),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    phase: Phase,
    progress: Progress,
    window: Window<Request>,
    /// What the stream has to read.
    inbox: VecDeque<u8>,
    fault: Option<StreamError>,
    outbox: Outbox,
    ready: Vec<Ready>,
    /// Since when nobody waits for an answer.
    quiet: Option<Duration>,
    patience: Duration,
    /// All requests are to be answered, the last one without anything in it.
    pausing: bool,
    strange: u32,
    haste: u32,
    last_new: Duration,
    /// There was something in the last answer.
    told: bool,
    /// The node stops serving.
    node_leaves: bool,
}

impl Session {
    /// Begins with the first request of a client. `sid` names the session, and must not be guessed by anybody.
    pub fn new(sid: &str, request: Request, now: Duration) -> Self {
        let terms = Terms::new(sid, &request);
        let until = now + terms.wait.max(POLLING);
        let mut session = Self {
            terms,
            phase: Phase::Beginning,
            progress: Progress::default(),
            window: Window::new(request.rid),
            inbox: VecDeque::new(),
            fault: None,
            outbox: Outbox::default(),
            ready: Vec::new(),
            quiet: None,
            patience: INACTIVITY,
            pausing: false,
            strange: 0,
            haste: 0,
            last_new: now,
            node_leaves: false,
            told: false,
        };
        // Without a header the first answer would be worth nothing, even to one who does not want to wait.
        session.window.arrive(request.rid, request, false, until);
        session.turn(now);
        session
    }

    /// The client is logged in, so that it may send more at a time.
    pub fn is_authenticated(&self) -> bool {
        self.progress.is_authenticated()
    }

    /// Stanzas may flow.
    pub fn is_live(&self) -> bool {
        self.progress.is_live()
    }

    /// The media type that the client wants its answers to have.
    pub fn content(&self) -> Option<&str> {
        self.terms.content()
    }

    /// A request of the session has come.
    pub fn receive(&mut self, request: Request, now: Duration) -> Received {
        let rid = request.rid;
        if self.is_over() {
            return Received::Answered(self.epilogue(request, now));
        }
        if let Some(rid) = request.number("ack").filter(|_| self.terms.acknowledges) {
            self.window.acknowledge(rid);
        }
        let (extra, is_empty) = (
            request.is_last() || pause(&request).is_some(),
            request.is_empty(),
        );
        let until = now + self.terms.wait;
        let condition = match self.window.arrive(rid, request, extra, until) {
            Arrival::Answered(answer) => return Received::Answered(answer),
            Arrival::New if self.is_excessive(is_empty, now) => Condition::PolicyViolation,
            Arrival::New => {
                self.patience = INACTIVITY;
                self.turn(now);
                return Received::Waits;
            }
            Arrival::Again => {
                self.settle(now);
                return Received::Waits;
            }
            Arrival::Outside => Condition::ItemNotFound,
            Arrival::TooMany => Condition::PolicyViolation,
        };
        self.lose(condition, now);
        Received::Answered(terminal(condition))
    }

    /// The HTTP request of this number waits no longer.
    pub fn detach(&mut self, rid: u64, now: Duration) {
        self.window.detach(rid);
        self.settle(now);
    }

    /// Another request waits behind this one, and does not get here before it is answered.
    pub fn hurry(&mut self, rid: u64, now: Duration) {
        self.window.hurry(rid, now);
        self.settle(now);
    }

    /// The answers that are to be sent now.
    pub fn ready(&mut self) -> Vec<Ready> {
        std::mem::take(&mut self.ready)
    }

    /// What the stream has to read, at most so much at a time: nothing at the end, none if it has to wait.
    ///
    /// # Errors
    ///
    /// The client has done what ends the stream.
    pub fn read(&mut self, max: usize, now: Duration) -> Result<Option<Vec<u8>>, StreamError> {
        if self.inbox.is_empty() {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            return Ok(self.is_over().then(Vec::new));
        }
        let count = self.inbox.len().min(max);
        let bytes = self.inbox.drain(..count).collect();
        if self.inbox.is_empty() {
            // An idle session should cost little.
            self.inbox = VecDeque::new();
            self.turn(now);
        }
        Ok(Some(bytes))
    }

    /// Whether [`Session::read`] has something to say.
    pub fn is_readable(&self) -> bool {
        !self.inbox.is_empty() || self.fault.is_some() || self.is_over()
    }

    /// How many bytes the stream may write now.
    pub fn room(&self) -> usize {
        self.outbox.room()
    }

    /// Takes what the stream has written. It leaves with the next [`Session::flush`], or when a request has to be
    /// answered anyway.
    pub fn write(&mut self, bytes: &[u8], now: Duration) {
        if !self.is_over() {
            self.outbox.write(bytes, &mut self.progress);
            self.settle(now);
        }
    }

    /// What was written shall reach the client.
    pub fn flush(&mut self, now: Duration) {
        self.outbox.flush();
        self.settle(now);
    }

    /// The stream writes nothing more. If it has not ended, the client can go on with its session elsewhere.
    pub fn shut_down(&mut self, now: Duration) {
        if self.is_over() {
            return;
        }
        let mut answer = self.answer();
        let is_first = matches!(self.phase, Phase::Beginning);
        let (to, unended) = (self.terms.to(), self.unended());
        self.outbox.end_with(&mut answer, is_first, to, unended);
        self.finish(answer.finish(), now);
    }

    /// The stream is gone, and nothing that waited may leave any more.
    pub fn abandon(&mut self, now: Duration) {
        self.lose(self.unended(), now);
    }

    /// The node stops serving. A client that has to go on with its session elsewhere is told that this is why.
    pub fn node_leaves(&mut self) {
        self.node_leaves = true;
    }

    /// Why a session of BOSH is over whose stream did not end.
    fn unended(&self) -> Condition {
        match self.node_leaves {
            true => Condition::SystemShutdown,
            false => Condition::RemoteConnectionFailed,
        }
    }

    /// When something has to be done.
    pub fn due(&self) -> Option<Duration> {
        match self.phase {
            Phase::Over(since, _) => Some(match self.is_gone(since) {
                true => since,
                false => since + LINGER,
            }),
            Phase::Beginning | Phase::Flowing | Phase::Ending => {
                let quiet = self.quiet.map(|since| since + self.patience);
                self.window.until().into_iter().chain(quiet).min()
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        self.settle(now);
        if self.quiet.is_some_and(|since| now >= since + self.patience) {
            self.lose(Condition::ItemNotFound, now);
        }
    }

    /// Nothing more is read or written.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(..))
    }

    /// It is over, and the client had its time to hear that; a stranger who has heard it is forgotten at once.
    pub fn is_gone(&self, now: Duration) -> bool {
        match &self.phase {
            Phase::Over(since, last) => {
                let heard = last.is_none() && !self.is_authenticated();
                heard || now >= *since + LINGER
            }
            Phase::Beginning | Phase::Flowing | Phase::Ending => false,
        }
    }

    /// What a request hears that comes when all is over.
    fn epilogue(&mut self, request: Request, now: Duration) -> Arc<[u8]> {
        let rid = request.rid;
        if let Phase::Over(_, last) = &mut self.phase
            && rid == self.window.last() + 1
            && let Some(last) = last.take()
        {
            self.window.arrive(rid, request, false, now);
            self.window.take();
            self.window.answer(last);
        }
        let heard = self.window.answer_to(rid);
        heard.unwrap_or_else(|| terminal(Condition::ItemNotFound))
    }

    /// Whether the client asks for too much, without saying anything.
    fn is_excessive(&mut self, is_empty: bool, now: Duration) -> bool {
        let in_haste = is_empty && !self.told && now < self.last_new + POLLING;
        self.last_new = now;
        self.haste = match in_haste {
            true => self.haste + 1,
            false => self.haste.saturating_sub(1),
        };
        self.strange += u32::from(!self.progress.is_authenticated());
        self.haste > HASTE || self.strange > REQUESTS_BEFORE_AUTH
    }

    /// Takes requests up whose turn has come, if all before them was read.
    fn turn(&mut self, now: Duration) {
        while self.inbox.is_empty()
            && self.fault.is_none()
            && matches!(self.phase, Phase::Beginning | Phase::Flowing)
        {
            let Some(request) = self.window.take() else {
                break;
            };
            if let Err(fault) = self.take(&request) {
                self.fault = Some(fault);
            }
        }
        self.settle(now);
    }

    /// What a request means to the stream.
    fn take(&mut self, request: &Request) -> Result<(), StreamError> {
        let first = matches!(self.phase, Phase::Beginning);
        let bad = || StreamError::new(error::Condition::BadFormat);
        if let Some(pause) = pause(request) {
            (self.pausing, self.patience) = (true, pause);
        }
        if first || request.is_restart() {
            if self.progress.is_open() {
                return Err(bad());
            }
            self.progress.opened();
            let version = self.terms.version(request);
            self.inbox.extend(root(&request.head, version));
        }
        if !request.payload.is_empty() {
            if !self.progress.is_open() {
                return Err(bad());
            }
            self.inbox.extend(&request.payload);
        } else if self.progress.is_live() {
            // A sign of life.
            self.inbox.extend([b' '; EMPTY]);
        }
        if request.is_last() {
            self.phase = Phase::Ending;
            if self.progress.is_open() {
                self.inbox.extend(ROOT_END);
            } else {
                return Err(StreamError::new(error::Condition::NotAuthorized));
            }
        }
        Ok(())
    }

    /// Answers the requests that have to wait no longer, in their order.
    fn settle(&mut self, now: Duration) {
        while !self.is_over() && self.must_answer(now) {
            let mut answer = self.answer();
            if matches!(self.phase, Phase::Beginning) {
                self.phase = Phase::Flowing;
                self.terms.say(self.outbox.header(), &mut answer);
            }
            self.told = false;
            if !self.pausing || self.window.held() > 1 {
                self.told = !self.outbox.is_empty();
                self.outbox.empty_into(&mut answer);
            }
            let answered = self.window.answer(answer.finish());
            self.publish(answered);
        }
        self.pausing &= self.window.held() > 0;
        self.quiet = match self.window.is_attached() || self.is_over() {
            true => None,
            false => self.quiet.or(Some(now)),
        };
    }

    fn must_answer(&self, now: Duration) -> bool {
        let Some(until) = self.window.until() else {
            return false;
        };
        let has_news = self.outbox.has_news() && self.window.is_awaited();
        let crowded = self.pausing || self.window.held() > self.terms.hold;
        now >= until
            || match self.phase {
                Phase::Beginning => has_news,
                Phase::Flowing => has_news || crowded,
                // The end goes into the same answer.
                Phase::Ending | Phase::Over(..) => false,
            }
    }

    /// An answer without anything in it yet.
    fn answer(&self) -> Answer {
        let mut answer = Answer::new();
        let taken = self.window.last();
        let is_first = matches!(self.phase, Phase::Beginning);
        if self.terms.acknowledges && (is_first || taken != self.window.base()) {
            answer.attribute("ack", &taken.to_string());
        }
        answer
    }

    /// The connection is lost: what waits does not reach the client this way any more.
    fn lose(&mut self, condition: Condition, now: Duration) {
        if !self.is_over() {
            self.finish(terminal(condition), now);
        }
    }

    /// It is over. The first request that waits hears all there is to hear, the others that there is no more.
    fn finish(&mut self, last: Arc<[u8]>, now: Duration) {
        self.inbox = VecDeque::new();
        self.outbox.clear();
        self.fault = None;
        let mut last = Some(last);
        while self.window.held() > 0 || self.window.take().is_some() {
            let answer = last.take();
            let answer = answer.unwrap_or_else(|| Answer::last(None).finish());
            let answered = self.window.answer(answer);
            self.publish(answered);
        }
        self.phase = Phase::Over(now, last);
        self.quiet = None;
    }

    /// Has the answer to a request sent.
    fn publish(&mut self, rid: Option<u64>) {
        let answer = rid.and_then(|rid| Some((rid, self.window.answer_to(rid)?)));
        self.ready.extend(answer);
    }
}
