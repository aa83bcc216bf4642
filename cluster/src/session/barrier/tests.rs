//! Each kind of stanza, in each direction.

use super::super::stage::{Stage, jid, message, packet, stanzas};
use crate::id::EffectId;
use crate::session::*;
use proto::stanza::{IqType, Kind, MessageType, PresenceType};

use IqType::{Get, Result as Answer, Set};
use MessageType::{Chat, Error, Groupchat, Headline, Normal};

const ALICE: &str = "alice@example.org/a";
const BOB: &str = "bob@example.org/b";

/// Alice has blocked Bob; both are there.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.bind(ALICE, Some(0));
    stage.bind(BOB, Some(0));
    stage.block(ALICE, &["bob@example.org"], &[]);
    stage
}

fn say(kind: MessageType, from: &str, to: &str) -> Action {
    Action::Send(Relay::Message(message(kind, from, to, 7)))
}

fn iq(kind: IqType, from: &str, to: &str) -> Action {
    Action::Send(Relay::Iq {
        packet: packet(Kind::Iq(kind), from, Some(to)),
        permitted: true,
    })
}

/// The one stanza that somebody gets; its payload is what is in it.
fn heard(outputs: &[Output]) -> Option<(String, Kind, String)> {
    assert!(outputs.len() <= 1, "{outputs:?}");
    let output = outputs.first()?;
    let Event::Stanza { item, .. } = &output.event else {
        panic!("{output:?}")
    };
    let payload = String::from_utf8_lossy(&item.packet.payload).into_owned();
    Some((output.session.to_string(), item.packet.header.kind, payload))
}

#[test]
fn im_69_who_is_blocked_hears_that_nobody_is_there_or_nothing() {
    let mut stage = stage();
    let to = [ALICE, "alice@example.org", "alice@example.org/gone"];
    for kind in [Chat, Normal, Groupchat, Headline, Error] {
        for to in to {
            let heard = heard(&stage.act(BOB, say(kind, BOB, to)));
            let told = matches!(kind, Chat | Normal);
            assert_eq!(heard.is_some(), told, "{kind:?} to {to}");
            if let Some((session, kind, payload)) = heard {
                assert_eq!((&*session, kind), (BOB, Kind::Message(Error)));
                assert!(payload.contains("<service-unavailable"), "{payload}");
            }
        }
    }
    for kind in [Get, Set, Answer, IqType::Error] {
        let heard = heard(&stage.act(BOB, iq(kind, BOB, ALICE)));
        assert_eq!(heard.is_some(), matches!(kind, Get | Set), "{kind:?}");
        if let Some((session, kind, payload)) = heard {
            assert_eq!((&*session, kind), (BOB, Kind::Iq(IqType::Error)));
            assert!(payload.contains("<service-unavailable"), "{payload}");
        }
    }
    for kind in [PresenceType::Available, PresenceType::Unavailable] {
        let presence = packet(Kind::Presence(kind), BOB, Some("alice@example.org"));
        assert_eq!(stanzas(&stage.act(BOB, Action::Directed(presence))), []);
    }
    let before = stage.state.pending_count();
    let asks = packet(
        Kind::Presence(PresenceType::Subscribe),
        BOB,
        Some("alice@example.org"),
    );
    stage.act(BOB, Action::Send(Relay::Subscription(asks)));
    assert_eq!(stage.state.pending_count(), before);
    let probes = Relay::Probe {
        from: jid(BOB),
        to: vec![jid(ALICE).bare()],
    };
    assert_eq!(stanzas(&stage.act(BOB, Action::Send(probes))), []);
}

#[test]
fn im_70_what_is_for_a_blocked_contact_comes_back_with_the_reason_or_is_dropped() {
    let mut stage = stage();
    let told = |heard: Option<(String, Kind, String)>, expect: Option<Kind>, what: &str| {
        let kind = heard.as_ref().map(|(_, kind, _)| *kind);
        assert_eq!(kind, expect, "{what}");
        if let Some((session, _, payload)) = heard {
            assert_eq!(session, ALICE, "{what}");
            assert!(
                payload.contains("<error type='cancel' code='406'><not-acceptable"),
                "{payload}"
            );
            assert!(
                payload.contains("<blocked xmlns='urn:xmpp:blocking:errors'/>"),
                "{payload}"
            );
        }
    };
    for kind in [Chat, Normal, Groupchat, Headline, Error] {
        for to in [BOB, "bob@example.org"] {
            let expect = (kind != Error).then_some(Kind::Message(Error));
            told(
                heard(&stage.act(ALICE, say(kind, ALICE, to))),
                expect,
                &format!("{kind:?}"),
            );
        }
    }
    for kind in [Get, Set, Answer, IqType::Error] {
        let expect = matches!(kind, Get | Set).then_some(Kind::Iq(IqType::Error));
        told(
            heard(&stage.act(ALICE, iq(kind, ALICE, BOB))),
            expect,
            &format!("{kind:?}"),
        );
    }
    let directed = |kind| Action::Directed(packet(Kind::Presence(kind), ALICE, Some(BOB)));
    let refused = heard(&stage.act(ALICE, directed(PresenceType::Available)));
    told(
        refused,
        Some(Kind::Presence(PresenceType::Error)),
        "available",
    );
    let passed = stanzas(&stage.act(ALICE, directed(PresenceType::Unavailable)));
    assert_eq!(
        passed,
        [(BOB.into(), Kind::Presence(PresenceType::Unavailable))]
    );
}

#[test]
fn im_71_a_blocked_message_leaves_no_trace_whether_somebody_is_there_or_not() {
    for present in [true, false] {
        let mut stage = stage();
        stage.resumable("alice@example.org/asleep", Some(0));
        stage.act("alice@example.org/asleep", Action::Carbons(true));
        stage.act("alice@example.org/asleep", Action::PushEnabled(true));
        stage.lose("alice@example.org/asleep");
        if !present {
            for session in [ALICE, "alice@example.org/asleep"] {
                let (session, reason) = (jid(session), EndReason::Admin);
                stage.apply(Command::End {
                    session,
                    epoch: None,
                    reason,
                });
            }
        }
        stage.work();
        let mut sent = message(Chat, BOB, "alice@example.org", 7);
        sent.traits.archive_sent = false;
        stage.send([sent]);
        assert_eq!(
            stage.state.pending_count(),
            0,
            "nothing is written, nobody is woken"
        );
        assert_eq!(stage.undelivered("alice@example.org"), 0);
        let queued: usize = stage
            .state
            .sessions(&jid(ALICE).bare())
            .iter()
            .map(|s| s.queue)
            .sum();
        let mut other = stage;
        let mut sent = message(Chat, "carol@example.org/c", "alice@example.org", 8);
        sent.traits.archive_sent = false;
        other.bind("carol@example.org/c", None);
        other.send([sent]);
        assert!(other.state.pending_count() > 0, "anybody else's is kept");
        let now: usize = other
            .state
            .sessions(&jid(ALICE).bare())
            .iter()
            .map(|s| s.queue)
            .sum();
        assert_eq!(now > queued, present);
    }
}

#[test]
fn im_70_what_was_asked_before_the_block_is_answered_once() {
    let mut stage = Stage::new();
    stage.bind(ALICE, Some(0));
    stage.bind(BOB, Some(0));
    stage.act(BOB, iq(Get, BOB, ALICE));
    stage.block(ALICE, &["bob@example.org"], &[]);
    let answered = stanzas(&stage.act(ALICE, iq(Answer, ALICE, BOB)));
    assert_eq!(answered, [(BOB.into(), Kind::Iq(IqType::Error))]);
    assert_eq!(stanzas(&stage.act(ALICE, iq(Answer, ALICE, BOB))), []);
    let end = Command::End {
        session: jid(ALICE),
        epoch: None,
        reason: EndReason::Admin,
    };
    let ended = stanzas(&stage.apply(end).1);
    assert!(ended.iter().all(|(to, _)| to != BOB), "{ended:?}");
}

#[test]
fn im_48_a_broadcast_and_an_end_leave_out_whoever_is_blocked() {
    let mut stage = stage();
    let says = |kind| {
        Action::Presence(PresenceUpdate {
            packet: packet(Kind::Presence(kind), ALICE, None),
            priority: 0,
            subscribers: vec![jid(BOB).bare()],
            probes: vec![jid(BOB).bare()],
            requests: vec![packet(Kind::Presence(PresenceType::Subscribe), BOB, None)],
        })
    };
    for kind in [PresenceType::Unavailable, PresenceType::Available] {
        let seen = stanzas(&stage.act(ALICE, says(kind)));
        let own = (ALICE.to_owned(), Kind::Presence(kind));
        assert_eq!(seen, [own]);
    }
    stage.apply(Command::End {
        session: jid(ALICE),
        epoch: None,
        reason: EndReason::Admin,
    });
    let mut pending = stage.state.pending(EffectId(0), 9).into_iter();
    let gone = pending.find(|p| matches!(&*p.effect, Effect::Unavailable { .. }));
    let gone = gone.expect("an end");
    let Effect::Unavailable { packet, .. } = &*gone.effect else {
        panic!("{gone:?}")
    };
    let done = Completed {
        id: gone.id,
        relays: vec![Relay::Presence {
            packet: packet.clone(),
            to: vec![jid("bob@example.org")],
        }],
        messages: Vec::new(),
    };
    assert_eq!(stanzas(&stage.apply(Command::Done(vec![done])).1), []);
}
