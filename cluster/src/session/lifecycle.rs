//! How sessions begin, change hands, sleep and end.

use proto::Jid;

use super::attachment::Hibernation;
use super::command::{Acknowledge, Bind, Enable, Outcome};
use super::output::{Detached, Event};
use super::reason::EndReason;
use super::session::{Session, Sm};
use super::state::ShardState;
use super::step::{SLICE, Step};
use crate::id::{BootId, Epoch, NodeId, Owner};

impl ShardState {
    pub(super) fn bind(&mut self, bind: Bind, step: &mut Step) -> Outcome {
        if let Some(held) = self.session(&bind.session) {
            if held.owner() == Some(bind.owner) {
                return Outcome::Bound {
                    epoch: held.epoch(),
                };
            }
            self.end(&bind.session, EndReason::Conflict, step);
        }
        let (account, Some(resource)) = (bind.session.bare(), bind.session.resource()) else {
            return Outcome::Stale;
        };
        let limit = self.settings().sessions_per_account as usize;
        let count = self.account(&account).sessions.len();
        if limit != 0 && count >= limit {
            return Outcome::TooManySessions;
        }
        let epoch = self.take_epoch();
        let user = self.account_or_new(account);
        user.sessions
            .insert(resource, Session::new(bind.owner, epoch));
        self.note_here(&bind.session);
        step.tell(bind.owner, &bind.session, epoch, Event::Bound);
        Outcome::Bound { epoch }
    }

    pub(super) fn enable(&mut self, enable: Enable, step: &mut Step) -> Outcome {
        let Some(session) = self.owned(&enable.session, enable.epoch) else {
            return Outcome::Stale;
        };
        if session.sm().is_some() {
            return Outcome::Done;
        }
        let sm = Sm {
            smid: enable.smid,
            after: enable.after,
            start: session.queue.next(),
            seed: enable.seed,
            max: enable.max,
        };
        let event = Event::Enabled(sm.enabled());
        session.enable(sm);
        step.tell_owner(&enable.session, session, event);
        Outcome::Done
    }

    pub(super) fn acknowledge(&mut self, ack: &Acknowledge, step: &mut Step) -> Outcome {
        let Some(session) = self.owned(&ack.session, ack.epoch) else {
            return Outcome::Stale;
        };
        let upto = ack.upto.min(session.queue.sent());
        let overdue = session.answered();
        self.trim_queue(&ack.session, upto, step);
        if overdue {
            self.note_here(&ack.session);
        }
        self.refill(&ack.session, step);
        Outcome::Done
    }

    pub(super) fn lost(&mut self, jid: &Jid, epoch: Epoch, step: &mut Step) -> Outcome {
        if self.owned(jid, epoch).is_none() {
            return Outcome::Stale;
        }
        self.drop_owner(jid, step);
        Outcome::Done
    }

    pub(super) fn end_by(
        &mut self,
        jid: &Jid,
        epoch: Option<Epoch>,
        reason: EndReason,
        step: &mut Step,
    ) -> Outcome {
        match self.session(jid) {
            Some(session) if epoch.is_none_or(|epoch| epoch == session.epoch()) => {
                self.end(jid, reason, step);
                Outcome::Done
            }
            _ => Outcome::Stale,
        }
    }

    /// Gives up so many sessions of a process that is gone; whoever says that it is says so again while
    /// there are others.
    pub(super) fn node_lost(
        &mut self,
        node: NodeId,
        alive: Option<BootId>,
        step: &mut Step,
    ) -> Outcome {
        let gone = |owner: Owner| owner.node == node && Some(owner.boot) != alive;
        let mut lost = Vec::new();
        for (account, user) in self.users().iter() {
            let sessions = user.sessions.iter();
            let held = sessions.filter(|(_, session)| session.owner().is_some_and(gone));
            lost.extend(held.map(|(resource, _)| account.with_prepared_resource(resource)));
            if lost.len() >= SLICE {
                break;
            }
        }
        lost.truncate(SLICE);
        for jid in lost {
            if let Some(session) = self.session(&jid) {
                step.tell_owner(&jid, session, Event::Detached(Detached::Fenced));
            }
            self.drop_owner(&jid, step);
        }
        Outcome::Done
    }

    /// The connection is gone: the session hibernates if it may be resumed, else it is over.
    fn drop_owner(&mut self, jid: &Jid, step: &mut Step) {
        let (epoch, since) = (self.take_epoch(), self.time());
        let Some(session) = self.session_mut(jid) else {
            return;
        };
        let Some(owner) = session.owner() else {
            return;
        };
        session.begin(epoch);
        session.shrink();
        let Some(sm) = session.sm().cloned().filter(|sm| sm.smid.is_some()) else {
            if let Some(session) = self.remove_session(jid) {
                self.over(jid, session, EndReason::Lost, step);
            }
            return;
        };
        let ordinary = sm.hibernation();
        let (until, patient) = self.hibernation_end(jid, ordinary);
        let sleep = Hibernation {
            since,
            until,
            patient,
            node: owner.node,
        };
        self.hibernate(jid, sleep);
        step.notice_sleep(jid, &sm);
        self.wake_for_queue(jid);
        self.enforce_limit(&jid.bare(), step);
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::MessageType;

    use super::super::stage::{Stage, jid, message, numbers, owner};
    use super::*;
    use crate::id::SmId;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    /// Alice sends `count` messages to bob.
    fn send(stage: &mut Stage, count: u128) {
        for mid in 0..count {
            let sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
            stage.act(ALICE, Action::Send(Relay::Message(sent)));
        }
    }

    fn pair() -> Stage {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        // Bob's own presence comes back to him before stream management: number 1, not counted.
        stage.resumable(BOB, Some(0));
        stage
    }

    #[test]
    fn sm_52_a_resume_sends_again_what_h_does_not_cover_and_what_came_meanwhile() {
        let mut stage = pair();
        send(&mut stage, 3);
        stage.lose(BOB);
        send(&mut stage, 2);
        let (outcome, outputs) = stage.resume(BOB, 1);
        assert!(matches!(outcome, Outcome::Resumed { .. }));
        assert_eq!(numbers(&outputs), [3, 4, 5, 6]);
    }

    #[test]
    fn sm_28_a_count_beyond_what_was_sent_ends_the_session() {
        let mut stage = pair();
        send(&mut stage, 2);
        stage.lose(BOB);
        send(&mut stage, 1);
        let (outcome, _) = stage.resume(BOB, 3);
        assert_eq!(outcome, Outcome::CountTooHigh { h: 3, sent: 2 });
        assert_eq!(stage.resume(BOB, 0).0, Outcome::NotResumed { h: Some(0) });
    }

    #[test]
    fn sm_59_a_resume_that_was_overtaken_ends_nothing() {
        let mut stage = pair();
        send(&mut stage, 3);
        stage.lose(BOB);
        stage.resume(BOB, 0);
        stage.acknowledge_all(BOB);
        let (outcome, _) = stage.resume(BOB, 1);
        assert_eq!(outcome, Outcome::CountTooHigh { h: 1, sent: 3 });
        assert!(matches!(stage.resume(BOB, 3).0, Outcome::Resumed { .. }));
    }

    #[test]
    fn sm_48_only_the_account_itself_resumes() {
        let mut stage = pair();
        let foreign = Resume {
            account: jid(ALICE).bare(),
            smid: SmId(BOB.into()),
            h: 0,
            owner: owner(99),
        };
        assert_eq!(
            stage.apply(Command::Resume(foreign)).0,
            Outcome::NotResumed { h: None }
        );
    }

    #[test]
    fn sm_50_the_old_owner_is_told_and_may_do_nothing_more() {
        let mut stage = pair();
        let epoch = stage.state.session(&jid(BOB)).expect("bound").epoch();
        let (_, outputs) = stage.resume(BOB, 0);
        assert!(matches!(
            outputs[0].event,
            Event::Detached(Detached::Resumed)
        ));
        let late = Inbound {
            session: jid(BOB),
            epoch,
            first: 2,
            stanzas: vec![Vec::new()],
        };
        assert_eq!(stage.apply(Command::Inbound(late)).0, Outcome::Stale);
        let lost = Command::Lost {
            session: jid(BOB),
            epoch,
        };
        assert_eq!(stage.apply(lost).0, Outcome::Stale);
    }

    #[test]
    fn sm_47_an_expired_session_leaves_its_count_for_a_day() {
        let mut stage = pair();
        stage.lose(BOB);
        for _ in 0..61 {
            stage.now += 5_000;
            stage.apply(Command::Tick);
        }
        for _ in 0..2 {
            assert_eq!(stage.resume(BOB, 0).0, Outcome::NotResumed { h: Some(0) });
        }
        for _ in 0..(24 * 720) {
            stage.now += 5_000;
            stage.apply(Command::Tick);
        }
        assert_eq!(stage.resume(BOB, 0).0, Outcome::NotResumed { h: None });
    }

    #[test]
    fn an_outage_costs_a_session_no_more_than_one_step() {
        let mut stage = pair();
        stage.lose(BOB);
        stage.now += 3_600_000;
        stage.apply(Command::Tick);
        assert!(matches!(stage.resume(BOB, 0).0, Outcome::Resumed { .. }));
    }

    #[test]
    fn i_12_the_oldest_hibernated_session_makes_room_and_loses_nothing() {
        let mut stage = Stage::new();
        stage.settings.max_hibernated_sessions = 2;
        stage.bind(ALICE, None);
        for n in 0..3 {
            stage.resumable(&format!("bob@example.org/{n}"), Some(0));
        }
        let first = message(MessageType::Chat, ALICE, "bob@example.org/0", 1);
        stage.act(ALICE, Action::Send(Relay::Message(first)));
        for n in 0..3 {
            stage.now += 10;
            stage.lose(&format!("bob@example.org/{n}"));
        }
        assert_eq!(stage.state.counts(), (3, 2));
        assert!(matches!(
            stage.resume("bob@example.org/0", 0).0,
            Outcome::NotResumed { h: Some(_) }
        ));
        assert_eq!(stage.undelivered("bob@example.org"), 1);
    }

    #[test]
    fn a_lost_process_leaves_its_sessions_hibernating_and_a_living_one_keeps_them() {
        let mut stage = pair();
        let lost = |alive| Command::NodeLost {
            node: NodeId(1),
            alive,
        };
        stage.apply(lost(Some(BootId(1))));
        assert_eq!(stage.state.counts(), (2, 0));
        // An entry gives up one session, in tests.
        stage.apply(lost(None));
        assert_eq!(stage.state.owners().len(), 1);
        stage.apply(lost(None));
        assert_eq!(stage.state.counts(), (1, 1));
        assert_eq!(stage.state.owners().len(), 0);
    }

    #[test]
    fn sm_62_what_expires_together_ends_a_slice_an_entry() {
        let mut stage = Stage::new();
        for n in 0..3 {
            let session = format!("user{n}@example.org/a");
            stage.resumable(&session, None);
            stage.lose(&session);
        }
        let mut left = vec![stage.state.counts().1];
        while left.last() != Some(&0) {
            // Longer than there was between the ends of their connections.
            stage.now += 1_000;
            stage.apply(Command::Tick);
            left.push(stage.state.counts().1);
            assert!(left.len() < 10_000, "they never end");
        }
        left.dedup();
        assert_eq!(left, [3, 2, 1, 0]);
    }

    #[test]
    fn st_64_a_bind_takes_the_name_from_who_holds_it() {
        let mut stage = pair();
        let bind = Bind {
            session: jid(BOB),
            owner: owner(50),
        };
        let (_, outputs) = stage.apply(Command::Bind(bind));
        let conflict = Event::Detached(Detached::Ended(EndReason::Conflict));
        assert_eq!(format!("{:?}", outputs[0].event), format!("{conflict:?}"));
        assert!(matches!(outputs[outputs.len() - 1].event, Event::Bound));
    }

    #[test]
    fn im_61_what_waited_comes_before_what_is_new() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        send(&mut stage, 2);
        stage.bind(BOB, Some(0));
        send(&mut stage, 1);
        let fetch = stage
            .state
            .pending(crate::id::EffectId(0), 100)
            .into_iter()
            .find_map(|p| match &*p.effect {
                Effect::Fetch { mids, .. } => Some((p.id, mids.clone())),
                _ => None,
            });
        let (id, mids) = fetch.expect("messages wait");
        let messages = mids.iter().map(|mid| Fetched {
            mid: *mid,
            stamp: 1,
            archived: true,
            packet: message(MessageType::Chat, ALICE, "bob@example.org", mid.0).packet,
        });
        let done = Completed {
            id,
            relays: Vec::new(),
            messages: messages.collect(),
        };
        let (_, outputs) = stage.apply(Command::Done(vec![done.clone()]));
        let offline: Vec<bool> = outputs
            .iter()
            .filter_map(|o| match &o.event {
                Event::Stanza { item, .. } => Some(item.offline),
                _ => None,
            })
            .collect();
        assert_eq!(offline, [true, true, false]);
        assert!(
            stage.apply(Command::Done(vec![done])).1.is_empty(),
            "a repeat does nothing"
        );
    }
}
