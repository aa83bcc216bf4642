//! Queues over their bounds: nothing is lost, doubled or out of order, and memory stays small.

use proto::stanza::IqType;

use super::super::stage::{Stage, jid, message, packet, stanzas};
use proto::stanza::PresenceType;

use super::*;
use crate::session::*;

const ALICE: &str = "alice@example.org/a";
const BOB: &str = "bob@example.org/b";

/// Alice, and bob with stream management; his own presence was number 1.
fn pair(stanzas: u32) -> Stage {
    let mut stage = Stage::new();
    stage.settings.max_queue_stanzas = stanzas;
    stage.bind(ALICE, None);
    stage.resumable(BOB, Some(0));
    stage.acknowledge(BOB, 2);
    stage
}

/// Messages to bob; every third is not for the archive.
fn chat(mids: std::ops::Range<u128>) -> impl Iterator<Item = Message> {
    mids.map(|mid| {
        let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
        sent.traits.archive_received = !mid.is_multiple_of(3);
        sent.traits.carbon = true;
        sent
    })
}

/// What bob's connection got: number and id of each message.
fn read(outputs: &[Output]) -> Vec<(u64, ArchiveId)> {
    let read = outputs.iter().filter(|o| o.session == jid(BOB));
    let read = read.filter_map(|o| match &o.event {
        Event::Stanza { seq, item } => Some((*seq, item.mid?)),
        _ => None,
    });
    read.collect()
}

/// Bob reads and acknowledges until nothing more comes, `pace` at a time.
fn drain(stage: &mut Stage, mut got: Vec<(u64, ArchiveId)>, pace: usize) -> Vec<(u64, ArchiveId)> {
    let mut acknowledged = 0;
    while acknowledged < got.len() {
        acknowledged = got.len().min(acknowledged + pace);
        let upto = got[acknowledged - 1].0 + 1;
        let mut outputs = stage.acknowledge(BOB, upto);
        outputs.extend(stage.work());
        got.extend(read(&outputs));
    }
    got
}

#[track_caller]
fn check_all(got: &[(u64, ArchiveId)], first: u64, mids: std::ops::Range<u128>) {
    let expect: Vec<_> = (first..)
        .zip(mids.map(|mid| ArchiveId::new(1, mid)))
        .collect();
    assert_eq!(got.len(), expect.len());
    assert_eq!(got, expect);
}

#[test]
fn sm_34_a_slow_reader_gets_a_burst_of_5000_once_and_in_order() {
    let mut stage = pair(Settings::default().max_queue_stanzas);
    let mut got = Vec::new();
    for hundred in 0..50 {
        let outputs = stage.send(chat(hundred * 100..(hundred + 1) * 100));
        got.extend(read(&outputs));
    }
    assert_eq!(got.len(), 2000, "the rest waits without a number");
    let got = drain(&mut stage, got, 700);
    check_all(&got, 2, 0..5000);
    assert_eq!(
        (stage.hidden(), stage.undelivered("bob@example.org")),
        (0, 0)
    );
}

#[test]
fn sm_34_a_hibernated_session_over_its_bound_resumes_with_everything() {
    let mut stage = pair(10);
    stage.lose(BOB);
    stage.send(chat(0..30));
    stage.work();
    assert_eq!(stage.hidden(), 6, "those that the archive does not show");
    stage.send(chat(30..50));
    let (outcome, outputs) = stage.resume(BOB, 0);
    assert!(matches!(outcome, Outcome::Resumed { .. }));
    let got = read(&outputs);
    assert_eq!(got.len(), 10);
    let got = drain(&mut stage, got, 3);
    check_all(&got, 2, 0..50);
    assert_eq!(stage.hidden(), 0);
}

#[test]
fn what_is_read_back_in_parts_comes_once_and_in_order() {
    let mut stage = pair(10);
    stage.in_parts = true;
    stage.lose(BOB);
    stage.send(chat(0..30));
    stage.work();
    // One is gone from the archive, and of another a carbon stands behind its original.
    let gone = (jid(BOB).bare(), ArchiveId::new(1, 20));
    assert!(stage.archive.remove(&gone).is_some());
    let outputs = stage.resume(BOB, 0).1;
    let got = drain(&mut stage, read(&outputs), 4);
    let expect = (0..30)
        .filter(|mid| *mid != 20)
        .map(|mid| ArchiveId::new(1, mid));
    let expect: Vec<_> = (2..).zip(expect).collect();
    assert_eq!(got, expect);
    assert_eq!(stage.hidden(), 0);
}

#[test]
fn sm_34_bytes_are_bounded_too() {
    let mut stage = pair(0);
    stage.settings.max_queue_bytes = 1000;
    stage.lose(BOB);
    stage.send(chat(0..100));
    let session = stage.state.session(&jid(BOB)).expect("hibernated");
    assert!(session.queue.load().1 < 1300, "{}", session.queue.load().1);
    let outputs = stage.resume(BOB, 0).1;
    let got = drain(&mut stage, read(&outputs), 1);
    check_all(&got, 2, 0..100);
}

#[test]
fn sm_53_numbers_once_written_stay_through_overflow_and_loss() {
    let mut stage = pair(10);
    let outputs = stage.send(chat(0..40));
    let mut before = read(&outputs);
    before.extend(read(&stage.acknowledge(BOB, 8)));
    // The connection breaks while bodies are being read.
    stage.lose(BOB);
    stage.work();
    let (_, outputs) = stage.resume(BOB, 6);
    let again = read(&outputs);
    assert_eq!(again[..4], before[6..10], "sent again under their numbers");
    let got = drain(&mut stage, again, 4);
    check_all(&got, 8, 6..40);
}

#[test]
fn sm_40_of_presence_nobody_has_seen_the_newest_is_enough() {
    let mut stage = pair(3);
    stage.lose(BOB);
    let presence = |from: &str, kind| Relay::Presence {
        packet: packet(Kind::Presence(kind), from, Some("bob@example.org")),
        to: vec![jid("bob@example.org")],
    };
    let (other, here, gone) = (
        "alice@example.org/b",
        PresenceType::Available,
        PresenceType::Unavailable,
    );
    for round in 0..20 {
        stage.act(ALICE, Action::Send(presence(ALICE, here)));
        stage.act(
            ALICE,
            Action::Send(presence(other, if round == 19 { gone } else { here })),
        );
        stage.act(ALICE, Action::Send(presence(ALICE, gone)));
    }
    stage.send(chat(1..2));
    let session = stage.state.session(&jid(BOB)).expect("hibernated");
    assert_eq!(
        (
            session.queue.stanzas().len(),
            session.queue.deferred().later.len()
        ),
        (3, 3)
    );
    let outputs = stage.resume(BOB, 0).1;
    assert_eq!(stanzas(&outputs).len(), 3);
    let outputs = stage.acknowledge(BOB, 5);
    let kinds: Vec<Kind> = stanzas(&outputs)
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds, [Kind::Presence(gone), Kind::Presence(gone)]);
    stage.acknowledge(BOB, 6);
    let kinds = stanzas(&stage.work());
    assert_eq!(kinds[0].1, Kind::Message(MessageType::Chat));
}

#[test]
fn sm_34_a_question_to_a_full_queue_is_answered_at_once() {
    let mut stage = pair(3);
    stage.lose(BOB);
    stage.send(chat(1..5));
    let question = Relay::Iq {
        packet: packet(Kind::Iq(IqType::Get), ALICE, Some(BOB)),
        permitted: true,
    };
    let outputs = stage.act(ALICE, Action::Send(question));
    assert_eq!(stanzas(&outputs), [(ALICE.into(), Kind::Iq(IqType::Error))]);
    // And not again when the session ends.
    let end = Command::End {
        session: jid(BOB),
        epoch: None,
        reason: EndReason::Admin,
    };
    assert_eq!(stanzas(&stage.apply(end).1), []);
}

#[test]
fn sm_34_carbons_are_made_again_from_the_archive() {
    const OTHER: &str = "bob@example.org/other";
    let mut stage = pair(4);
    stage.resumable(OTHER, Some(-1));
    stage.act(OTHER, Action::Carbons(true));
    let base = stage
        .state
        .session(&jid(OTHER))
        .expect("bound")
        .queue
        .next();
    stage.acknowledge(OTHER, base);
    stage.settings.max_queue_bytes = 3000;
    let carbons = |outputs: Vec<Output>| {
        let ours = outputs.into_iter().filter(|o| o.session == jid(OTHER));
        let items = ours.filter_map(|o| match o.event {
            Event::Stanza { item, .. } => Some(item.stanza(&jid(OTHER)).payload.clone()),
            _ => None,
        });
        items.collect::<Vec<_>>()
    };
    let sent = chat(1..9).map(|mut m| {
        m.traits.archive_received = true;
        m
    });
    let mut got = carbons(stage.send(sent));
    assert_eq!(got.len(), 4);
    got.extend(carbons(stage.acknowledge(OTHER, base + 4)));
    got.extend(carbons(stage.work()));
    assert_eq!(got.len(), 8);
    let id = |n: usize| ArchiveId::new(1, n as u128).to_string();
    for (n, carbon) in (1..).zip(&got) {
        let text = String::from_utf8_lossy(carbon);
        assert!(
            text.starts_with("<received") && text.contains(&id(n)),
            "{text}"
        );
    }
}

#[test]
fn sm_62_more_than_can_be_kept_ends_the_session_and_loses_nothing() {
    let mut stage = pair(3);
    stage.settings.max_queue_ids = 20;
    stage.lose(BOB);
    stage.send(chat(0..30));
    stage.work();
    assert_eq!(stage.state.sessions(&jid(BOB).bare()).len(), 0);
    assert_eq!(stage.resume(BOB, 0).0, Outcome::NotResumed { h: Some(0) });
    assert_eq!(stage.undelivered("bob@example.org"), 30);
    let epoch = stage.bind(BOB, None);
    assert!(epoch > crate::id::Epoch::default());
    let mut outputs = Vec::new();
    stage.settings.max_queue_ids = 50;
    outputs.extend(stage.available(BOB, 0));
    outputs.extend(stage.work());
    let got = drain(&mut stage, read(&outputs), 2);
    let mids: Vec<_> = got.iter().map(|(_, mid)| *mid).collect();
    assert_eq!(
        mids,
        (0..30)
            .map(|mid| ArchiveId::new(1, mid))
            .collect::<Vec<_>>()
    );
    assert_eq!(stage.hidden(), 0);
}

#[test]
fn sm_34_a_message_that_must_not_be_stored_is_refused_when_there_is_no_room() {
    let mut stage = pair(2);
    stage.settings.max_queue_bytes = 1000;
    stage.lose(BOB);
    let fleeting = (0..20).map(|mid| {
        let mut sent = message(MessageType::Chat, ALICE, "bob@example.org", mid);
        sent.traits = Traits::default();
        sent
    });
    stage.send(fleeting);
    let load = |session| {
        stage
            .state
            .session(&jid(session))
            .expect("bound")
            .queue
            .load()
            .0
    };
    let (bounced, kept) = (load(ALICE), load(BOB));
    assert_eq!(bounced + kept, 20);
    assert!(bounced > 5 && kept > 5, "{bounced} came back");
    assert_eq!(stage.archive.len(), 0);
}

#[test]
fn t_41_what_nobody_asked_for_ends_no_session() {
    let mut stage = pair(2);
    stage.settings.max_queue_bytes = 1000;
    stage.lose(BOB);
    for mid in 0..100 {
        let mut error = message(MessageType::Error, ALICE, BOB, mid);
        error.traits = Traits::default();
        stage.act(ALICE, Action::Send(Relay::Message(error)));
        let answer = Relay::Iq {
            packet: packet(Kind::Iq(IqType::Result), ALICE, Some(BOB)),
            permitted: true,
        };
        stage.act(ALICE, Action::Send(answer));
    }
    stage.send(chat(200..205));
    assert!(matches!(stage.resume(BOB, 0).0, Outcome::Resumed { .. }));
}

/// Bob, who reads nothing, asks again and again until his session ends. `ask` makes the request with this number and
/// its answer, which has to be in his queue then; the last answers say that there is no room.
fn ask_until_the_end(ask: impl Fn(&mut Stage, usize)) {
    let mut stage = pair(2);
    stage.settings.max_queue_bytes = 4200;
    let (mut asked, mut answered) = (0, Vec::new());
    while let Some(session) = stage.state.session(&jid(BOB)) {
        let kinds = session.queue.whole().map(|item| item.packet.header.kind);
        answered = kinds
            .filter(|kind| matches!(kind, Kind::Iq(_)))
            .collect::<Vec<_>>();
        assert_eq!(answered.len(), asked, "each has an answer");
        ask(&mut stage, asked);
        asked += 1;
    }
    let refused = Kind::Iq(IqType::Error);
    assert!(
        answered.contains(&refused) && answered[0] != refused,
        "{answered:?}"
    );
}

/// An IQ with this number that holds so much.
fn iq(kind: IqType, from: &str, to: &str, id: usize, bytes: usize) -> Packet {
    let mut packet = packet(Kind::Iq(kind), from, Some(to));
    packet.header.id = Some(id.to_string().into());
    packet.payload = vec![b'x'; bytes].into();
    packet
}

#[test]
fn t_41_every_request_of_a_client_that_does_not_read_is_answered_or_its_session_ends() {
    ask_until_the_end(|stage, id| {
        let answer = iq(IqType::Result, "bob@example.org", BOB, id, 1000);
        stage.act(BOB, Action::Reply(answer));
    });
}

#[test]
fn t_41_what_others_answer_to_a_client_that_does_not_read_reaches_it_or_its_session_ends() {
    let send = |packet| {
        let permitted = true;
        Action::Send(Relay::Iq { packet, permitted })
    };
    ask_until_the_end(|stage, id| {
        stage.act(BOB, send(iq(IqType::Get, BOB, ALICE, id, 10)));
        stage.act(ALICE, send(iq(IqType::Result, ALICE, BOB, id, 3000)));
        stage.acknowledge_all(ALICE);
    });
}

/// What bob's sessions hold in full, together.
fn held(stage: &Stage) -> usize {
    let sessions = stage.state.sessions(&jid(BOB).bare());
    sessions.iter().map(|session| session.queue_bytes).sum()
}

#[test]
fn t_41_a_client_has_so_many_requests_open_and_no_more() {
    let mut stage = Stage::new();
    stage.bind(ALICE, None);
    // Each of bob's sessions takes some of them.
    for n in 0..20 {
        stage.bind(&format!("bob@example.org/{n}"), None);
    }
    let mut refused = 0;
    for id in 0..1100 {
        let to = format!("bob@example.org/{}", id % 20);
        let mut packet = packet(Kind::Iq(IqType::Get), ALICE, Some(&to));
        packet.header.id = Some(id.to_string().into());
        let permitted = true;
        let outputs = stage.act(ALICE, Action::Send(Relay::Iq { packet, permitted }));
        let error = (String::from(ALICE), Kind::Iq(IqType::Error));
        refused += usize::from(stanzas(&outputs).contains(&error));
    }
    assert_eq!(refused, 1100 - 1024);
}

#[test]
fn t_41_all_sessions_of_an_account_share_one_bound_and_lose_nothing() {
    const OTHER: &str = "bob@example.org/o";
    let mut stage = pair(0);
    stage.resumable(OTHER, Some(0));
    stage.acknowledge_all(OTHER);
    stage.acknowledge_all(BOB);
    stage.lose(BOB);
    let normal = |mid| message(MessageType::Normal, ALICE, "bob@example.org", mid);
    stage.send([normal(0)]);
    let both = held(&stage);
    stage.settings.max_account_queue_bytes = 5 * both as u64;
    for (mids, expect) in [(1..4, 4), (4..5, 5), (5..6, 5), (6..20, 5)] {
        let outputs = stage.send(mids.map(normal));
        assert!(
            outputs.iter().all(|o| o.session != jid(ALICE)),
            "{outputs:?}"
        );
        assert_eq!(held(&stage), expect * both);
    }
    // He gets all of it, though the other session acknowledges nothing.
    let outputs = stage.resume(BOB, 1).1;
    let got = drain(&mut stage, read(&outputs), 3);
    check_all(&got, 3, 0..20);
}
