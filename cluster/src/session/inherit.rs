//! Who gets what an ended session of the account did not take: those that are there now, by the rules for a
//! message to the account (RFC 6121 §8.5.3.2.1 makes no other of one to a resource that is gone).
//!
//! It comes late, with its first time and under the same archive id, and no second row is written. Somebody
//! must be connected: else it waits for who comes next, which is also one that hibernates now. A session that
//! holds much already gets nothing, so that no end of one is the end of the next. That a hibernated session holds the
//! message too changes nothing: it may never return.

use std::sync::Arc;

use proto::stanza::{Kind, MessageType};
use proto::{BareJid, Jid};

use super::output::Item;
use super::queue::{Body, Later, Ticket};
use super::state::ShardState;
use super::step::Step;
use crate::id::ArchiveId;

impl ShardState {
    /// Returns whether somebody has it now.
    pub(super) fn pass_on(
        &mut self,
        account: &BareJid,
        item: &Item,
        mid: ArchiveId,
        step: &mut Step,
    ) -> bool {
        let (heirs, held) = self.heirs(account, item.packet.header.kind, mid);
        if heirs.is_empty() {
            return false;
        }
        if item.keep && !item.archived && !item.offline {
            self.write_hidden(account, item);
        }
        let shared = held || (heirs.len() > 1 && (item.keep || item.is_missed()));
        if shared {
            self.share(account, mid, heirs.len());
        }
        let late = Arc::new(Item {
            offline: true,
            shared,
            copy: None,
            ..item.clone()
        });
        for heir in heirs {
            self.enqueue(&heir, late.clone(), step);
            self.notice_queued(&heir, Some(mid), false, step);
        }
        true
    }

    /// The same for what stands for a message.
    pub(super) fn pass_on_ticket(
        &mut self,
        account: &BareJid,
        ticket: Ticket,
        step: &mut Step,
    ) -> bool {
        let mid = ticket.archive_id();
        let (mut heirs, held) = self.heirs(account, Kind::Message(MessageType::Chat), mid);
        if ticket.body() == Body::Waited {
            // One is enough, and goes on being the one for which it waited.
            heirs.truncate(1);
        }
        let body = match (ticket.body(), heirs.len()) {
            (_, 0) => return false,
            (Body::Waited, _) => Body::Waited,
            (_, 1) if !held => Body::Kept,
            (_, holders) => {
                self.share(account, mid, holders);
                Body::Shared
            }
        };
        let ticket = Ticket::new(mid, ticket.order(), ticket.size(), body);
        for heir in heirs {
            if let Some(session) = self.session_mut(&heir) {
                session.queue.defer(Later::Ticket(ticket));
            }
            self.refill(&heir, step);
        }
        true
    }

    /// Who gets the message, and whether others hold it already, all of whom sleep.
    fn heirs(&self, account: &BareJid, kind: Kind, mid: ArchiveId) -> (Vec<Jid>, bool) {
        let most = self.settings().max_queue_ids;
        let user = self.account(account);
        let mut heirs = user.heirs(account, kind, most);
        let held = user.shared.contains(mid);
        if held {
            let is_awake = |jid: &Jid| self.session(jid).is_some_and(|s| s.owner().is_some());
            heirs.retain(is_awake);
        }
        (heirs, held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, jid, message, stanzas};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const DESK: &str = "bob@example.org/desk";
    const PHONE: &str = "bob@example.org/phone";

    /// Alice, bob's phone with a priority of 5, asleep, and his desk with `desk`, if that is there.
    fn stage(desk: Option<i8>) -> Stage {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable(PHONE, Some(5));
        stage.acknowledge_all(PHONE);
        stage.resumable(DESK, desk);
        stage.lose(PHONE);
        stage
    }

    fn chat(mid: u128, to: &str) -> Message {
        message(MessageType::Chat, ALICE, to, mid)
    }

    fn end(stage: &mut Stage, session: &str) -> Vec<Output> {
        let end = Command::End {
            session: jid(session),
            epoch: None,
            reason: EndReason::Expired,
        };
        let mut outputs = stage.apply(end).1;
        outputs.extend(stage.work());
        outputs
    }

    /// What the desk's client is sent: ids, and whether they say that they are late.
    fn got(outputs: &[Output]) -> Vec<(Option<ArchiveId>, bool, bool)> {
        let got = outputs.iter().filter_map(|o| match &o.event {
            Event::Stanza { item, .. } if o.session == jid(DESK) => {
                let said = matches!(item.packet.header.kind, Kind::Message(_));
                said.then_some((item.mid, item.offline, item.archived))
            }
            _ => None,
        });
        got.collect()
    }

    fn mid(n: u128) -> Option<ArchiveId> {
        Some(ArchiveId::new(1, n))
    }

    #[test]
    fn sm_63_what_a_session_did_not_take_goes_to_who_is_connected() {
        // In full, and behind a queue that holds two.
        for stanzas in [2000, 2] {
            let mut stage = stage(Some(0));
            stage.settings.max_queue_stanzas = stanzas;
            let mut hidden = chat(3, PHONE);
            hidden.traits.archive_received = false;
            let sent = [chat(1, PHONE), chat(2, PHONE), hidden, chat(4, PHONE)];
            stage.send(sent);
            stage.work();
            let rows = stage.archive.len() - stage.hidden();
            let mut outputs = end(&mut stage, PHONE);
            let mut all = got(&outputs);
            while all.len() < 4 {
                outputs = stage.acknowledge(DESK, u64::MAX);
                outputs.extend(stage.work());
                let more = got(&outputs);
                assert!(!more.is_empty(), "{all:?}");
                all.extend(more);
            }
            let expect = [(1, true), (2, true), (3, false), (4, true)];
            assert_eq!(all, expect.map(|(n, shown)| (mid(n), true, shown)));
            stage.acknowledge_all(DESK);
            stage.work();
            assert_eq!((stage.archive.len(), stage.hidden()), (rows, 0));
            assert_eq!(got(&end(&mut stage, DESK)), []);
            assert_eq!(stage.undelivered("bob@example.org"), 0);
        }
    }

    #[test]
    fn sm_63_without_anybody_connected_it_waits_also_for_one_that_sleeps() {
        for desk in [None, Some(-1), Some(0)] {
            let mut stage = stage(desk);
            stage.settings.max_hibernated_sessions = 2;
            stage.acknowledge_all(DESK);
            if desk == Some(0) {
                stage.lose(DESK);
            }
            stage.send([chat(1, PHONE)]);
            end(&mut stage, PHONE);
            assert_eq!(stage.undelivered("bob@example.org"), 1, "{desk:?}");
            if desk == Some(0) {
                let mut outputs = stage.resume(DESK, 0).1;
                outputs.extend(stage.work());
                assert!(got(&outputs).contains(&(mid(1), true, true)));
                assert_eq!(stage.undelivered("bob@example.org"), 0);
            }
        }
    }

    #[test]
    fn sm_63_what_nothing_keeps_is_passed_on_before_it_is_returned() {
        for desk in [Some(0), None] {
            let mut stage = stage(desk);
            let mut sent = chat(1, PHONE);
            (sent.traits.archive_received, sent.traits.offline) = (false, false);
            stage.send([sent]);
            let outputs = end(&mut stage, PHONE);
            let there = usize::from(desk.is_some());
            assert_eq!(got(&outputs).len(), there);
            let error = Kind::Message(MessageType::Error);
            let told = stanzas(&outputs).into_iter().filter(|s| s.1 == error);
            assert_eq!(told.count(), 1 - there);
        }
    }

    #[test]
    fn sm_63_two_sessions_without_stay_one_word_to_the_sender() {
        let mut stage = stage(Some(5));
        let mut sent = chat(1, "bob@example.org");
        (sent.traits.archive_received, sent.traits.offline) = (false, false);
        stage.lose(DESK);
        stage.settings.on_timeout = OnTimeout::Bounce;
        stage.send([sent]);
        let error = Kind::Message(MessageType::Error);
        let mut told = stanzas(&end(&mut stage, PHONE));
        told.extend(stanzas(&end(&mut stage, DESK)));
        assert_eq!(told.into_iter().filter(|s| s.1 == error).count(), 1);
    }

    #[test]
    fn sm_63_who_acknowledged_a_copy_has_the_message() {
        for (archived, taken) in [(true, true), (false, true), (true, false), (false, false)] {
            let mut stage = stage(None);
            stage.act(DESK, Action::Carbons(true));
            stage.acknowledge_all(DESK);
            let mut sent = chat(1, PHONE);
            sent.traits.archive_received = archived;
            stage.send([sent]);
            if taken {
                stage.acknowledge_all(DESK);
            }
            end(&mut stage, PHONE);
            // The desk has not said that it is available: it had its copy and gets no other.
            end(&mut stage, DESK);
            let waits = usize::from(!taken);
            assert_eq!(stage.undelivered("bob@example.org"), waits, "{archived}");
            assert_eq!(stage.hidden(), usize::from(!taken && !archived));
        }
    }

    #[test]
    fn sm_63_a_copy_behind_a_full_queue_is_as_good() {
        let mut stage = stage(Some(0));
        stage.settings.max_queue_stanzas = 4;
        stage.act(DESK, Action::Carbons(true));
        stage.acknowledge_all(DESK);
        stage.send((1..=12).map(|n| {
            let mut sent = chat(n, PHONE);
            sent.traits.archive_received = !n.is_multiple_of(3);
            sent
        }));
        stage.work();
        for _ in 0..8 {
            stage.acknowledge(DESK, u64::MAX);
            stage.work();
        }
        assert_eq!(got(&end(&mut stage, PHONE)), []);
        assert_eq!(got(&end(&mut stage, DESK)), []);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
        assert_eq!(stage.hidden(), 0);
    }

    const TABLET: &str = "bob@example.org/tablet";

    /// Bob's desk and his tablet, which sleeps, hold messages 1 to 4 that alice has sent to both; in full, or behind
    /// queues that hold so many.
    fn with_sleeper(stanzas: u32) -> Stage {
        let mut stage = Stage::new();
        stage.settings.max_queue_stanzas = stanzas;
        stage.settings.max_hibernated_sessions = 2;
        stage.bind(ALICE, None);
        for session in [DESK, TABLET] {
            stage.resumable(session, Some(0));
            stage.act(session, Action::Carbons(true));
            stage.acknowledge_all(session);
        }
        stage.lose(TABLET);
        stage.send((1..=4).map(|n| chat(n, "bob@example.org")));
        stage.work();
        stage
    }

    /// All that the session is sent until nothing is left for it.
    fn drain(stage: &mut Stage, session: &str, mut outputs: Vec<Output>) -> Vec<Option<ArchiveId>> {
        let queued = |stage: &Stage| {
            let session = stage.state.session(&jid(session));
            session.is_some_and(|s| s.queue.load().0 > 0)
        };
        outputs.extend(stage.work());
        while queued(stage) {
            outputs.extend(stage.acknowledge(session, u64::MAX));
            outputs.extend(stage.work());
        }
        let got = outputs.iter().filter_map(|o| match &o.event {
            Event::Stanza { item, .. } if o.session == jid(session) => {
                matches!(item.packet.header.kind, Kind::Message(_)).then_some(item.mid)
            }
            _ => None,
        });
        got.collect()
    }

    #[test]
    fn sm_62_who_is_bound_again_gets_what_only_a_sleeper_holds_beside_it() {
        for stanzas in [2000, 2] {
            for sleeper_ends in [true, false] {
                let mut stage = with_sleeper(stanzas);
                stage.bind(DESK, None);
                assert_eq!(stage.undelivered("bob@example.org"), 4);
                if sleeper_ends {
                    end(&mut stage, TABLET);
                    assert_eq!(stage.undelivered("bob@example.org"), 4);
                }
                let outputs = stage.available(DESK, 0);
                let all = [1, 2, 3, 4].map(mid);
                assert_eq!(drain(&mut stage, DESK, outputs), all);
                if !sleeper_ends {
                    // It was never sent them, and has them in its queue.
                    let outputs = stage.resume(TABLET, 0).1;
                    assert_eq!(drain(&mut stage, TABLET, outputs), all);
                }
                end(&mut stage, DESK);
                assert_eq!(stage.undelivered("bob@example.org"), 0);
            }
        }
    }

    #[test]
    fn sm_62_who_is_bound_again_gets_what_another_that_is_connected_holds_as_well() {
        for stanzas in [2000, 2] {
            for taken in [false, true] {
                let mut stage = with_sleeper(stanzas);
                stage.resume(TABLET, 0);
                stage.bind(DESK, None);
                // The tablet says once more that it is there, and takes nothing of what it holds already.
                stage.available(TABLET, 0);
                assert_eq!(stage.undelivered("bob@example.org"), 4);
                let all = [1, 2, 3, 4].map(mid);
                if taken {
                    drain(&mut stage, TABLET, Vec::new());
                    assert_eq!(stage.undelivered("bob@example.org"), 0);
                }
                let outputs = stage.available(DESK, 0);
                let got = drain(&mut stage, DESK, outputs);
                assert_eq!(got, if taken { vec![] } else { all.to_vec() });
                end(&mut stage, TABLET);
                end(&mut stage, DESK);
                assert_eq!(stage.undelivered("bob@example.org"), 0);
            }
        }
    }

    #[test]
    fn sm_63_what_only_a_sleeper_holds_beside_it_goes_to_who_is_connected() {
        for stanzas in [2000, 2] {
            let mut stage = with_sleeper(stanzas);
            stage.resumable(PHONE, Some(0));
            stage.acknowledge_all(PHONE);
            let outputs = end(&mut stage, DESK);
            assert_eq!(drain(&mut stage, PHONE, outputs), [1, 2, 3, 4].map(mid));
            end(&mut stage, TABLET);
            assert_eq!(stage.undelivered("bob@example.org"), 0);
        }
    }

    #[test]
    fn sm_64_what_waits_and_is_held_goes_back_when_the_account_is_removed() {
        let mut stage = with_sleeper(2000);
        stage.bind(DESK, None);
        assert_eq!(stage.undelivered("bob@example.org"), 4);
        let account = jid(DESK).bare();
        let mut outputs = stage.apply(Command::Forget { account }).1;
        outputs.extend(stage.work());
        let error = Kind::Message(MessageType::Error);
        let told = stanzas(&outputs).into_iter().filter(|s| s.1 == error);
        assert_eq!(told.count(), 4);
    }

    #[test]
    fn sm_63_a_sleeper_that_returns_takes_what_waits_once() {
        for stanzas in [2000, 2] {
            let mut stage = with_sleeper(stanzas);
            end(&mut stage, DESK);
            assert_eq!(stage.undelivered("bob@example.org"), 4);
            let outputs = stage.resume(TABLET, 0).1;
            assert_eq!(drain(&mut stage, TABLET, outputs), [1, 2, 3, 4].map(mid));
            assert_eq!(stage.undelivered("bob@example.org"), 0);
            end(&mut stage, TABLET);
            assert_eq!(stage.undelivered("bob@example.org"), 0);
        }
    }

    #[test]
    fn sm_63_what_a_sleeper_had_acknowledged_when_it_returns_waits_for_nobody() {
        let mut stage = with_sleeper(2000);
        stage.bind(DESK, None);
        let next = stage.resume(TABLET, 0).1.len();
        assert!(next > 0);
        // It is away again before it is available, so that it takes nothing of what waits.
        stage.acknowledge_all(TABLET);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
        let outputs = stage.available(DESK, 0);
        assert_eq!(drain(&mut stage, DESK, outputs), []);
    }

    #[test]
    fn sm_63_a_sleeper_is_reason_enough_to_tell_a_sender_nothing() {
        let mut stage = with_sleeper(2000);
        let mut sent = chat(9, "bob@example.org");
        (sent.traits.archive_received, sent.traits.offline) = (false, false);
        stage.send([sent]);
        let error = Kind::Message(MessageType::Error);
        let told = |outputs: &[Output]| {
            stanzas(outputs)
                .into_iter()
                .filter(|s| s.1 == error)
                .count()
        };
        assert_eq!(told(&end(&mut stage, DESK)), 0);
        assert_eq!(told(&end(&mut stage, TABLET)), 1);
    }

    #[test]
    fn sm_62_who_is_bound_again_comes_before_who_is_connected() {
        let mut stage = stage(Some(0));
        stage.send([chat(1, PHONE)]);
        stage.bind(PHONE, None);
        assert_eq!(stage.undelivered("bob@example.org"), 1);
        stage.available(PHONE, 5);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }
}
