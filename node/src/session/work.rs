//! The jobs of a session's actor, one at a time.

use std::collections::VecDeque;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use cluster::connection::inbox::{Job, Work};
use cluster::session::{Action, Command, Enable, EndReason, Inbound, Outcome, Relay, ShardState};
use cluster::{Mid, ProposeError, SmId, bound, codec};
use proto::Jid;
use proto::stanza::error::{Condition as Refusal, StanzaError};
use proto::stanza::{Header, Kind, PresenceType};

use super::actor::{Phase, SessionActor};
use super::admission::admit;
use super::depart::depart;
use super::pump::Order;
use crate::clock;
use crate::hooks::refuse;
use crate::metrics::Metrics;
use crate::router::{self, SessionContext};
use crate::trace::{Step, Trail};

/// How often a proposal is made before the connection is given up; each try waits as long as it may.
const TRIES: usize = 3;
/// What one stanza amounts to may take so many bytes: a command that holds nothing else has room for them.
const STANZA_BYTES: usize = bound::COMMAND - (8 << 10);

impl SessionActor {
    /// Begins the next job, and all that needs no waiting.
    pub(super) fn work(&mut self, ctx: &mut Context<Self>) {
        while !self.busy && self.phase == Phase::Open {
            if self.leaving {
                return self.leave(ctx);
            }
            let Some(job) = self.inbox.job() else {
                break;
            };
            match job {
                Job::Stanzas(stanzas) => self.propose(stanzas, ctx),
                Job::One(Work::Enable { resume, max }) => self.enable(resume, max, ctx),
                Job::One(Work::AckRequest(_)) => self.answer(),
                Job::One(Work::Closed) => self.close(ctx),
                Job::One(Work::Violation) => self.end(EndReason::Violation, ctx),
                Job::One(Work::Lost) => self.lost(ctx),
                Job::One(Work::Nothing | Work::Stanza(_) | Work::Answer(_)) => {}
            }
        }
        let taken = self.inbox.taken();
        if taken > 0 {
            self.order(Order::Taken(taken));
        }
    }

    /// The node stops: what is handled is said, so that the client need not send it again.
    fn leave(&mut self, ctx: &mut Context<Self>) {
        self.answer();
        self.flush();
        self.order(Order::Leave);
        self.lost(ctx);
    }

    fn propose(&mut self, stanzas: Vec<Work>, ctx: &mut Context<Self>) {
        self.busy = true;
        let (app, account) = (self.app.clone(), self.account.clone());
        let (session, epoch, first) = (self.session.clone(), self.epoch, self.incoming.next());
        let mut context = self.context.clone();
        let held = self.held.clone();
        let job = async move {
            let mut stanzas = VecDeque::from(stanzas);
            let mut resolved = resolve(&mut context, &mut stanzas).await;
            // Until what is proposed is committed.
            let _permit = admit(&app, &account, &mut resolved, &held).await;
            let messages = accepted(&app.edge.trail, &resolved);
            let answered = answered(&resolved);
            let command = Command::Inbound(Inbound {
                session,
                epoch,
                first,
                stanzas: resolved,
            });
            let started = clock::instant();
            let mut outcome = app.cluster.propose(&account, command.clone()).await;
            for _ in 1..TRIES {
                if !matches!(outcome, Err(ProposeError::Unavailable(_))) {
                    break;
                }
                outcome = app.cluster.propose(&account, command.clone()).await;
            }
            if let Ok(Outcome::Handled { .. }) = outcome {
                for mid in messages {
                    app.edge.trail.mark(mid, Step::Committed);
                }
            }
            observe(
                &app.metrics,
                clock::instant().saturating_duration_since(started),
            );
            (outcome, context, stanzas, answered)
        };
        ctx.spawn(
            job.into_actor(self)
                .map(|(outcome, context, left, answered), act, ctx| {
                    act.rest(answered, ctx);
                    // What it sends while it is held is read only from now on.
                    act.liveness.heard(act.now());
                    act.context = context;
                    act.inbox.put_back(left.into_iter());
                    act.handled(outcome, ctx);
                    act.settle(ctx);
                }),
        );
    }

    /// The next job may begin, later if what was asked for was much.
    fn rest(&mut self, answered: usize, ctx: &mut Context<Self>) {
        let pause = self.answers.spend(answered, clock::instant());
        self.busy = pause.is_some();
        if let Some(pause) = pause {
            ctx.run_later(pause, |act, ctx| {
                act.busy = false;
                act.settle(ctx);
            });
        }
    }

    fn handled(&mut self, outcome: Result<Outcome, ProposeError>, ctx: &mut Context<Self>) {
        match outcome {
            Ok(Outcome::Handled { next }) => self.incoming.handled(next),
            Ok(Outcome::Stale) => self.stale(ctx),
            // A gap means that a stanza of ours is missing in the shard: the client has to send it again.
            _ if self.phase == Phase::Open => self.give_up(ctx),
            _ => {}
        }
    }

    /// The session has another owner, or none. If its output says why, it is on its way; without a
    /// word from the shard nothing more is written.
    fn stale(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Stale;
        ctx.run_later(Duration::from_secs(1), |act, ctx| act.detached(None, ctx));
    }

    fn enable(&mut self, resume: bool, max: Option<u32>, ctx: &mut Context<Self>) {
        self.busy = true;
        let sm = self.config.borrow().sm.clone();
        let cap = u32::try_from(sm.hibernation_time.as_secs()).unwrap_or(u32::MAX);
        let after = self.incoming.next() - 1;
        self.enabling = Some(after);
        let command = Command::Enable(Enable {
            session: self.session.clone(),
            epoch: self.epoch,
            after,
            smid: (resume && cap > 0).then(|| SmId(clock::name(128).into())),
            max: max.map_or(cap, |wish| wish.min(cap)),
            seed: sm.first_count,
        });
        let (app, account) = (self.app.clone(), self.account.clone());
        let job = async move { app.cluster.propose(&account, command).await };
        ctx.spawn(job.into_actor(self).map(|outcome, act, ctx| match outcome {
            // The rest follows when the output comes: until then `<r/>` and stanzas wait.
            Ok(Outcome::Done) => {}
            Ok(Outcome::Stale) => act.stale(ctx),
            _ => {
                act.enabling = None;
                act.busy = false;
                act.order(Order::EnableFailed(Refusal::InternalServerError));
                act.settle(ctx);
            }
        }));
    }

    /// Asks the shard whether the session is still ours; its answer is as new as any other's.
    pub(super) fn verify(&mut self, pauses: u64, ctx: &mut Context<Self>) {
        let (app, account) = (self.app.clone(), self.account.clone());
        let (session, epoch) = (self.session.clone(), self.epoch);
        let job = async move {
            let is_ours =
                move |shard: &ShardState| shard.missed(&session, epoch, u64::MAX).is_some();
            app.cluster.read_latest(&account, is_ours).await
        };
        ctx.spawn(
            job.into_actor(self)
                .map(move |ours, act, ctx| act.verified(ours.ok(), pauses, ctx)),
        );
    }

    /// `<enabled/>` was written.
    pub(super) fn enabled(&mut self, seed: u32, ctx: &mut Context<Self>) {
        if let Some(after) = self.enabling.take() {
            self.incoming.enable(after, seed);
            self.busy = false;
            self.work(ctx);
        }
    }

    /// The client ended its stream. We end ours once that is committed, with a last `<a/>` (SM-30).
    fn close(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Ending;
        self.outgoing.closed();
        let farewell = self.farewell(Command::End {
            session: self.session.clone(),
            epoch: Some(self.epoch),
            reason: EndReason::Closed,
        });
        let app = self.app.clone();
        let job = async move { depart(&app, &farewell).await };
        ctx.spawn(job.into_actor(self).map(|outcome, act, ctx| {
            act.answer();
            act.flush();
            act.order(Order::Close);
            match outcome {
                Ok(_) => act.over("closed by the client", ctx),
                Err(_) => act.end(EndReason::Closed, ctx),
            }
        }));
    }
}

/// The bytes that the client itself gets of what stanzas amount to.
fn answered(stanzas: &[Vec<Action>]) -> usize {
    stanzas.iter().flatten().map(Action::answer_size).sum()
}

/// Leaves a trail of the messages among what stanzas amount to.
fn accepted(trail: &Trail, stanzas: &[Vec<Action>]) -> Vec<Mid> {
    let messages = stanzas.iter().flatten().filter_map(|action| match action {
        Action::Send(Relay::Message(message)) => Some(message),
        _ => None,
    });
    let accept = messages.inspect(|message| {
        trail.accepted(message.mid, message.packet.header.id.as_deref());
    });
    accept.map(|message| message.mid).collect()
}

fn observe(metrics: &Metrics, took: Duration) {
    metrics.proposals.observe(took.as_secs_f64());
}

/// What was asked of the account is answered by the account (ST-68).
fn address(header: &mut Header, context: &SessionContext) {
    header
        .from
        .get_or_insert_with(|| Jid::from(context.account.clone()));
    header.to.get_or_insert_with(|| context.session.clone());
}

/// Resolves stanzas in order, each of which sees what those before it changed, until what they amount to fills a
/// command. The others are left for the next one: however much a few bytes ask for, no more is made than can be
/// carried, and the client is read as fast as its answers are.
async fn resolve(context: &mut SessionContext, stanzas: &mut VecDeque<Work>) -> Vec<Vec<Action>> {
    let mut resolved = Vec::with_capacity(stanzas.len());
    let mut bytes = 0;
    while bytes < bound::BATCH
        && let Some(work) = stanzas.pop_front()
    {
        let actions = match work {
            Work::Stanza(stanza) => {
                let header = stanza.header.clone();
                bounded(context, header, router::resolve(context, stanza).await)
            }
            Work::Answer(Some(reply)) => vec![Action::Reply(reply)],
            _ => Vec::new(),
        };
        bytes += codec::size(&actions);
        resolved.push(settled(context, actions));
    }
    resolved
}

/// What follows from a stanza, or a refusal if that is more than one command can carry.
fn bounded(context: &SessionContext, mut header: Header, actions: Vec<Action>) -> Vec<Action> {
    let bytes = codec::size(&actions);
    if bytes <= STANZA_BYTES {
        return actions;
    }
    tracing::info!(session = %context.session, bytes, "a stanza asks for more than can be carried");
    header.from = Some(context.session.clone());
    refuse(&header, &StanzaError::new(Refusal::ResourceConstraint))
}

/// The actions with their addresses; their session knows what they change.
fn settled(context: &mut SessionContext, mut actions: Vec<Action>) -> Vec<Action> {
    for action in &mut actions {
        match action {
            Action::Reply(packet) => address(&mut packet.header, context),
            Action::Presence(update) => {
                let kind = update.packet.header.kind;
                context.available = kind == Kind::Presence(PresenceType::Available);
            }
            _ => {}
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use cluster::session::PresenceUpdate;
    use proto::stanza::{IqType, MessageType, Packet, Stanza};
    use proto::{Element, ns};

    use super::*;
    use crate::router::testing::{edge, session};

    fn answer(bytes: usize) -> Packet {
        Packet {
            header: Header::new(Kind::Iq(IqType::Result)),
            payload: vec![b'x'; bytes].into(),
        }
    }

    #[tokio::test]
    async fn a_command_takes_no_more_answers_once_it_is_full() {
        let mut context = session(&edge().await, "alice@example.org/desk");
        let half = Work::Answer(Some(answer(bound::BATCH / 2)));
        let rest = (0..62).map(|_| Work::Answer(Some(answer(bound::BATCH / 2))));
        let mut stanzas: VecDeque<Work> = [half].into_iter().chain(rest).collect();
        let mut counts = Vec::new();
        while !stanzas.is_empty() {
            let resolved = resolve(&mut context, &mut stanzas).await;
            assert!(codec::size(&resolved) <= bound::COMMAND);
            counts.push(resolved.len());
        }
        assert_eq!((counts[0], counts.iter().sum::<usize>()), (2, 63));
    }

    #[tokio::test]
    async fn small_stanzas_are_resolved_together() {
        let mut context = session(&edge().await, "alice@example.org/desk");
        let chat = || {
            let body = Element::new("body", ns::CLIENT).with_text("hi");
            let chat = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
            Work::Stanza(chat.with_to("bob@example.org".parse().unwrap()))
        };
        let mut stanzas: VecDeque<Work> = (0..64).map(|_| chat()).collect();
        assert_eq!(resolve(&mut context, &mut stanzas).await.len(), 64);
        assert!(stanzas.is_empty());
    }

    #[tokio::test]
    async fn what_no_command_can_carry_is_refused_and_not_a_byte_less() {
        let context = session(&edge().await, "alice@example.org/desk");
        let header = Header {
            id: Some("1".into()),
            ..Header::new(Kind::Presence(PresenceType::Available))
        };
        let update = |bytes: usize| {
            Action::Presence(PresenceUpdate {
                packet: answer(bytes),
                priority: 0,
                subscribers: Vec::new(),
                probes: Vec::new(),
                requests: Vec::new(),
            })
        };
        let overhead = codec::size(&vec![update(1 << 18)]) - (1 << 18);
        let at = |bytes: usize| bounded(&context, header.clone(), vec![update(bytes - overhead)]);
        for fits in [STANZA_BYTES - 1, STANZA_BYTES] {
            let actions = at(fits);
            assert_eq!(codec::size(&actions), fits);
            assert!(matches!(actions[..], [Action::Presence(_)]));
        }
        let [Action::Reply(refusal)] = &at(STANZA_BYTES + 1)[..] else {
            panic!("not refused");
        };
        let text = String::from_utf8_lossy(&refusal.payload).into_owned();
        assert!(text.contains("resource-constraint"), "{text}");
        assert_eq!(refusal.header.to.as_ref(), Some(&context.session));
    }
}
