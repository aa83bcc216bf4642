//! What becomes of a queue when its session ends: the table of SM-63, kind by kind.

use proto::stanza::{IqType, PresenceType};

use super::super::clock::MAX_STEP;
use super::super::stage::{Stage, jid, message, packet, stanzas};
use super::*;
use crate::session::*;

const ALICE: &str = "alice@example.org/a";
const BOB: &str = "bob@example.org/b";
const FATES: [OnTimeout; 3] = [OnTimeout::Archive, OnTimeout::Bounce, OnTimeout::Silent];

fn pair() -> Stage {
    let mut stage = Stage::new();
    stage.bind(ALICE, None);
    stage.resumable(BOB, Some(0));
    stage
}

fn end(stage: &mut Stage, reason: EndReason) -> Vec<Output> {
    let end = Command::End {
        session: jid(BOB),
        epoch: None,
        reason,
    };
    stage.apply(end).1
}

/// A stanza of this kind from alice to bob's session.
fn stanza(kind: Kind, keep: bool) -> Relay {
    match kind {
        Kind::Message(kind) => {
            let mut sent = message(kind, ALICE, BOB, 7);
            if !keep {
                sent.traits = Traits::default();
            }
            Relay::Message(sent)
        }
        Kind::Iq(_) => Relay::Iq {
            packet: packet(kind, ALICE, Some(BOB)),
            permitted: true,
        },
        Kind::Presence(_) => Relay::Presence {
            packet: packet(kind, ALICE, Some(BOB)),
            to: vec![jid(BOB)],
        },
    }
}

/// For each of [`FATES`]: `k`, it is kept for the user, `b`, it comes back to alice, or `-`.
#[track_caller]
fn check(kind: Kind, keep: bool, expect: &str) {
    for reason in [
        EndReason::Closed,
        EndReason::Admin,
        EndReason::Limit,
        EndReason::Overflow,
        EndReason::Violation,
    ] {
        let fate = |fate| {
            let mut stage = pair();
            stage.settings.on_timeout = fate;
            stage.lose(BOB);
            stage.act(ALICE, Action::Send(stanza(kind, keep)));
            let told = end(&mut stage, reason);
            let kept = stage.undelivered("bob@example.org");
            assert!(told.len() + kept <= 1, "{told:?}");
            match (told.len(), kept) {
                (_, 1) => 'k',
                (1, _) => 'b',
                _ => '-',
            }
        };
        let fates: String = FATES.into_iter().map(fate).collect();
        assert_eq!(fates, expect, "{kind:?}, {reason:?}");
    }
}

#[test]
fn sm_63_each_kind_of_stanza_goes_its_own_way() {
    use MessageType::{Chat, Error, Groupchat, Headline, Normal};
    check(Kind::Message(Chat), true, "kb-");
    check(Kind::Message(Normal), true, "kb-");
    // What must not be stored is returned, if it said something.
    check(Kind::Message(Chat), false, "bb-");
    // A room learns that its occupant is gone (IM-7).
    check(Kind::Message(Groupchat), true, "bbb");
    check(Kind::Message(Headline), true, "---");
    // No error is answered by one (SM-65).
    check(Kind::Message(Error), true, "---");
    check(Kind::Presence(PresenceType::Available), true, "---");
    check(Kind::Presence(PresenceType::Subscribe), true, "---");
    check(Kind::Iq(IqType::Get), true, "bbb");
    check(Kind::Iq(IqType::Set), true, "bbb");
    check(Kind::Iq(IqType::Result), true, "---");
    check(Kind::Iq(IqType::Error), true, "---");
}

#[test]
fn sm_63_a_signal_that_must_not_be_stored_is_not_returned() {
    let mut stage = pair();
    stage.lose(BOB);
    let mut sent = message(MessageType::Chat, ALICE, BOB, 7);
    sent.traits = Traits::default();
    sent.packet.payload = bytes::Bytes::from_static(b"<composing xmlns='x'/>");
    stage.send([sent]);
    assert!(end(&mut stage, EndReason::Admin).is_empty());
}

#[test]
fn sm_63_what_another_session_has_acknowledged_is_neither_kept_nor_returned() {
    const OTHER: &str = "bob@example.org/c";
    for fate in FATES {
        for acknowledged in [true, false] {
            let mut stage = pair();
            stage.settings.on_timeout = fate;
            stage.resumable(OTHER, Some(0));
            stage.send([message(MessageType::Chat, ALICE, "bob@example.org", 7)]);
            if acknowledged {
                stage.acknowledge(OTHER, u64::MAX);
            }
            let told = end(&mut stage, EndReason::Admin);
            let errors = |told: &[Output]| {
                let told = stanzas(told).into_iter();
                told.filter(|(session, _)| session == ALICE).count()
            };
            assert_eq!(errors(&told), 0, "one session is left or has it");
            let last = Command::End {
                session: jid(OTHER),
                epoch: None,
                reason: EndReason::Admin,
            };
            let told = stage.apply(last).1;
            let lost = usize::from(!acknowledged);
            let kept = stage.undelivered("bob@example.org");
            let expect = match fate {
                OnTimeout::Archive => (0, lost),
                OnTimeout::Bounce => (lost, 0),
                OnTimeout::Silent => (0, 0),
            };
            assert_eq!((errors(&told), kept), expect, "{fate:?}");
        }
    }
}

#[test]
fn sm_63_messages_of_which_only_ids_are_left_are_read_back_to_be_returned() {
    let mut stage = pair();
    stage.settings.on_timeout = OnTimeout::Bounce;
    stage.settings.max_queue_stanzas = 3;
    stage.lose(BOB);
    let messages = (0..9).map(|mid| {
        let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
        sent.traits.archive_received = mid % 2 == 0;
        sent
    });
    stage.send(messages);
    stage.work();
    let mut told = end(&mut stage, EndReason::Expired);
    told.extend(stage.work());
    // Alice does not read, so that all but three are only counted.
    let load = stage
        .state
        .session(&jid(ALICE))
        .expect("bound")
        .queue
        .load()
        .0;
    assert_eq!((load, stanzas(&told).len()), (9, 3));
    assert_eq!(
        (stage.hidden(), stage.undelivered("bob@example.org")),
        (0, 0)
    );
}

#[test]
fn sm_63_of_many_messages_those_that_the_archive_has_are_read_back_to_be_returned() {
    for (count, at_once) in [(AT_ONCE - 1, AT_ONCE - 1), (3 * AT_ONCE, AT_ONCE)] {
        let mut stage = pair();
        stage.settings.on_timeout = OnTimeout::Bounce;
        stage.lose(BOB);
        let messages = (0..count as u128).map(|mid| {
            let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
            sent.traits.archive_received = mid % 3 != 0;
            sent
        });
        stage.send(messages);
        stage.work();
        let told = end(&mut stage, EndReason::Expired);
        assert_eq!(stanzas(&told).len(), at_once, "of {count}");
        let later = stage.work();
        assert_eq!(stanzas(&told).len() + stanzas(&later).len(), count);
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }
}

#[test]
fn sm_62_a_resource_that_is_bound_again_gets_what_its_predecessor_did_not() {
    for fate in FATES {
        let mut stage = pair();
        stage.settings.on_timeout = fate;
        stage.settings.max_queue_stanzas = 6;
        stage.lose(BOB);
        let sent = |mid: u128| {
            let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
            sent.traits.archive_received = !mid.is_multiple_of(3);
            sent
        };
        stage.send((0..10).map(sent));
        stage.work();
        stage.bind(BOB, None);
        // Before bob is available again more arrives, and waits behind it.
        stage.send((10..12).map(sent));
        let mut outputs = stage.available(BOB, 0);
        outputs.extend(stage.work());
        let mut got = Vec::new();
        loop {
            let new = outputs.iter().filter_map(|o| match &o.event {
                Event::Stanza { item, .. } if o.session == jid(BOB) => item.mid,
                _ => None,
            });
            let before = got.len();
            got.extend(new);
            if got.len() == before {
                break;
            }
            outputs = stage.acknowledge(BOB, u64::MAX);
            outputs.extend(stage.work());
        }
        let expect: Vec<_> = (0..12).map(|mid| ArchiveId::new(1, mid)).collect();
        assert_eq!(got, expect, "{fate:?}");
        let alice = stage.state.session(&jid(ALICE)).expect("bound");
        assert_eq!((alice.queue.load().0, stage.hidden()), (0, 0));
    }
}

#[test]
fn what_is_returned_in_parts_is_returned_once() {
    let mut stage = pair();
    stage.settings.on_timeout = OnTimeout::Bounce;
    stage.settings.max_queue_stanzas = 1;
    stage.in_parts = true;
    stage.lose(BOB);
    let chat = |mid| message(MessageType::Chat, ALICE, "bob@example.org", mid);
    stage.send((0..9).map(chat));
    stage.work();
    stage.apply(Command::End {
        session: jid(BOB),
        epoch: None,
        reason: EndReason::Expired,
    });
    stage.work();
    let alice = stage.state.session(&jid(ALICE)).expect("bound");
    assert_eq!(alice.queue.load().0, 9);
}

#[test]
fn sm_64_what_waits_for_an_account_that_is_removed_goes_back_to_its_senders() {
    let mut stage = pair();
    stage.settings.on_timeout = OnTimeout::Archive;
    stage.settings.max_queue_stanzas = 3;
    stage.lose(BOB);
    let chat = |mid| message(MessageType::Chat, ALICE, "bob@example.org", mid);
    stage.send((0..9).map(chat));
    stage.work();
    stage.apply(Command::End {
        session: jid(BOB),
        epoch: None,
        reason: EndReason::Removed,
    });
    stage.work();
    let alice = stage.state.session(&jid(ALICE)).expect("bound");
    assert_eq!((alice.queue.load().0, stage.hidden()), (9, 0));
}

#[test]
fn i_15_contacts_hear_of_the_end_once_and_not_while_the_session_sleeps() {
    let mut stage = pair();
    stage.available(ALICE, 0);
    stage.lose(BOB);
    let farewells = |stage: &Stage| {
        let pending = stage.state.pending(crate::id::EffectId(0), 100).into_iter();
        pending
            .filter(|p| matches!(*p.effect, Effect::Unavailable { .. }))
            .collect::<Vec<_>>()
    };
    assert!(farewells(&stage).is_empty(), "it sleeps");
    for _ in 0..61 {
        stage.now += 5_000;
        stage.apply(Command::Tick);
    }
    let pending = farewells(&stage);
    assert_eq!(pending.len(), 1);
    let done = Completed {
        id: pending[0].id,
        relays: vec![Relay::Presence {
            packet: packet(Kind::Presence(PresenceType::Unavailable), BOB, None),
            to: vec![jid("alice@example.org")],
        }],
        messages: Vec::new(),
    };
    // The leader died before it knew that it was done: the next one does it again.
    let (_, outputs) = stage.apply(Command::Done(vec![done.clone(), done.clone()]));
    assert_eq!(outputs.len(), 1);
    assert!(stage.apply(Command::Done(vec![done])).1.is_empty());
}

/// Sessions of bob's with these names end one after the other.
fn end_each(stage: &mut Stage, names: &[&str], reason: EndReason) {
    for name in names {
        let session = format!("bob@example.org/{name}");
        stage.resumable(&session, Some(0));
        let end = Command::End {
            session: jid(&session),
            epoch: None,
            reason,
        };
        stage.apply(end);
    }
}

fn remembered(stage: &mut Stage, names: &[&str]) -> Vec<bool> {
    let resume = |name: &&str| stage.resume(&format!("bob@example.org/{name}"), 0).0;
    let outcomes = names.iter().map(resume);
    outcomes
        .map(|outcome| matches!(outcome, Outcome::NotResumed { h: Some(_) }))
        .collect()
}

#[test]
fn i_12_only_sessions_whose_time_was_over_take_a_place_among_the_old() {
    let mut stage = Stage::new();
    stage.settings.max_old_sessions = 3;
    // Not even if nobody else wants it.
    end_each(&mut stage, &["closed at once"], EndReason::Closed);
    assert_eq!(remembered(&mut stage, &["closed at once"]), [false]);
    end_each(&mut stage, &["1", "2"], EndReason::Expired);
    end_each(&mut stage, &["sent away"], EndReason::Admin);
    assert_eq!(remembered(&mut stage, &["1", "2", "sent away"]), [true; 3]);
    end_each(&mut stage, &["closed"], EndReason::Closed);
    end_each(&mut stage, &["3"], EndReason::Limit);
    end_each(&mut stage, &["sent away too"], EndReason::Conflict);
    let names = ["1", "2", "3", "closed", "sent away", "sent away too"];
    let expect = [true, true, true, false, false, false];
    assert_eq!(remembered(&mut stage, &names), expect);
    end_each(&mut stage, &["4"], EndReason::Expired);
    assert_eq!(
        remembered(&mut stage, &["1", "2", "3", "4"]),
        [false, true, true, true]
    );
}

#[test]
fn an_account_is_to_be_forgotten_once_however_many_sessions_end() {
    let mut stage = Stage::new();
    for n in 0..50 {
        stage.now += 1000;
        end_each(&mut stage, &[&n.to_string()], EndReason::Expired);
    }
    assert_eq!(stage.state.forgets_mut().len(), 1);
    let day = stage.settings.old_session_ttl / MAX_STEP + 1;
    for _ in 0..day {
        stage.now += MAX_STEP;
        stage.apply(Command::Tick);
    }
    assert!(stage.state.forgets_mut().is_empty() && stage.state.users().is_empty());
}

/// What bob's sessions hear of alice's end, each for itself.
fn heard(outputs: &[Output]) -> Vec<String> {
    let gone = Kind::Presence(PresenceType::Unavailable);
    let heard = stanzas(outputs).into_iter().filter(|s| s.1 == gone);
    heard.map(|s| s.0).collect()
}

#[test]
fn i_15_a_subscriber_to_whom_presence_was_directed_hears_of_the_end_once() {
    let to = ["bob@example.org", BOB, "bob@example.org/silent"];
    let all = [BOB, "bob@example.org/other", "bob@example.org/silent"];
    for (subscribed, back, expect) in [
        (true, false, &all[..]),
        (false, false, &all[..]),
        (true, true, &[]),
        (false, true, &all[..]),
    ] {
        let mut stage = pair();
        stage.bind("bob@example.org/other", Some(0));
        stage.bind("bob@example.org/silent", None);
        stage.available(ALICE, 0);
        // It is remembered to whom presence was directed (IM-46), until they are told (IM-47).
        for to in to {
            let shown = packet(Kind::Presence(PresenceType::Available), ALICE, Some(to));
            stage.act(ALICE, Action::Directed(shown));
        }
        let end = Command::End {
            session: jid(ALICE),
            epoch: None,
            reason: EndReason::Closed,
        };
        assert_eq!(heard(&stage.apply(end).1), [""; 0]);
        let pending = stage.state.pending(crate::id::EffectId(0), 100);
        let effect = pending
            .iter()
            .find(|p| matches!(*p.effect, Effect::Unavailable { .. }));
        let mut outputs = Vec::new();
        if back {
            stage.bind(ALICE, None);
            let update = PresenceUpdate {
                packet: packet(Kind::Presence(PresenceType::Available), ALICE, None),
                priority: 0,
                subscribers: subscribed.then(|| jid(BOB).bare()).into_iter().collect(),
                probes: Vec::new(),
                requests: Vec::new(),
            };
            outputs = stage.act(ALICE, Action::Presence(update));
        }
        let told = Relay::Presence {
            packet: packet(Kind::Presence(PresenceType::Unavailable), ALICE, None),
            to: vec![jid("bob@example.org")],
        };
        let done = Completed {
            id: effect.expect("it was available").id,
            relays: subscribed.then_some(told).into_iter().collect(),
            messages: Vec::new(),
        };
        outputs.extend(stage.apply(Command::Done(vec![done])).1);
        let mut heard = heard(&outputs);
        heard.sort();
        assert_eq!(heard, expect, "subscribed {subscribed}, back {back}");
    }
}

#[test]
fn i_15_who_says_goodbye_says_it_once_to_each() {
    let mut stage = pair();
    stage.bind("bob@example.org/other", Some(0));
    stage.available(ALICE, 0);
    for to in ["bob@example.org", BOB, ALICE] {
        let shown = packet(Kind::Presence(PresenceType::Available), ALICE, Some(to));
        stage.act(ALICE, Action::Directed(shown));
    }
    let update = PresenceUpdate {
        packet: packet(Kind::Presence(PresenceType::Unavailable), ALICE, None),
        priority: 0,
        subscribers: vec![jid(BOB).bare()],
        probes: Vec::new(),
        requests: Vec::new(),
    };
    let mut heard = heard(&stage.act(ALICE, Action::Presence(update)));
    heard.sort();
    assert_eq!(heard, [ALICE, BOB, "bob@example.org/other"]);
}
