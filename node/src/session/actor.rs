//! The actor of a bound session: the one that acts for it on the node of its connection.
//!
//! Its truth is the replicated state: it proposes what the client did and writes what the shard put out,
//! in the shard's order. What it keeps itself are positions in that order. Its pure parts are in
//! [`cluster::connection`]; the jobs under way are in `work`, what is written in `output`.
//!
//! # Invariants
//!
//! 1. At most one proposal of this session's stanzas is in flight, so that they keep their order.
//! 2. `<a/>` says what an outcome said before it (P1); a stanza is written when its output came (P2).
//! 3. Once the epoch is known to be over, nothing more is written (P3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle, StreamHandler};
use cluster::Mid;
use cluster::connection::count::{Incoming, Outgoing};
use cluster::connection::inbox::{Inbox, Work};
use cluster::connection::liveness::{Beat, Liveness};
use cluster::connection::outbox::Outbox;
use cluster::session::{Acknowledge, Command, EndReason, Event, Output};
use futures_util::stream;
use proto::stanza::{Kind, Stanza};
use proto::stream::{Condition, Input, StreamError};
use proto::{BareJid, Jid};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::admission::Held;
use super::depart::{self, Farewell};
use super::directory::Mail;
use super::journal;
use super::pump::{FromPump, Order};
use super::rate::Answers;
use super::resume::Entered;
use super::times::{millis, times};
use crate::app::App;
use crate::clock;
use crate::config::Config;
use crate::metrics::Direction;
use crate::router::SessionContext;
use crate::trace::Step;

/// So long, in milliseconds, an `<r/>` waits for the stanzas before it (SM-24).
pub(super) const REQUEST_PATIENCE: u64 = 5_000;

/// How often it is looked whether a client that is not read may be read again, in milliseconds.
const HELD_PAUSE: u64 = 1_000;

/// A session at the moment that it gets its actor.
pub struct Opening {
    /// The full JID.
    pub session: Jid,
    /// Our epoch.
    pub epoch: u64,
    /// The connection's entry in the directory.
    pub entered: Entered,
    /// Stanzas from the client.
    pub incoming: Incoming,
    /// Stanzas to the client.
    pub outgoing: Outgoing,
    /// What is to be written.
    pub outbox: Outbox,
    /// Stanzas below this number were queued before the stream was resumed.
    pub late: u64,
    /// The session is available.
    pub available: bool,
}

/// How far the session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is ours.
    Open,
    /// A proposal was refused for its epoch; the shard's word on it is on its way.
    Stale,
    /// The client ended it, which has been proposed.
    Ending,
    /// It is not ours any more, or its last command is on its way.
    Over,
}

/// See the module.
pub struct SessionActor {
    pub(super) app: Arc<App>,
    pub(super) session: Jid,
    pub(super) account: BareJid,
    pub(super) epoch: u64,
    pub(super) context: SessionContext,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    pub(super) inbox: Inbox,
    pub(super) phase: Phase,
    /// A job is under way, or the next one has to wait.
    pub(super) busy: bool,
    pub(super) answers: Answers,
    /// The client is not read until there is room for what it has sent.
    pub(super) held: Held,
    /// The node stops: leave as soon as nothing is under way.
    pub(super) leaving: bool,
    /// `<enable/>` is proposed; how many stanzas preceded it.
    pub(super) enabling: Option<u64>,
    pub(super) entered: Entered,
    pub(super) orders: UnboundedSender<Order>,
    pub(super) outbox: Outbox,
    pub(super) late: u64,
    pub(super) liveness: Liveness,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) started: Instant,
    /// The ping that is not answered yet, and what it would acknowledge.
    pub(super) ping: Option<(String, u64)>,
    pub(super) buffer: Vec<u8>,
    /// The client is inactive (XEP-0352).
    pub(super) inactive: bool,
    /// Messages in flight, by their numbers.
    pub(super) traced: VecDeque<(u64, Mid)>,
    /// Bytes given to the pump since it last said that they are written.
    pub(super) unwritten: usize,
    pub(super) held_back: bool,
    /// How often this process had stood still when the session was last known to be ours.
    pub(super) pauses: u64,
    pub(super) verifying: bool,
    timer: Option<(u64, SpawnHandle)>,
}

impl SessionActor {
    /// The actor of a session; `orders` go to its pump.
    pub fn new(app: Arc<App>, opening: Opening, orders: UnboundedSender<Order>) -> Self {
        let config = app.live.watch();
        let counts = opening.outgoing.counts();
        let (times, answers) = {
            let config = config.borrow();
            let times = times(&config, counts);
            (times, Answers::new(&config.limits, clock::instant()))
        };
        let account = opening.session.bare();
        let context = SessionContext {
            edge: app.edge.clone(),
            services: app.services.clone(),
            session: opening.session.clone(),
            account: account.clone(),
            available: opening.available,
        };
        app.metrics.sessions.inc();
        let pauses = app.vigil.pauses(clock::instant());
        Self {
            app,
            session: opening.session,
            account,
            epoch: opening.epoch,
            context,
            incoming: opening.incoming,
            outgoing: opening.outgoing,
            inbox: Inbox::default(),
            phase: Phase::Open,
            busy: false,
            answers,
            held: Held::default(),
            leaving: false,
            enabling: None,
            entered: opening.entered,
            orders,
            outbox: opening.outbox,
            late: opening.late,
            liveness: Liveness::new(times),
            config,
            started: clock::instant(),
            ping: None,
            inactive: false,
            traced: VecDeque::new(),
            buffer: Vec::new(),
            unwritten: 0,
            held_back: false,
            pauses,
            verifying: false,
            timer: None,
        }
    }

    /// Milliseconds since this actor began.
    pub(super) fn now(&self) -> u64 {
        millis(clock::instant().saturating_duration_since(self.started))
    }

    pub(super) fn order(&self, order: Order) {
        // The pump is gone if this fails, and says so by itself.
        drop(self.orders.send(order));
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        match input {
            Input::Stanza(stanza) => self.stanza(stanza),
            Input::Invalid { reply } => self.inbox.push(Work::Answer(reply)),
            Input::Enable { resume, max } => self.inbox.push(Work::Enable { resume, max }),
            Input::AckRequest => self.inbox.push(Work::AckRequest(self.now())),
            Input::Ack(h) => self.acknowledged(h, ctx),
            Input::Csi(active) => {
                self.inactive = !active;
                self.liveness.set_inactive(self.inactive);
                self.inbox.push(Work::Nothing);
            }
            Input::Closed => self.inbox.push(Work::Closed),
            Input::Failed(_) => self.inbox.push(Work::Violation),
            Input::StartTls
            | Input::Lookup { .. }
            | Input::VerifyPlain { .. }
            | Input::Authenticated { .. }
            | Input::AuthFailed { .. }
            | Input::Bind { .. }
            | Input::Resume { .. } => {
                // The stream machine is past these states for good.
                debug_assert!(false, "negotiation after binding");
            }
        }
    }

    fn stanza(&mut self, stanza: Stanza) {
        self.app.metrics.stanzas(Direction::In, 1);
        if !self.is_pong(&stanza) {
            return self.inbox.push(Work::Stanza(stanza));
        }
        // It has a number like any other stanza, and nothing follows from it.
        self.inbox.push(Work::Answer(None));
        if let Some((_, upto)) = self.ping.take() {
            let news = self.outgoing.answered(upto);
            self.tell(news);
        }
    }

    fn is_pong(&self, stanza: &Stanza) -> bool {
        use proto::stanza::IqType::{Error, Result};
        let is_answer = matches!(stanza.header.kind, Kind::Iq(Result | Error));
        is_answer
            && self
                .ping
                .as_ref()
                .is_some_and(|(id, _)| stanza.header.id.as_deref() == Some(id))
    }

    fn acknowledged(&mut self, h: u32, ctx: &mut Context<Self>) {
        self.inbox.push(Work::Nothing);
        match self.outgoing.acknowledge(h) {
            Ok(news) => self.tell(news),
            Err(too_high) => {
                self.order(Order::Fail(Box::new(too_high.into())));
                self.end(EndReason::Violation, ctx);
            }
        }
    }

    /// The client has everything below `upto`. A lost word costs nothing: the next one repeats it.
    fn tell(&mut self, upto: Option<u64>) {
        let (stanzas, bytes) = self.outgoing.in_flight();
        if let Some(asked) = self.liveness.asking_since() {
            let delay = Duration::from_millis(self.now().saturating_sub(asked));
            self.app.metrics.ack_delay.observe(delay.as_secs_f64());
        }
        self.liveness.answered(self.now(), stanzas, bytes);
        if upto.is_some() {
            self.trace_acknowledged();
            let acknowledge = Command::Acknowledge(self.acknowledge());
            self.app.cluster.propose_lazily(&self.account, acknowledge);
        }
    }

    fn trace_acknowledged(&mut self) {
        let acked = self.outgoing.acked();
        while let Some((_, mid)) = self.traced.pop_front_if(|(seq, _)| *seq < acked) {
            self.app.edge.trail.mark(mid, Step::Acknowledged);
        }
    }

    /// What the client is known to have.
    fn acknowledge(&self) -> Acknowledge {
        Acknowledge {
            session: self.session.clone(),
            epoch: self.epoch,
            upto: self.outgoing.acked(),
        }
    }

    pub(super) fn farewell(&self, last: Command) -> Farewell {
        Farewell {
            conn: self.entered.conn(),
            account: self.account.clone(),
            acknowledge: Some(self.acknowledge()),
            last,
        }
    }

    fn mail(&mut self, mail: Mail, ctx: &mut Context<Self>) {
        match mail {
            Mail::Output(output) if output.epoch == self.epoch => self.output(output, ctx),
            Mail::Output(_) => {}
            Mail::Resync if self.enabling.is_some() => self.give_up(ctx),
            Mail::Resync => self.catch_up(ctx),
            Mail::Leave => self.leaving = true,
            Mail::Away => self.sent_away(ctx),
        }
    }

    /// Nothing can be committed from here. Whose the session is by now is unknown, so nothing is said.
    fn sent_away(&mut self, ctx: &mut Context<Self>) {
        self.order(Order::Leave);
        self.lost(ctx);
    }

    /// The session belongs to another, or is over: a last word, or none.
    pub(super) fn detached(&mut self, condition: Option<Condition>, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Open | Phase::Stale) {
            return;
        }
        match condition {
            Some(condition) => self.order(Order::Fail(Box::new(StreamError::new(condition)))),
            None => self.order(Order::Drop),
        }
        self.over(journal::detached(condition), ctx);
    }

    /// Nothing is left to do.
    pub(super) fn over(&mut self, reason: &str, ctx: &mut Context<Self>) {
        let (conn, address) = (self.entered.conn(), self.entered.address());
        journal::ended(&self.session, conn, address, reason);
        self.phase = Phase::Over;
        ctx.stop();
    }

    /// Something that should not be: the client may resume, here or elsewhere.
    pub(super) fn give_up(&mut self, ctx: &mut Context<Self>) {
        tracing::warn!(session = %self.session, "a connection is given up");
        let error = self.app.trouble();
        self.order(Order::Fail(Box::new(error)));
        self.lost(ctx);
    }

    /// The connection is gone; what becomes of the session is the shard's business.
    pub(super) fn lost(&mut self, ctx: &mut Context<Self>) {
        let (session, epoch) = (self.session.clone(), self.epoch);
        self.depart(Command::Lost { session, epoch }, ctx);
    }

    /// The session ends, whether the cluster answers or not.
    pub(super) fn end(&mut self, reason: EndReason, ctx: &mut Context<Self>) {
        let (session, epoch) = (self.session.clone(), Some(self.epoch));
        let last = Command::End {
            session,
            epoch,
            reason,
        };
        self.depart(last, ctx);
    }

    fn depart(&mut self, command: Command, ctx: &mut Context<Self>) {
        if self.phase != Phase::Over {
            let reason = match self.leaving {
                true => "the node stops",
                false => journal::reason(&command),
            };
            depart::insist(&self.app, self.farewell(command));
            self.over(reason, ctx);
        }
    }

    /// The end of every handler: writes what is due and sets the timer.
    pub(super) fn settle(&mut self, ctx: &mut Context<Self>) {
        self.work(ctx);
        self.drain(ctx);
        if self.phase != Phase::Open {
            return;
        }
        let now = self.now();
        if self.config.has_changed().unwrap_or(false) {
            self.set_times();
        }
        if self.liveness.next(now) == Beat::Ask {
            self.ask(now);
        }
        if self.liveness.next(now) == Beat::Late && !self.held.is() {
            self.late();
        }
        let next = match self.liveness.next(now) {
            Beat::At(at) => at,
            // It may have answered: it is not read.
            Beat::Late | Beat::Dead if self.held.is() => now + HELD_PAUSE,
            Beat::Ask | Beat::Late => now,
            Beat::Dead => {
                let error = StreamError::new(Condition::ConnectionTimeout);
                self.order(Order::Fail(Box::new(error)));
                return self.lost(ctx);
            }
        };
        self.flush();
        let request = self.inbox.oldest_request().map(|at| at + REQUEST_PATIENCE);
        self.arm(request.map_or(next, |at| at.min(next)), now, ctx);
    }

    /// The operator's times, as they are now and as they are for this client.
    pub(super) fn set_times(&mut self) {
        let config = self.config.borrow_and_update();
        let times = times(&config, self.outgoing.counts());
        drop(config);
        self.liveness.set_times(times);
    }

    fn arm(&mut self, at: u64, now: u64, ctx: &mut Context<Self>) {
        if let Some((armed, handle)) = self.timer {
            if armed <= at {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = Duration::from_millis(at.saturating_sub(now).max(1));
        let handle = ctx.run_later(wait, |act, ctx| {
            act.timer = None;
            let since = act.now().saturating_sub(REQUEST_PATIENCE);
            if act.inbox.overdue(since) {
                act.answer();
            }
            act.settle(ctx);
        });
        self.timer = Some((at, handle));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(mut mail) = self.entered.mail() {
            ctx.add_stream(stream::poll_fn(move |cx| {
                let mut many = Vec::new();
                let received = mail.poll_recv_many(cx, &mut many, 64);
                received.map(|count| (count > 0).then_some(many))
            }));
        }
        self.liveness.heard(0);
        self.settle(ctx);
    }
}

impl StreamHandler<Vec<Mail>> for SessionActor {
    fn handle(&mut self, mails: Vec<Mail>, ctx: &mut Self::Context) {
        for mail in mails {
            if self.phase == Phase::Over {
                return;
            }
            // Before a last word goes what came before it.
            if matches!(
                &mail,
                Mail::Output(Output {
                    event: Event::Detached(_),
                    ..
                })
            ) {
                self.drain(ctx);
                self.flush();
            }
            self.mail(mail, ctx);
        }
        self.settle(ctx);
    }

    /// The directory lets go of the mailbox only after the actor.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<FromPump> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: FromPump, ctx: &mut Self::Context) {
        if self.phase == Phase::Over {
            return;
        }
        match message {
            FromPump::Inputs(inputs) => {
                self.liveness.heard(self.now());
                for input in inputs {
                    self.input(input, ctx);
                }
            }
            FromPump::Drained => self.held_back = false,
            FromPump::Gone => self.inbox.push(Work::Lost),
        }
        self.settle(ctx);
    }
}

impl Drop for SessionActor {
    fn drop(&mut self) {
        self.app.metrics.sessions.dec();
        if self.phase != Phase::Over {
            // Only a panic, or the end of the process, gets here; either way the session is not at fault.
            let (session, epoch) = (self.session.clone(), self.epoch);
            self.app
                .cluster
                .propose_lazily(&self.account, Command::Lost { session, epoch });
        }
    }
}
