//! How the actor of a session carries out what its connection asks for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use cluster::connection::inbox::Work;
use cluster::connection::{Failure, Farewell, Note, Request, Stop};
use cluster::session::{Command, Notice, Outcome, SessionEvent, Unheard, query};
use cluster::{ArchiveId, Permit, ProposeError, Unavailable};
use proto::stanza::error::Condition as Refusal;

use super::actor::SessionActor;
use super::admission::admit;
use super::depart::{self, depart};
use super::journal;
use super::pump::Order;
use super::resolve::{accepted, resolve};
use crate::clock;
use crate::hooks::Heard;
use crate::metrics::{Direction, Throttled};
use crate::trace::Step;

/// What is kept until proposed stanzas have an outcome.
struct UnderWay {
    _permit: Permit,
    messages: Vec<ArchiveId>,
    since: Instant,
}

impl SessionActor {
    /// Carries out what the connection wants, in order.
    pub(super) fn carry_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(request) = self.connection.poll() {
            match request {
                Request::Write(bytes) => self.order(Order::Write(bytes)),
                Request::Report => self.order(Order::Report),
                Request::Taken(count) => self.order(Order::Taken(count)),
                Request::Resolve(stanzas) => self.resolve(stanzas, ctx),
                Request::Enable(enable) => self.enable(Command::Enable(enable), ctx),
                Request::EnableFailed => {
                    self.order(Order::EnableFailed(Refusal::InternalServerError));
                }
                Request::Acknowledge(acknowledge) => {
                    let acknowledge = Command::Acknowledge(acknowledge);
                    self.app.cluster.propose_lazily(&self.account, acknowledge);
                }
                Request::Propose(command) => {
                    let (app, account) = (self.app.clone(), self.account.clone());
                    actix_rt::spawn(async move { app.cluster.propose(&account, command).await });
                }
                Request::Read(from) => {
                    self.read(from, ctx);
                }
                Request::Verify(pauses) => self.verify(pauses, ctx),
                Request::Finish(farewell) => self.finish(farewell, ctx),
                Request::Depart(farewell) => {
                    depart::insist(&self.app, self.farewell(farewell));
                }
                Request::Stop(stop) => self.stop(stop),
                Request::Over(reason) => {
                    let (conn, address) = (self.entered.conn(), self.entered.address());
                    journal::ended(self.connection.session(), conn, address, reason);
                    ctx.stop();
                }
                Request::Note(note) => self.note(note),
            }
        }
    }

    fn stop(&self, stop: Stop) {
        self.order(match stop {
            Stop::Fail(error) => Order::Fail(error),
            Stop::Trouble => {
                tracing::warn!(session = %self.connection.session(), "a connection is given up");
                Order::Fail(Box::new(self.app.trouble()))
            }
            Stop::Close => Order::Close,
            Stop::Leave => Order::Leave,
            Stop::Drop => Order::Drop,
        });
    }

    fn resolve(&mut self, stanzas: Vec<Work>, ctx: &mut Context<Self>) {
        let mut context = self.context.clone();
        let job = async move {
            let mut stanzas = VecDeque::from(stanzas);
            let resolved = resolve(&mut context, &mut stanzas).await;
            (resolved, context, stanzas)
        };
        let job = job
            .into_actor(self)
            .then(|(mut resolved, context, left), act, _| {
                act.context = context;
                act.connection.resolved(left.into_iter());
                let (app, account) = (act.app.clone(), act.account.clone());
                let admit = async move {
                    let permit = admit(&app, &account, &mut resolved).await;
                    (resolved, permit)
                };
                admit.into_actor(act)
            });
        ctx.spawn(job.map(|(resolved, permit), act, ctx| {
            let under_way = UnderWay {
                _permit: permit,
                messages: accepted(&act.app.edge.trail, &resolved),
                since: clock::instant(),
            };
            if let Some(command) = act.connection.admitted(resolved) {
                act.propose(command, under_way, ctx);
            }
        }));
    }

    fn propose(&mut self, command: Command, under_way: UnderWay, ctx: &mut Context<Self>) {
        let (app, account) = (self.app.clone(), self.account.clone());
        let job = async move { app.cluster.propose(&account, command).await };
        let job = job.into_actor(self);
        ctx.spawn(job.map(|outcome, act, ctx| act.proposed(outcome, under_way, ctx)));
    }

    fn proposed(
        &mut self,
        outcome: Result<Outcome, ProposeError>,
        under_way: UnderWay,
        ctx: &mut Context<Self>,
    ) {
        let is_handled = matches!(outcome, Ok(Outcome::Handled { .. }));
        let now = self.moment().now;
        if let Some(again) = self.connection.handled(now, outcome.map_err(failure)) {
            return self.propose(again, under_way, ctx);
        }
        if is_handled {
            self.mark(&under_way.messages, Step::Committed);
        }
        let took = clock::instant().saturating_duration_since(under_way.since);
        self.app.metrics.proposals.observe(took.as_secs_f64());
        drop(under_way);
        self.settle(ctx);
    }

    /// Does what takes time, and tells the connection what came of it.
    fn ask<T: 'static>(
        &self,
        job: impl Future<Output = T> + 'static,
        tell: impl FnOnce(&mut Self, T) + 'static,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(job.into_actor(self).map(|answer, act, ctx| {
            tell(act, answer);
            act.settle(ctx);
        }));
    }

    /// Asks for what may have been skipped.
    fn read(&mut self, from: u64, ctx: &mut Context<Self>) {
        let (app, account) = (self.app.clone(), self.account.clone());
        let (session, epoch) = (self.connection.session().clone(), self.connection.epoch());
        let mut next = query::Missed {
            session,
            epoch,
            from,
        };
        let job = async move {
            let mut stanzas = Vec::new();
            while let Some(page) = app.cluster.query(&account, next.clone()).await? {
                let Some((last, _)) = page.stanzas.last() else {
                    return Ok(Some(Unheard { stanzas, ..page }));
                };
                next.from = last + 1;
                stanzas.extend(page.stanzas);
            }
            Ok(None)
        };
        let tell = |act: &mut Self, missed: Result<_, _>| match missed {
            Ok(missed) => act.connection.missed(missed),
            // Its source was lost for long, so that the client is better off elsewhere.
            Err(Unavailable) => act.connection.unread(),
        };
        self.ask(job, tell, ctx);
    }

    fn enable(&mut self, command: Command, ctx: &mut Context<Self>) {
        let (app, account) = (self.app.clone(), self.account.clone());
        let job = async move { app.cluster.propose(&account, command).await };
        let tell = |act: &mut Self, outcome: Result<Outcome, ProposeError>| {
            let now = act.moment().now;
            act.connection.enable_decided(now, outcome.map_err(failure));
        };
        self.ask(job, tell, ctx);
    }

    /// Asks the shard whether the session is still ours; its answer is as new as any other's.
    fn verify(&mut self, pauses: u64, ctx: &mut Context<Self>) {
        let (app, account) = (self.app.clone(), self.account.clone());
        let (session, epoch) = (self.connection.session().clone(), self.connection.epoch());
        let owned = query::IsOwned { session, epoch };
        let job = async move { app.cluster.query_latest(&account, owned).await.ok() };
        let tell = move |act: &mut Self, ours| act.connection.verified(ours, pauses);
        self.ask(job, tell, ctx);
    }

    fn finish(&mut self, farewell: Farewell, ctx: &mut Context<Self>) {
        let (app, farewell) = (self.app.clone(), self.farewell(farewell));
        let job = async move { depart(&app, &farewell).await.is_ok() };
        let tell = |act: &mut Self, is_committed| act.connection.closed(is_committed);
        self.ask(job, tell, ctx);
    }

    fn farewell(&self, Farewell { acknowledge, last }: Farewell) -> depart::Farewell {
        depart::Farewell {
            conn: self.entered.conn(),
            account: self.account.clone(),
            acknowledge: Some(acknowledge),
            last,
        }
    }

    fn note(&self, note: Note) {
        let metrics = &self.app.metrics;
        match note {
            Note::Written { stanzas, messages } => {
                metrics.stanzas.inc_by(Direction::Out, stanzas as u64);
                self.mark(&messages, Step::Written);
            }
            Note::Acknowledged(messages) => self.mark(&messages, Step::Acknowledged),
            Note::Answered(after) => {
                let after = Duration::from_millis(after);
                metrics.ack_delay.observe(after.as_secs_f64());
            }
            Note::Late { stanzas } => self.late(stanzas),
            Note::HeldBack => {
                metrics.throttled.inc(Throttled::SlowReader);
            }
        }
    }

    fn mark(&self, messages: &[ArchiveId], step: Step) {
        for mid in messages {
            self.app.edge.trail.mark(*mid, step);
        }
    }

    /// Services may want to know.
    fn late(&self, stanzas: usize) {
        let stanzas = u32::try_from(stanzas).unwrap_or(u32::MAX);
        let notice = Notice {
            session: self.connection.session().clone(),
            smid: None,
            at: clock::now(),
            what: SessionEvent::AckDelayed { stanzas },
        };
        self.app.services.heard(&Heard {
            notice: &notice,
            leads: true,
            metrics: &self.app.metrics,
        });
    }
}

fn failure(error: ProposeError) -> Failure {
    match error {
        ProposeError::Unavailable(_) => Failure::Unavailable,
        ProposeError::TooLarge(_) => Failure::Refused,
    }
}
