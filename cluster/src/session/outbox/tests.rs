//! What waits for a shard that takes nothing.

use proto::stanza::{IqType, Kind, MessageType, Packet, PresenceType};

use super::super::stage::{Stage, message, packet, stanzas};
use super::*;
use crate::session::step::Step;
use crate::session::*;
use crate::shard::map::shard_of;

const SHARDS: u16 = 2;

/// A session of this shard, an account of the other and one of our own.
fn parties() -> (Stage, String, String, String) {
    let mut stage = Stage::new();
    stage.state = ShardState::new(ShardId(0), SHARDS);
    let of = |shard| {
        let mut all = (0..).map(|n| format!("user{n}@example.org"));
        let lives = |user: &String| {
            let user = BareJid::new(user).expect("valid");
            shard_of(&user, SHARDS) == ShardId(shard)
        };
        all.find(lives).expect("every shard has accounts")
    };
    let (near, far) = (of(0), of(1));
    let session = format!("{near}/desk");
    stage.bind(&session, Some(0));
    (stage, session, far, near)
}

/// Sends messages until so many bytes wait for the other shard.
fn fill(stage: &mut Stage, session: &str, far: &str, bytes: u64) {
    let mut mid = 1;
    while stage
        .state
        .outboxes()
        .iter()
        .all(|(_, outbox)| outbox.bytes < bytes)
    {
        let mut large = message(MessageType::Chat, session, far, mid);
        large.packet.payload = vec![b'x'; 200_000].into();
        stage.act(session, Action::Send(Relay::Message(large)));
        mid += 1;
    }
}

fn waiting(stage: &Stage) -> usize {
    stage
        .state
        .outboxes()
        .iter()
        .map(|(_, outbox)| outbox.items.len())
        .sum()
}

#[test]
fn what_goes_to_a_shard_that_takes_nothing_comes_back_before_it_is_acknowledged() {
    let (mut stage, session, far, near) = parties();
    stage.settings.max_backlog_bytes = 0;
    fill(&mut stage, &session, &far, FULL);
    let before = waiting(&stage);
    let far_session = format!("{far}/x");
    let chat = Relay::Message(message(MessageType::Chat, &session, &far, 9));
    let question = Relay::Iq {
        packet: packet(Kind::Iq(IqType::Get), &session, Some(&far_session)),
        permitted: true,
    };
    let subscribe = Kind::Presence(PresenceType::Subscribe);
    let available = Kind::Presence(PresenceType::Available);
    let mut broadcast = packet(available, &session, None);
    broadcast.payload = b"<show>away</show>".as_slice().into();
    let actions = [
        Action::Send(chat),
        Action::Send(question),
        Action::Send(Relay::Subscription(packet(subscribe, &session, Some(&far)))),
        Action::Directed(packet(available, &session, Some(&far_session))),
        Action::Presence(PresenceUpdate {
            packet: broadcast,
            priority: 0,
            subscribers: vec![BareJid::new(&far).expect("valid")],
            probes: Vec::new(),
            requests: Vec::new(),
        }),
    ];
    for action in actions {
        let told = format!("{action:?}");
        let outputs = stage.act(&session, action);
        let errors = [
            Kind::Message(MessageType::Error),
            Kind::Iq(IqType::Error),
            Kind::Presence(PresenceType::Error),
        ];
        let came = stanzas(&outputs);
        assert!(
            matches!(&came[..], [(to, kind)] if *to == session && errors.contains(kind)),
            "{told}: {came:?}"
        );
    }
    assert_eq!(waiting(&stage), before);
    // Answers were asked for, an end is an end, and others are not concerned.
    let answer = Relay::Iq {
        packet: packet(Kind::Iq(IqType::Error), &session, Some(&far_session)),
        permitted: true,
    };
    assert!(!stage.state.turns_back(&answer, &mut Step::default()));
    let home = Relay::Message(message(MessageType::Chat, &session, &near, 10));
    assert!(!stage.state.turns_back(&home, &mut Step::default()));
}

/// Bytes that wait for the other shard.
fn held(stage: &Stage) -> u64 {
    stage.state.outbox_load(ShardId(1)).bytes
}

fn large(mut packet: Packet, id: usize) -> Packet {
    packet.header.id = Some(id.to_string().into());
    packet.payload = vec![b'x'; 100_000].into();
    packet
}

/// What a client may say without end to somebody whose shard is dead, or have said in its name.
fn sayings(session: &str, far: &str, n: usize) -> Vec<Action> {
    let far_session = format!("{far}/x");
    let unkept = |kind| {
        let mut said = message(kind, session, far, n as u128);
        said.traits = Traits::default();
        said.packet = large(said.packet, n);
        Action::Send(Relay::Message(said))
    };
    let iq = |kind| {
        let packet = large(packet(Kind::Iq(kind), session, Some(&far_session)), n);
        let permitted = true;
        Action::Send(Relay::Iq { packet, permitted })
    };
    let gone = Kind::Presence(PresenceType::Unavailable);
    vec![
        unkept(MessageType::Headline),
        unkept(MessageType::Groupchat),
        unkept(MessageType::Error),
        iq(IqType::Result),
        iq(IqType::Error),
        Action::Directed(large(packet(gone, session, Some(&far_session)), n)),
    ]
}

#[test]
fn however_much_is_said_to_a_shard_that_is_dead_no_more_waits_for_it() {
    let (mut stage, session, far, _) = parties();
    stage.settings.max_backlog_bytes = 0;
    fill(&mut stage, &session, &far, FULL);
    let before = held(&stage);
    for n in 0..50 {
        for action in sayings(&session, &far, n) {
            let said = format!("{:.40}", format!("{action:?}"));
            stage.act(&session, action);
            assert_eq!(held(&stage), before, "{said}");
        }
    }
}

#[test]
fn an_answer_to_a_shard_that_is_dead_takes_no_more_than_the_request_did() {
    let (mut stage, session, far, _) = parties();
    stage.settings.max_backlog_bytes = 0;
    let far_session = format!("{far}/x");
    let mut asked = 0;
    for n in 0..60 {
        let mut question = packet(Kind::Iq(IqType::Get), &far_session, Some(&session));
        question.header.id = Some(n.to_string().into());
        asked += 200 + question.size() as u64;
        let items = vec![Relay::Iq {
            packet: question,
            permitted: true,
        }];
        let (from, first) = (ShardId(1), n + 1);
        stage.apply(Command::Relay { from, first, items });
    }
    fill(&mut stage, &session, &far, FULL);
    let (before, count) = (held(&stage), waiting(&stage));
    for n in 0..60 {
        let answer = packet(Kind::Iq(IqType::Result), &session, Some(&far_session));
        let packet = large(answer, n);
        let permitted = true;
        stage.act(&session, Action::Send(Relay::Iq { packet, permitted }));
    }
    assert_eq!(waiting(&stage), count + 60, "each is answered");
    let more = held(&stage) - before;
    assert!(more <= asked, "{more} for {asked}");
}

#[test]
fn what_takes_something_back_has_a_bound_too_if_it_may_be_said_for_no_reason() {
    let (mut stage, session, far, _) = parties();
    stage.settings.max_backlog_bytes = 0;
    let unsubscribe = Kind::Presence(PresenceType::Unsubscribe);
    let mut refused = 0;
    for n in 0..400 {
        let packet = large(packet(unsubscribe, &session, Some(&far)), n);
        let outputs = stage.act(&session, Action::Send(Relay::Subscription(packet)));
        let error = Kind::Presence(PresenceType::Error);
        refused += stanzas(&outputs).iter().filter(|s| s.1 == error).count();
    }
    assert!(refused > 0 && refused < 100, "{refused}");
    assert!(held(&stage) < FLOODED + 200_000);
}

#[test]
fn a_push_to_a_service_that_is_out_of_reach_is_not_kept() {
    let (mut stage, session, far, near) = parties();
    stage.settings.max_backlog_bytes = 0;
    fill(&mut stage, &session, &far, FULL);
    let before = held(&stage);
    for n in 0..50 {
        let id = stage.state.add_effect(Effect::Push {
            account: BareJid::new(&near).expect("valid"),
            resource: "desk".into(),
            count: 1,
            message: None,
        });
        let service = format!("{far}/service");
        let push = Relay::Iq {
            packet: large(packet(Kind::Iq(IqType::Set), &near, Some(&service)), n),
            permitted: true,
        };
        let (relays, messages) = (vec![push], Vec::new());
        let done = Completed {
            id,
            relays,
            messages,
        };
        stage.apply(Command::Done(vec![done]));
    }
    assert_eq!(held(&stage), before);
}

/// A session of one of our accounts shows itself to everybody of the other shard; returns its name.
fn show(stage: &mut Stage, near: &str, n: usize, far: &[BareJid]) -> String {
    let session = format!("{near}/{n}");
    stage.bind(&session, None);
    let update = PresenceUpdate {
        packet: packet(Kind::Presence(PresenceType::Available), &session, None),
        priority: 0,
        subscribers: far.to_vec(),
        probes: Vec::new(),
        requests: Vec::new(),
    };
    stage.act(&session, Action::Presence(update));
    session
}

/// All pending farewells are carried out.
fn bid_farewell(stage: &mut Stage, far: &[BareJid]) {
    let pending = stage.state.pending(crate::id::EffectId(0), usize::MAX);
    for pending in pending {
        let Effect::Unavailable { packet, .. } = &*pending.effect else {
            continue;
        };
        let told = Relay::Presence {
            packet: packet.clone(),
            to: far.iter().map(Jid::from).collect(),
        };
        let done = Completed {
            id: pending.id,
            relays: vec![told],
            messages: Vec::new(),
        };
        stage.apply(Command::Done(vec![done]));
    }
}

/// How often the other shard is going to hear that these are gone.
fn ends(stage: &Stage, names: &[String]) -> Vec<usize> {
    let items = stage.state.outboxes().iter().flat_map(|(_, o)| o.items());
    let gone = items.filter_map(|item| match &**item {
        Relay::Presence { packet, .. }
            if packet.header.kind == Kind::Presence(PresenceType::Unavailable) =>
        {
            packet.header.from.as_ref().map(ToString::to_string)
        }
        _ => None,
    });
    let gone: Vec<String> = gone.collect();
    let times = |name| gone.iter().filter(|from| *from == name).count();
    names.iter().map(times).collect()
}

#[test]
fn ends_wait_in_short_for_a_shard_that_is_dead_and_are_told_once_when_it_is_back() {
    let (mut stage, session, far, near) = parties();
    stage.settings.max_backlog_bytes = 0;
    let all = (0..).map(|n| BareJid::new(&format!("{n:0>500}@example.org")).expect("valid"));
    let all = all.filter(|account| shard_of(account, SHARDS) == ShardId(1));
    let all: Vec<BareJid> = all.take(100).collect();
    let names: Vec<String> = (0..9).map(|n| show(&mut stage, &near, n, &all)).collect();
    fill(&mut stage, &session, &far, FULL);
    let before = held(&stage);
    for (n, name) in names.iter().enumerate() {
        if n == 0 {
            // One says itself that it leaves.
            let mut update = PresenceUpdate {
                packet: packet(Kind::Presence(PresenceType::Unavailable), name, None),
                priority: 0,
                subscribers: all.clone(),
                probes: Vec::new(),
                requests: Vec::new(),
            };
            update.packet.payload = vec![b'x'; 100_000].into();
            stage.act(name, Action::Presence(update));
        }
        let session = Jid::new(name).expect("valid");
        let reason = EndReason::Closed;
        let epoch = None;
        stage.apply(Command::End {
            session,
            epoch,
            reason,
        });
    }
    bid_farewell(&mut stage, &all);
    assert_eq!(held(&stage), before);
    assert_eq!(ends(&stage, &names), [0; 9]);
    // A snapshot knows of them.
    let records = stage.state.records().map(Ok::<_, Disorder>);
    assert_eq!(ShardState::restore(records), Ok(stage.state.clone()));
    let (_, upto) = stage.state.outbox_range(ShardId(1));
    let to = ShardId(1);
    stage.apply(Command::Trim { to, upto });
    while stage.state.next_deadline() == Some(0) {
        stage.apply(Command::Tick);
    }
    bid_farewell(&mut stage, &all);
    assert_eq!(ends(&stage, &names), [1; 9]);
}
