//! Whom to wake when something important arrives (XEP-0357, IM-105).
//!
//! The registrations are in the database; a shard knows which clients, named by their resources, have
//! some, and what it last did about them. A hint that is out of date costs one effect: who carries it out
//! finds no registration and says so.
//!
//! ```text
//!           lost, with push                 something important, or time is nearly up
//!   attached ─────────────▶ hibernated, patient ─────────────────────────────▶ hibernated ──▶ over
//!                           push_hibernation_time      (a push)                sm.max
//! ```

use proto::stanza::{Kind, MessageType};
use proto::{BareJid, Jid};

use super::attachment::Hibernation;
use super::clients::Pushing;
use super::clock::ShardTime;
use super::command::Outcome;
use super::effect::Effect;
use super::relay::Message;
use super::session::{Session, Sm};
use super::state::ShardState;
use crate::id::Epoch;

/// A client gets no second push within so many milliseconds.
const PAUSE: u64 = 1_000;

impl ShardState {
    /// A client has registered a service that wakes it, or taken the last one back.
    pub(super) fn set_push(&mut self, jid: &Jid, on: bool) {
        let (account, Some(resource)) = (jid.bare(), jid.resource()) else {
            return;
        };
        if !on {
            return self.no_push(&account, resource);
        }
        let known = self.account_or_new(account);
        known.push.add(resource, &known.sessions);
    }

    /// Nothing is registered that would wake the client: a session that waited for that waits no longer
    /// than any other.
    pub(super) fn no_push(&mut self, account: &BareJid, resource: &str) {
        if let Some(user) = self.account_mut(account) {
            user.push.forget(resource);
        }
        self.end_patience(&account.with_prepared_resource(resource));
        self.tidy(account);
    }

    /// The client is here: it needs no waking.
    pub(super) fn note_here(&mut self, jid: &Jid) {
        let user = self.account_mut(jid.bare_str());
        let pushing = user
            .zip(jid.resource())
            .and_then(|(u, r)| u.push.get_mut(r));
        if let Some(pushing) = pushing {
            *pushing = Pushing::default();
        }
    }

    /// Until when a session sleeps that has just lost its connection, and whether it is patient: then that
    /// is when it is to be woken, and it goes on sleeping after that.
    pub(super) fn hibernation_end(&self, jid: &Jid, ordinary: u64) -> (ShardTime, bool) {
        let most = self.settings().push_hibernation_time;
        let clients = &self.account(jid.bare_str()).push;
        let has_push = jid.resource().is_some_and(|r| clients.can_wake(r));
        match has_push && most > ordinary {
            true => (self.time().after(most - ordinary), true),
            false => (self.time().after(ordinary), false),
        }
    }

    /// A client's session is over.
    pub(super) fn note_over(&mut self, jid: &Jid, session: &Session) {
        let user = self.account_mut(jid.bare_str());
        let pushing = user.zip(jid.resource());
        if let Some(pushing) = pushing.and_then(|(u, r)| u.push.get_mut(r)) {
            pushing.copies = session.has_carbons();
        }
    }

    /// Wakes those of the account's clients that are not connected, for a message that has arrived: those
    /// whose sessions are among `got`, and without a session who would have got it. Without `got` it waits
    /// for whoever comes first.
    pub(super) fn push_for(&mut self, account: &BareJid, message: &Message, got: Option<&[Jid]>) {
        let header = &message.packet.header;
        let own = header
            .from
            .as_ref()
            .is_some_and(|from| from.belongs_to(account));
        let error = header.kind == Kind::Message(MessageType::Error);
        if !message.traits.important || own || error {
            return;
        }
        let user = self.account(account);
        let is_away = |s: &Session| s.is_away();
        let named = header.to.as_ref().and_then(Jid::resource);
        let concerned = |r: &str, pushing: &Pushing| match (user.sessions.get(r), got) {
            (session, None) => session.is_none_or(is_away),
            (Some(s), Some(got)) => is_away(s) && got.iter().any(|jid| jid.resource() == Some(r)),
            (None, Some(_)) => named == Some(r) || (pushing.copies && message.traits.carbon),
        };
        let clients = user.push.iter();
        let away = clients.filter(|(r, pushing)| concerned(r, pushing));
        let away: Vec<Box<str>> = away.map(|(r, _)| r.into()).collect();
        for resource in away {
            self.wake(account, &resource, Some(message));
        }
    }

    /// The client is inactive and silent: what it was sent last may not have reached it.
    pub(super) fn overdue(&mut self, jid: &Jid, epoch: Epoch) -> Outcome {
        let Some(session) = self.owned(jid, epoch) else {
            return Outcome::Stale;
        };
        session.fall_overdue();
        self.wake_for_queue(jid);
        Outcome::Done
    }

    /// Wakes the client for the messages that it has not acknowledged, if there are any (SM-43).
    pub(super) fn wake_for_queue(&mut self, jid: &Jid) {
        let Some(session) = self.session(jid) else {
            return;
        };
        let unread = session.queue.stanzas();
        let unread = unread.iter().filter(|item| item.keep).count();
        let unread = u32::try_from(unread).unwrap_or(u32::MAX);
        let (account, Some(resource)) = (jid.bare(), jid.resource()) else {
            return;
        };
        let user = self.account_mut(&account);
        let Some(pushing) = user.and_then(|u| u.push.get_mut(resource)) else {
            return;
        };
        if unread > 0 {
            pushing.count = pushing.count.max(unread);
            self.wake(&account, resource, None);
        }
    }

    /// A patient session's time is nearly up. Returns whether it was one.
    pub(super) fn wake_patient(&mut self, jid: &Jid) -> bool {
        let patient = self.session(jid).and_then(Session::hibernation);
        let (true, Some(resource)) = (patient.is_some_and(|h| h.patient), jid.resource()) else {
            return false;
        };
        self.wake(&jid.bare(), resource, None);
        self.end_patience(jid);
        true
    }

    fn wake(&mut self, account: &BareJid, resource: &str, message: Option<&Message>) {
        let time = self.time();
        let user = self.account_mut(account);
        let Some(pushing) = user.and_then(|u| u.push.get_mut(resource)) else {
            return;
        };
        pushing.count = pushing.count.saturating_add(u32::from(message.is_some()));
        if pushing.last.is_some_and(|last| time < last.after(PAUSE)) {
            return;
        }
        pushing.last = Some(time);
        let count = pushing.count;
        self.add_effect(Effect::Push {
            account: account.clone(),
            resource: resource.into(),
            count,
            message: message.map(|message| message.packet.clone()),
        });
        self.end_patience(&account.with_prepared_resource(resource));
    }

    /// From now on the session sleeps as long as any other.
    fn end_patience(&mut self, jid: &Jid) {
        let time = self.time();
        let Some(session) = self.session(jid) else {
            return;
        };
        let ordinary = session.sm().map_or(0, Sm::hibernation);
        let Some(sleep) = session.hibernation().filter(|sleep| sleep.patient) else {
            return;
        };
        let until = time.after(ordinary);
        let sleep = Hibernation {
            until,
            patient: false,
            ..sleep
        };
        self.hibernate(jid, sleep);
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, jid, message};
    use super::*;
    use crate::id::EffectId;
    use crate::session::clients::CLIENTS;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";
    const HOUR: u64 = 3_600_000;

    /// Bob has a session with push that can be resumed, and may sleep for 72 hours then.
    fn stage() -> Stage {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable(BOB, Some(0));
        stage.act(BOB, Action::PushEnabled(true));
        stage
    }

    fn send(stage: &mut Stage, from: &str, mid: u128) {
        let sent = message(MessageType::Chat, from, "bob@example.org", mid);
        stage.act(from, Action::Send(Relay::Message(sent)));
    }

    /// The counts of all pushes so far, and whether they are for a message.
    fn pushes(stage: &Stage) -> Vec<(u32, bool)> {
        let all = stage.state.pending(EffectId(0), usize::MAX);
        let pushes = all.iter().filter_map(|pending| match &*pending.effect {
            Effect::Push { count, message, .. } => Some((*count, message.is_some())),
            _ => None,
        });
        pushes.collect()
    }

    fn pass(stage: &mut Stage, millis: u64) {
        for _ in 0..millis / 5_000 {
            stage.now += 5_000;
            stage.apply(Command::Tick);
        }
        stage.now += millis % 5_000;
        stage.apply(Command::Tick);
    }

    #[test]
    fn im_105_who_is_connected_is_not_woken_who_is_away_is() {
        let mut stage = stage();
        send(&mut stage, ALICE, 1);
        assert_eq!(pushes(&stage), []);
        stage.acknowledge_all(BOB);
        stage.lose(BOB);
        send(&mut stage, ALICE, 2);
        assert_eq!(pushes(&stage), [(1, true)]);
        pass(&mut stage, 2_000);
        send(&mut stage, ALICE, 3);
        assert_eq!(pushes(&stage), [(1, true), (2, true)]);
        pass(&mut stage, 301_000);
        assert!(stage.state.sessions(&jid(BOB).bare()).is_empty());
        send(&mut stage, ALICE, 4);
        assert_eq!(
            pushes(&stage).last(),
            Some(&(3, true)),
            "also without a session"
        );
    }

    #[test]
    fn sm_43_what_was_not_acknowledged_wakes_a_client_that_is_lost() {
        let mut stage = stage();
        send(&mut stage, ALICE, 1);
        send(&mut stage, ALICE, 2);
        stage.lose(BOB);
        assert_eq!(pushes(&stage), [(2, false)]);
        pass(&mut stage, 2_000);
        send(&mut stage, ALICE, 3);
        assert_eq!(pushes(&stage), [(2, false), (3, true)]);
    }

    #[test]
    fn im_105_an_inactive_client_that_owes_an_answer_is_woken_until_it_gives_one() {
        let mut stage = stage();
        let epoch = stage.state.session(&jid(BOB)).expect("bound").epoch();
        send(&mut stage, ALICE, 1);
        let session = jid(BOB);
        stage.apply(Command::Overdue { session, epoch });
        assert_eq!(pushes(&stage), [(1, false)]);
        pass(&mut stage, 2_000);
        send(&mut stage, ALICE, 2);
        assert_eq!(pushes(&stage), [(1, false), (2, true)]);
        let upto = stage.state.session(&jid(BOB)).expect("bound").queue.next();
        let session = jid(BOB);
        let ack = Acknowledge {
            session,
            epoch,
            upto,
        };
        stage.apply(Command::Acknowledge(ack));
        pass(&mut stage, 2_000);
        send(&mut stage, ALICE, 3);
        assert_eq!(pushes(&stage).len(), 2);
    }

    #[test]
    fn im_105_at_most_one_push_a_second() {
        let mut stage = stage();
        stage.lose(BOB);
        for mid in 1..=5 {
            send(&mut stage, ALICE, mid);
        }
        assert_eq!(pushes(&stage), [(1, true)]);
        pass(&mut stage, 1_000);
        send(&mut stage, ALICE, 6);
        assert_eq!(pushes(&stage), [(1, true), (6, true)]);
    }

    #[test]
    fn im_106_one_s_own_messages_and_unimportant_ones_wake_nobody() {
        let mut stage = stage();
        stage.bind("bob@example.org/other", Some(0));
        stage.lose(BOB);
        send(&mut stage, "bob@example.org/other", 1);
        let mut typing = message(MessageType::Chat, ALICE, "bob@example.org", 2);
        typing.traits = Traits::default();
        stage.act(ALICE, Action::Send(Relay::Message(typing)));
        assert_eq!(pushes(&stage), []);
        send(&mut stage, ALICE, 3);
        assert_eq!(pushes(&stage).len(), 1, "though another one is connected");
    }

    #[test]
    fn im_105_what_went_only_to_another_session_wakes_nobody() {
        for (carbons, over, to, woken) in [
            (false, false, "bob@example.org", false),
            (false, false, "bob@example.org/desk", false),
            (true, false, "bob@example.org/desk", true),
            (false, false, BOB, true),
            (false, true, "bob@example.org", false),
            (true, true, "bob@example.org", true),
            (false, true, BOB, true),
        ] {
            let mut stage = stage();
            stage.bind("bob@example.org/desk", Some(5));
            stage.act(BOB, Action::Carbons(carbons));
            stage.acknowledge_all(BOB);
            stage.lose(BOB);
            if over {
                let end = Command::End {
                    session: jid(BOB),
                    epoch: None,
                    reason: EndReason::Expired,
                };
                stage.apply(end);
            }
            let sent = message(MessageType::Chat, ALICE, to, 1);
            stage.act(ALICE, Action::Send(Relay::Message(sent)));
            let told = format!("carbons {carbons}, over {over}, to {to}");
            assert_eq!(pushes(&stage).len(), usize::from(woken), "{told}");
        }
    }

    #[test]
    fn a_session_with_push_sleeps_long_until_the_first_push_and_then_as_any_other() {
        let mut stage = stage();
        stage.lose(BOB);
        pass(&mut stage, HOUR);
        assert_eq!(stage.state.sessions(&jid(BOB).bare()).len(), 1);
        send(&mut stage, ALICE, 1);
        pass(&mut stage, 299_000);
        assert_eq!(stage.state.sessions(&jid(BOB).bare()).len(), 1);
        pass(&mut stage, 2_000);
        assert!(stage.state.sessions(&jid(BOB).bare()).is_empty());
    }

    #[test]
    fn a_session_that_nobody_wrote_to_is_woken_before_it_expires() {
        let mut stage = stage();
        stage.settings.push_hibernation_time = HOUR;
        stage.lose(BOB);
        pass(&mut stage, HOUR - 301_000);
        assert_eq!(pushes(&stage), []);
        pass(&mut stage, 2_000);
        assert_eq!(pushes(&stage), [(0, false)]);
        assert_eq!(stage.state.sessions(&jid(BOB).bare()).len(), 1);
        pass(&mut stage, 301_000);
        assert!(stage.state.sessions(&jid(BOB).bare()).is_empty());
        assert_eq!(pushes(&stage).len(), 1);
    }

    #[test]
    fn without_a_registration_a_session_sleeps_no_longer_than_any_other() {
        let mut stage = stage();
        stage.lose(BOB);
        let word = Relay::NoPush {
            account: jid(BOB).bare(),
            resource: "b".into(),
        };
        stage.act(ALICE, Action::Send(word));
        send(&mut stage, ALICE, 1);
        assert_eq!(pushes(&stage), []);
        pass(&mut stage, 301_000);
        assert!(stage.state.sessions(&jid(BOB).bare()).is_empty());
    }

    #[test]
    fn t_54_clients_that_come_and_go_with_their_registrations_take_bounded_memory() {
        let mut stage = stage();
        for n in 0..CLIENTS + 10 {
            let session = format!("bob@example.org/{n}");
            stage.bind(&session, None);
            stage.act(&session, Action::PushEnabled(true));
            stage.lose(&session);
        }
        let user = stage.state.account(&jid(BOB).bare());
        assert_eq!(user.push.iter().count(), CLIENTS);
        assert!(user.push.can_wake("b"), "the one that is here stays");
        assert!(user.push.can_wake("73"), "and the newest");
    }

    #[test]
    fn who_was_here_again_is_counted_anew() {
        let mut stage = stage();
        stage.lose(BOB);
        send(&mut stage, ALICE, 1);
        stage.resume(BOB, 0);
        stage.acknowledge_all(BOB);
        stage.lose(BOB);
        send(&mut stage, ALICE, 2);
        assert_eq!(pushes(&stage), [(1, true), (1, true)]);
    }
}
