//! What a session's actor writes: outputs in their order, questions and answers about counts.

use actix::Context;
use cluster::connection::outbox::{Entry, Pushed};
use cluster::connection::write;
use cluster::session::{Command, Detached, EndReason, Event, Notice, Occasion, Output};
use proto::sm::elements::{write_ack, write_request};
use proto::sm::{Enabled, SmElement};
use proto::stream::Condition;

use super::actor::{Phase, SessionActor};
use super::pump::Order;
use crate::clock;
use crate::hooks::Heard;
use crate::metrics::Direction;
use crate::trace::Step;

/// So many bytes may be on their way to the socket; more waits in the outbox (T-13).
const HIGH: usize = 64 * 1024;

impl SessionActor {
    pub(super) fn output(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output.event {
            Event::Stanza { seq, item } => {
                if let Pushed::Gap(_) = self.outbox.push(seq, item) {
                    self.catch_up(ctx);
                }
            }
            Event::Enabled {
                smid, max, seed, ..
            } => self.outbox.enabled(smid, max, seed),
            Event::Detached(Detached::Resumed) => self.detached(Some(Condition::Conflict), ctx),
            Event::Detached(Detached::Ended(reason)) => self.detached(condition(reason), ctx),
            Event::Detached(Detached::Fenced) => self.detached(None, ctx),
            // These come before there is an actor.
            Event::Bound | Event::Resumed(_) => {}
        }
    }

    /// Reads what was skipped from this node's replica.
    pub(super) fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let (session, epoch, from) = (&self.session, self.epoch, self.outbox.expected());
        let missed = self
            .app
            .cluster
            .read(&self.account, |s| s.missed(session, epoch, from));
        let Some(missed) = missed else {
            return self.detached(None, ctx);
        };
        for (seq, item) in missed {
            if let Pushed::Gap(_) = self.outbox.push(seq, item) {
                return self.give_up(ctx);
            }
        }
    }

    /// `<a/>`, with what is committed.
    pub(super) fn answer(&mut self) {
        if let Some(h) = self.incoming.h() {
            write_ack(h, &mut self.buffer);
        }
    }

    pub(super) fn ask(&mut self, now: u64) {
        if self.outgoing.counts() {
            write_request(&mut self.buffer);
        } else {
            let id = clock::name(64);
            write::ping(&self.session, &id, &mut self.buffer);
            self.ping = Some((id, self.outgoing.written()));
        }
        self.liveness.asked(now);
    }

    /// The client has not answered for long: services may want to know.
    pub(super) fn late(&mut self) {
        self.liveness.said_late();
        if self.inactive {
            let (session, epoch) = (self.session.clone(), self.epoch);
            let overdue = Command::Overdue { session, epoch };
            let (app, account) = (self.app.clone(), self.account.clone());
            // Not lazily: an acknowledgement that comes later must not overtake it.
            actix_rt::spawn(async move { app.cluster.propose(&account, overdue).await });
        }
        let stanzas = u32::try_from(self.outgoing.in_flight().0).unwrap_or(u32::MAX);
        let notice = Notice {
            session: self.session.clone(),
            smid: None,
            at: clock::now(),
            what: Occasion::AckDelayed { stanzas },
        };
        self.app.services.heard(&Heard {
            notice: &notice,
            leads: true,
            metrics: &self.app.metrics,
        });
    }

    /// Whether the session is known to be ours. After a pause of the process it is only known again when
    /// the shard has confirmed it (T-38).
    fn is_sure(&mut self, ctx: &mut Context<Self>) -> bool {
        let pauses = self.app.vigil.pauses(clock::instant());
        if pauses != self.pauses && !self.verifying {
            self.verifying = true;
            self.verify(pauses, ctx);
        }
        !self.verifying
    }

    /// The answer about `pauses` has come.
    pub(super) fn verified(&mut self, ours: Option<bool>, pauses: u64, ctx: &mut Context<Self>) {
        self.verifying = false;
        match ours {
            Some(true) => self.pauses = pauses,
            Some(false) => return self.detached(None, ctx),
            None => return self.give_up(ctx),
        }
        self.settle(ctx);
    }

    /// Writes from the outbox as far as the socket keeps up.
    pub(super) fn drain(&mut self, ctx: &mut Context<Self>) {
        if self.outbox.is_empty() || !self.is_sure(ctx) {
            return;
        }
        let (mut stanzas, mut bytes) = (0, 0);
        while !self.held_back && self.phase == Phase::Open {
            match self.outbox.pop() {
                None => break,
                Some(Entry::Enabled { smid, max, seed }) => {
                    let id = smid.map(|id| String::from(id.0));
                    let max = id.as_ref().map(|_| max);
                    SmElement::Enabled(Enabled { id, max }).write(&mut self.buffer);
                    self.outgoing.enable(seed);
                    self.liveness.answered(self.now(), 0, 0);
                    self.set_times();
                    (stanzas, bytes, self.ping) = (0, 0, None);
                    self.enabled(seed, ctx);
                }
                Some(Entry::Stanza(seq, item)) => {
                    let late = seq < self.late;
                    let whose = (&self.session, &self.account);
                    let size = write::stanza(&item, whose, late, &mut self.buffer);
                    self.outgoing.wrote(size);
                    if let Some(mid) = item.original() {
                        self.app.edge.trail.mark(mid, Step::Written);
                        self.traced.push_back((seq, mid));
                    }
                    stanzas += 1;
                    bytes += size;
                }
            }
            if self.unwritten + self.buffer.len() >= HIGH {
                self.held_back = true;
                self.app.metrics.held_back.inc();
            }
        }
        if stanzas > 0 {
            self.app.metrics.stanzas(Direction::Out, stanzas);
            self.liveness.wrote(self.now(), stanzas, bytes);
        }
    }

    /// Gives the pump what was written.
    pub(super) fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.unwritten += self.buffer.len();
            let bytes = std::mem::take(&mut self.buffer);
            self.order(Order::Write(bytes));
        }
        if self.held_back && self.unwritten > 0 {
            self.unwritten = 0;
            self.order(Order::Report);
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
        EndReason::Credentials => Some(Condition::NotAuthorized),
    }
}
