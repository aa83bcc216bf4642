//! The actor of a bound session: it carries the [`Connection`] that acts for it.
//!
//! It decides nothing. It tells the connection what the client, the shard and the clock say, and carries out what that
//! asks for (`requests`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, SpawnHandle, StreamHandler};
use cluster::connection::rate::Answers;
use cluster::connection::{Connection, Moment};
use cluster::session::Command;
use futures_channel::mpsc::UnboundedSender;
use futures_util::StreamExt as _;
use proto::BareJid;
use proto::stream::Input;
use tokio::sync::watch;

use super::directory::Mail;
use super::entered::{Entered, Opening};
use super::pump::{FromPump, Order};
use super::settings::{millis, settings};
use crate::app::App;
use crate::clock;
use crate::config::Config;
use crate::hooks::Memory;
use crate::metrics::Direction;
use crate::router::SessionContext;

/// See the module.
pub struct SessionActor {
    pub(super) app: Arc<App>,
    pub(super) account: BareJid,
    pub(super) connection: Connection,
    pub(super) context: SessionContext,
    pub(super) entered: Entered,
    orders: UnboundedSender<Order>,
    config: watch::Receiver<Arc<Config>>,
    started: Instant,
    timer: Option<(u64, SpawnHandle)>,
}

impl SessionActor {
    /// The actor of a session; `orders` go to its pump.
    pub fn new(app: Arc<App>, opening: Opening, orders: UnboundedSender<Order>) -> Self {
        let config = app.live.watch();
        let (settings, answers) = {
            let config = config.borrow();
            let bytes = config.limits.bytes_per_second;
            (settings(&config), Answers::new(bytes, Duration::ZERO))
        };
        let session = opening.session.session.clone();
        let account = session.bare();
        let started = clock::instant();
        let pauses = app.pause_detector.pauses(started);
        let names = Box::new(clock::name);
        app.metrics.sessions.inc();
        Self {
            context: SessionContext {
                edge: app.edge.clone(),
                services: app.services.clone(),
                session,
                account: account.clone(),
                available: opening.available,
                memory: Memory::default(),
            },
            connection: Connection::new(opening.session, settings, answers, names, pauses),
            app,
            account,
            entered: opening.entered,
            orders,
            config,
            started,
            timer: None,
        }
    }

    pub(super) fn moment(&self) -> Moment {
        let now = clock::instant();
        Moment {
            now: millis(now.saturating_duration_since(self.started)),
            pauses: self.app.pause_detector.pauses(now),
        }
    }

    pub(super) fn order(&self, order: Order) {
        // The pump is gone if this fails, and says so by itself.
        drop(self.orders.unbounded_send(order));
    }

    fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Output(output) => self.connection.output(self.moment(), output),
            Mail::Resync => self.connection.resync(),
            Mail::Leave => self.connection.leave(),
            Mail::Away => self.connection.away(),
        }
    }

    /// The end of every handler.
    pub(super) fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.config.has_changed().unwrap_or(false) {
            let settings = settings(&self.config.borrow_and_update());
            self.connection.configure(settings);
        }
        let moment = self.moment();
        self.connection.settle(moment);
        self.carry_out(ctx);
        if let Some(at) = self.connection.wake() {
            self.arm(at, moment.now, ctx);
        }
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
            act.settle(ctx);
        });
        self.timer = Some((at, handle));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(mail) = self.entered.mail() {
            ctx.add_stream(mail.ready_chunks(64));
        }
        if self.entered.has_skipped() {
            self.connection.resync();
        }
        self.settle(ctx);
    }
}

impl StreamHandler<Vec<Mail>> for SessionActor {
    fn handle(&mut self, mails: Vec<Mail>, ctx: &mut Self::Context) {
        for mail in mails {
            self.mail(mail);
            self.carry_out(ctx);
        }
        self.settle(ctx);
    }

    /// The directory lets go of the mailbox only after the actor.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<FromPump> for SessionActor {
    type Result = ();

    fn handle(&mut self, message: FromPump, ctx: &mut Self::Context) {
        match message {
            FromPump::Inputs(inputs) => {
                let now = self.moment().now;
                let stanzas = inputs.iter().filter(|i| matches!(i, Input::Stanza(_)));
                let stanzas = stanzas.count();
                if stanzas > 0 {
                    self.app
                        .metrics
                        .stanzas
                        .inc_by(Direction::In, stanzas as u64);
                }
                self.connection.heard(now);
                for input in inputs {
                    self.connection.input(now, input);
                }
            }
            FromPump::Drained => self.connection.drained(),
            FromPump::Gone => self.connection.gone(),
        }
        self.settle(ctx);
    }
}

impl Drop for SessionActor {
    fn drop(&mut self) {
        self.app.metrics.sessions.dec();
        if !self.connection.is_over() {
            // Only a panic, or the end of the process, gets here; either way the session is not at fault.
            let session = self.connection.session().clone();
            let epoch = self.connection.epoch();
            let lost = Command::Lost { session, epoch };
            self.app.cluster.propose_lazily(&self.account, lost);
        }
    }
}
