//! [`Session`]: where the requests of a client and its stream meet.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use proto::stream::bosh::{self, Received, Request};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::clock;

/// How many connections that carry requests of a session do not count as those of strangers. Browsers keep more of
/// them than the two that a session needs.
const SEATS: u32 = 4;

/// A session of BOSH of this node.
#[derive(Debug)]
pub struct Session {
    // A lock, since the client's connections and the stream are tasks of different arbiters. It is held for as long as
    // a request is taken apart, and never while anything is awaited.
    state: Mutex<State>,
    started: Instant,
    seats: AtomicU32,
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    session: bosh::Session,
    waiting: HashMap<u64, Waiting>,
    last: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the session's clock looks at it next.
    planned: Option<Duration>,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Waiting {
    number: u64,
    answer: oneshot::Sender<Arc<[u8]>>,
}

/// What a connection gets for a request.
#[derive(Debug)]
pub enum Reply {
    /// Its answer.
    Now(Arc<[u8]>),
    /// Its answer, later; none if the same request came again by another connection.
    Later(Ticket, oneshot::Receiver<Arc<[u8]>>),
}

/// Stands for a request that waits. When it is dropped, the request waits no longer.
#[derive(Debug)]
pub struct Ticket {
    session: Arc<Session>,
    rid: u64,
    number: u64,
}

/// Who acts for the stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// It waits until there is something to read.
    Reader,
    /// It waits until there is room.
    Writer,
}

/// A place for a connection of a session.
#[derive(Debug)]
pub struct Seat(Arc<Session>);

impl Session {
    /// Begins with the first request of a client, whose reply comes with it.
    pub fn begin(sid: &str, request: Request) -> (Arc<Self>, Reply) {
        let rid = request.rid;
        let (answer, later) = oneshot::channel();
        let number = 1;
        let session = Arc::new(Self {
            state: Mutex::new(State {
                session: bosh::Session::new(sid, request, Duration::ZERO),
                waiting: HashMap::from([(rid, Waiting { number, answer })]),
                last: number,
                reader: None,
                writer: None,
                planned: None,
            }),
            started: clock::timer(),
            seats: AtomicU32::new(0),
            sooner: Notify::new(),
        });
        let ticket = Ticket {
            session: session.clone(),
            rid,
            number,
        };
        (session, Reply::Later(ticket, later))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        clock::timer().saturating_duration_since(self.started)
    }

    /// Acts on the session, and carries out what follows.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut bosh::Session, Duration) -> T) -> T {
        self.act_and(|state, now| act(&mut state.session, now))
    }

    fn act_and<T>(&self, act: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let done = act(state, now);
        for (rid, answer) in state.session.ready() {
            if let Some(waiting) = state.waiting.remove(&rid) {
                // Who is gone asks again, and hears the same then.
                drop(waiting.answer.send(answer));
            }
        }
        if state.session.is_over() {
            // Those that were never taken up hear nothing.
            state.waiting.clear();
        }
        let due = state.session.due();
        let sooner = due.is_some_and(|due| state.planned.is_none_or(|planned| due < planned));
        let reader = state.reader.take_if(|_| state.session.is_readable());
        let has_room = state.session.is_over() || state.session.room() > 0;
        let writer = state.writer.take_if(|_| has_room);
        drop(guard);
        if sooner {
            self.sooner.notify_one();
        }
        reader.into_iter().chain(writer).for_each(Waker::wake);
        done
    }

    /// Acts for one side of the stream; its task is woken when more can be done for it.
    pub(super) fn act_or_wait<T>(
        &self,
        side: Side,
        waker: &Waker,
        act: impl FnOnce(&mut bosh::Session, Duration) -> Option<T>,
    ) -> Option<T> {
        self.act_and(|state, now| {
            let done = act(&mut state.session, now);
            let waits = match side {
                Side::Reader => &mut state.reader,
                Side::Writer => &mut state.writer,
            };
            *waits = done.is_none().then(|| waker.clone());
            done
        })
    }

    /// A request of the session has come.
    pub fn receive(self: &Arc<Self>, request: Request) -> Reply {
        let rid = request.rid;
        self.act_and(|state, now| match state.session.receive(request, now) {
            Received::Answered(answer) => Reply::Now(answer),
            Received::Waits => {
                let (answer, later) = oneshot::channel();
                state.last += 1;
                let number = state.last;
                state.waiting.insert(rid, Waiting { number, answer });
                let ticket = Ticket {
                    session: self.clone(),
                    rid,
                    number,
                };
                Reply::Later(ticket, later)
            }
        })
    }

    /// The client is logged in.
    pub fn is_authenticated(&self) -> bool {
        self.state().session.is_authenticated()
    }

    /// Nothing more will be said but that.
    pub fn is_over(&self) -> bool {
        self.state().session.is_over()
    }

    /// The media type of its answers, if the client wants a certain one.
    pub fn content(&self) -> Option<String> {
        self.state().session.content().map(str::to_owned)
    }

    /// A place for a connection that carries its requests; none if there is none left, or a stranger asks for a second.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let seats = match self.state().session.is_live() {
            true => SEATS,
            false => 1,
        };
        let taken = self
            .seats
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < seats).then_some(taken + 1)
            });
        taken.is_ok().then(|| Seat(self.clone()))
    }

    /// Does what is due, until the session may be forgotten.
    pub async fn watch(&self) {
        loop {
            let (due, gone) = self.act_and(|state, now| {
                state.session.tick(now);
                state.planned = state.session.due();
                (state.planned, state.session.is_gone(now))
            });
            if gone {
                return;
            }
            let mut sooner = pin!(self.sooner.notified());
            tokio::select! {
                () = sleep_until(self.started + due.unwrap_or_default()), if due.is_some() => {}
                () = &mut sooner => {}
            }
        }
    }
}

impl Ticket {
    /// Another request waits behind this one on the same connection.
    pub fn hurry(&self) {
        self.session
            .act(|session, now| session.hurry(self.rid, now));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.session.act_and(|state, now| {
            let waiting = state.waiting.get(&self.rid);
            if waiting.is_some_and(|waiting| waiting.number == self.number) {
                state.waiting.remove(&self.rid);
                state.session.detach(self.rid, now);
            }
        });
    }
}

impl Seat {
    /// Whether it is one of this session.
    pub fn is_of(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.0, session)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}
