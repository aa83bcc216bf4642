//! Who hears what, and what is kept of it.

use proto::BareJid;
use proto::stanza::{Kind, MessageType};

use super::super::stage::{Stage, event, jid, stanzas};
use crate::id::{EffectId, ShardId};
use crate::session::*;

const ALICE: &str = "alice@example.org/a";
const BOB: &str = "bob@example.org/b";
const PHONE: &str = "bob@example.org/phone";

fn to(jids: &[(&str, bool)]) -> Vec<Recipient> {
    let one = |(text, subscribed): &(&str, bool)| Recipient {
        jid: jid(text),
        subscribed: *subscribed,
    };
    jids.iter().map(one).collect()
}

fn nodes(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

/// Alice is there, and Bob twice, of whom one wants to hear of `mood`.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.bind(ALICE, Some(0));
    stage.resumable(BOB, Some(0));
    stage.bind(PHONE, Some(-1));
    stage.act(BOB, Action::Interest(nodes(&["mood"])));
    stage.work();
    stage
}

/// Alice publishes; returns who hears of it.
fn publish(stage: &mut Stage, node: &str, key: u64, to: Vec<Recipient>) -> Vec<String> {
    let event = event("alice@example.org", node, key);
    let outputs = stage.act(ALICE, Action::Send(Relay::Event { event, to }));
    let heard = stanzas(&outputs).into_iter();
    heard
        .map(|(session, kind)| {
            assert_eq!(kind, Kind::Message(MessageType::Headline));
            session
        })
        .collect()
}

#[test]
fn pe_7_contacts_hear_what_they_want_and_subscribers_everything() {
    let mut stage = stage();
    let contact = to(&[("bob@example.org", false)]);
    assert_eq!(publish(&mut stage, "mood", 1, contact.clone()), [BOB]);
    assert_eq!(publish(&mut stage, "tune", 1, contact), [""; 0]);
    let subscriber = to(&[("bob@example.org", true)]);
    assert_eq!(publish(&mut stage, "tune", 1, subscriber), [BOB, PHONE]);
    let session = to(&[(PHONE, true)]);
    assert_eq!(publish(&mut stage, "tune", 1, session), [PHONE]);
    let both = to(&[("bob@example.org", false), (PHONE, true), (BOB, true)]);
    assert_eq!(publish(&mut stage, "mood", 1, both), [BOB, PHONE]);
    let nobody = to(&[("bob@example.org/gone", true), ("carol@example.org", true)]);
    assert_eq!(publish(&mut stage, "mood", 1, nobody), [""; 0]);
}

#[test]
fn pe_19_neither_side_of_a_block_hears_the_other() {
    for (blocker, blocked) in [(ALICE, "bob@example.org"), (BOB, "alice@example.org")] {
        let mut stage = stage();
        stage.block(blocker, &[blocked], &[]);
        let contact = to(&[("bob@example.org", true)]);
        assert_eq!(publish(&mut stage, "mood", 1, contact), [""; 0]);
    }
}

#[test]
fn one_event_for_another_shard_is_one_item() {
    let mut stage = stage();
    stage.state = ShardState::new(ShardId(0), 4);
    stage.bind(ALICE, Some(0));
    let many = (0..1_000).map(|n| Recipient {
        jid: jid(&format!("contact{n}@example.org")),
        subscribed: false,
    });
    publish(&mut stage, "mood", 1, many.collect());
    for shard in (1..4).map(ShardId) {
        let (_, items) = stage.state.outboxes().items(shard, 1, 10, 1 << 20);
        assert_eq!(items.len(), 1);
    }
}

/// Stanzas in the queue of Bob's session.
fn queued(stage: &Stage) -> usize {
    let session = stage.state.session(&jid(BOB)).expect("bound");
    session.queue.load().0
}

#[test]
fn a_session_that_hibernates_holds_the_newest_of_each() {
    let mut stage = stage();
    let contact = to(&[("bob@example.org", false)]);
    publish(&mut stage, "mood", 1, contact.clone());
    let written = queued(&stage);
    stage.lose(BOB);
    for key in [1, 2, 1, 3, 2, 1] {
        publish(&mut stage, "mood", key, contact.clone());
    }
    // What the client may have been sent keeps its number and its place.
    assert_eq!(queued(&stage), written + 3);
    let (_, outputs) = stage.resume(BOB, 0);
    let heard = outputs.iter().filter_map(|output| match &output.event {
        Event::Stanza { item, .. } => Some(item.copy),
        _ => None,
    });
    let heard = Vec::from_iter(heard.flatten());
    assert_eq!(heard, [1, 3, 2, 1].map(output::Copied::Event));
}

#[test]
fn a_queue_that_holds_no_more_drops_events_and_the_session_stays() {
    let mut stage = stage();
    stage.settings.max_queue_stanzas = 5;
    stage.settings.max_queue_bytes = 2_000;
    stage.lose(BOB);
    let contact = to(&[("bob@example.org", false)]);
    for key in 0..1_000 {
        publish(&mut stage, "mood", key, contact.clone());
    }
    assert!(queued(&stage) < 100, "{}", queued(&stage));
}

/// What is to be read for Bob's session.
fn wanted(stage: &Stage) -> Vec<(EffectId, LastEvents)> {
    let pending = stage.state.pending(EffectId(0), 10).into_iter();
    let wanted = pending.filter_map(|pending| match &*pending.effect {
        Effect::LastEvents(wanted) => Some((pending.id, wanted.clone())),
        _ => None,
    });
    wanted.collect()
}

/// What was read arrives; returns who hears of it.
fn arrives(
    stage: &mut Stage,
    id: EffectId,
    events: &[NodeEvent],
    rest: Option<LastEvents>,
) -> usize {
    let last = Relay::LastEvents {
        session: jid(BOB),
        events: events.to_vec(),
        rest,
    };
    let done = Completed {
        id,
        relays: vec![last],
        messages: Vec::new(),
    };
    stanzas(&stage.apply(Command::Done(vec![done])).1).len()
}

#[test]
fn pe_9_what_was_published_last_is_read_once_for_each_session_and_new_interest() {
    let mut stage = Stage::new();
    stage.bind(BOB, None);
    stage.act(BOB, Action::Interest(nodes(&["mood", "tune"])));
    assert_eq!(wanted(&stage), []);
    stage.available(BOB, 0);
    let first = wanted(&stage);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1.nodes, nodes(&["mood", "tune"]));
    let (mood, tune) = ("mood", "tune");
    let carol = |node, key| event("carol@example.org", node, key);
    let rest = LastEvents {
        after: Some((
            BareJid::new("carol@example.org").expect("valid"),
            mood.into(),
        )),
        ..first[0].1.clone()
    };
    let heard = arrives(
        &mut stage,
        first[0].0,
        &[carol(mood, 1)],
        Some(rest.clone()),
    );
    assert_eq!(heard, 1);
    let next = wanted(&stage);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].1, rest);
    assert_eq!(arrives(&mut stage, next[0].0, &[carol(tune, 2)], None), 1);
    assert_eq!(wanted(&stage), []);
    // Another presence brings nothing, another node what is new.
    stage.available(BOB, 3);
    assert_eq!(wanted(&stage), []);
    stage.act(BOB, Action::Interest(nodes(&["mood", "nick"])));
    assert_eq!(wanted(&stage)[0].1.nodes, nodes(&["nick"]));
    stage.act(BOB, Action::Interest(nodes(&["mood", "nick"])));
    assert_eq!(wanted(&stage).len(), 1);
}

#[test]
fn what_was_read_is_not_told_behind_something_newer() {
    let mut stage = Stage::new();
    stage.bind(ALICE, Some(0));
    stage.bind(BOB, None);
    stage.act(BOB, Action::Interest(nodes(&["mood", "tune"])));
    stage.available(BOB, 0);
    let asked = wanted(&stage);
    let contact = to(&[("bob@example.org", false)]);
    publish(&mut stage, "mood", 1, contact);
    let read = ["mood", "tune"].map(|node| event("alice@example.org", node, 1));
    assert_eq!(arrives(&mut stage, asked[0].0, &read, None), 1);
}

#[test]
fn what_was_read_for_a_session_that_is_gone_or_changed_its_mind_is_nobody_s() {
    let mut stage = Stage::new();
    stage.bind(BOB, Some(0));
    stage.act(BOB, Action::Interest(nodes(&["mood"])));
    let asked = wanted(&stage);
    stage.act(BOB, Action::Interest(nodes(&["tune"])));
    let read = [event("alice@example.org", "mood", 1)];
    assert_eq!(arrives(&mut stage, asked[0].0, &read, None), 0);
    let asked = wanted(&stage);
    stage.lose(BOB);
    let read = [event("alice@example.org", "tune", 1)];
    assert_eq!(arrives(&mut stage, asked[0].0, &read, None), 0);
}

#[test]
fn pe_9_who_may_be_seen_from_now_on_is_heard_of() {
    let mut stage = stage();
    let revealed = Relay::Revealed {
        account: BareJid::new("bob@example.org").expect("valid"),
        peer: BareJid::new("alice@example.org").expect("valid"),
    };
    stage.act(ALICE, Action::Send(revealed));
    let asked = wanted(&stage);
    assert_eq!(asked.len(), 1, "one of his sessions wants to hear");
    assert_eq!(asked[0].1.session, jid(BOB));
    assert!(asked[0].1.owner.is_some());
}

#[test]
fn an_event_is_a_headline_without_a_place_in_any_archive() {
    let mut stage = stage();
    publish(&mut stage, "mood", 1, to(&[("bob@example.org", false)]));
    stage.lose(PHONE);
    stage.lose(BOB);
    let rows = stage.state.pending(EffectId(0), 10).into_iter();
    let rows = rows.filter(|p| matches!(&*p.effect, Effect::Archive(_)));
    assert_eq!((rows.count(), stage.undelivered("bob@example.org")), (0, 0));
}
