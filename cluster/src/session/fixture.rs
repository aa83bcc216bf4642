//! One of everything that is stored or sent, for tests of the formats.

use bytes::Bytes;
use proto::BareJid;
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};

use super::cow::CopyOnWrite;
use super::outbox::Untold;
use super::stage::{Stage, blocked, broadcast, event, event_for, jid, message, owner, packet};
use super::*;
use crate::id::{ArchiveId, BootId, EffectId, Epoch, NodeId, Order, ShardId, SmId};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/phone";

fn bare(text: &str) -> BareJid {
    BareJid::new(text).expect("valid")
}

fn mids() -> Vec<ArchiveId> {
    vec![
        ArchiveId::new(7, 7),
        ArchiveId::new(1_700_000_000_000, 1 << 79),
    ]
}

/// Each value differs from the others and from the default, but for those that version 1 did not have.
pub(crate) fn settings() -> Settings {
    Settings {
        max_hibernated_sessions: 3,
        max_old_sessions: 4,
        sessions_per_account: 5,
        on_timeout: OnTimeout::Bounce,
        old_session_ttl: 86_000_000,
        max_undelivered: 600,
        push_hibernation_time: 7_000_000,
        max_queue_stanzas: 8,
        max_queue_bytes: 9 << 20,
        max_queue_ids: 10_000,
        max_backlog_bytes: 11 << 20,
        ..Settings::default()
    }
}

/// All kinds of stanzas, with and without their optional parts.
fn packets() -> Vec<Packet> {
    let messages = [
        MessageType::Normal,
        MessageType::Chat,
        MessageType::Groupchat,
        MessageType::Headline,
        MessageType::Error,
    ];
    let presences = [
        PresenceType::Available,
        PresenceType::Unavailable,
        PresenceType::Subscribe,
        PresenceType::Subscribed,
        PresenceType::Unsubscribe,
        PresenceType::Unsubscribed,
        PresenceType::Probe,
        PresenceType::Error,
    ];
    let iqs = [IqType::Get, IqType::Set, IqType::Result, IqType::Error];
    let kinds = messages.map(Kind::Message).into_iter();
    let kinds = kinds.chain(presences.map(Kind::Presence));
    let mut packets: Vec<Packet> = kinds
        .chain(iqs.map(Kind::Iq))
        .map(|kind| packet(kind, ALICE, Some(BOB)))
        .collect();
    packets.push(Packet {
        header: Header {
            lang: Some("de".into()),
            ..Header::new(Kind::Message(MessageType::Chat))
        },
        payload: Bytes::new(),
    });
    packets
}

fn presence() -> Packet {
    packet(Kind::Presence(PresenceType::Available), ALICE, None)
}

pub(crate) fn relays() -> Vec<Relay> {
    let chat = message(MessageType::Chat, ALICE, BOB, 1);
    let mut relays = vec![
        Relay::Message(chat),
        Relay::Presence {
            packet: presence(),
            to: vec![jid("bob@example.org"), jid(BOB)],
        },
        Relay::Probe {
            from: jid(ALICE),
            to: vec![bare("bob@example.org")],
        },
        Relay::Subscription(presence()),
        Relay::RosterPush {
            account: bare("bob@example.org"),
            packet: presence(),
        },
        Relay::Announcement {
            account: bare("bob@example.org"),
            packet: presence(),
            available: true,
        },
        Relay::Hidden {
            account: bare("bob@example.org"),
            mids: mids(),
        },
        Relay::NoPush {
            account: bare("bob@example.org"),
            resource: "phone".into(),
        },
    ];
    relays.extend(packets().into_iter().map(|packet| Relay::Iq {
        packet,
        permitted: true,
    }));
    relays.extend(reasons().map(|reason| Relay::EndAll {
        account: bare("bob@example.org"),
        reason,
    }));
    relays
}

fn reasons() -> impl Iterator<Item = EndReason> {
    let reasons = [
        EndReason::Closed,
        EndReason::Lost,
        EndReason::Expired,
        EndReason::Conflict,
        EndReason::Limit,
        EndReason::Admin,
        EndReason::Violation,
        EndReason::Credentials,
        EndReason::Overflow,
    ];
    reasons.into_iter()
}

fn actions() -> Vec<Action> {
    let mut actions = vec![
        Action::Reply(presence()),
        Action::Presence(PresenceUpdate {
            packet: presence(),
            priority: -7,
            subscribers: vec![bare("bob@example.org")],
            probes: vec![bare("carol@example.org")],
            requests: packets(),
        }),
        Action::Directed(presence()),
        Action::Carbons(true),
        Action::Interested,
        Action::PushEnabled(false),
    ];
    actions.extend(relays().into_iter().map(Action::Send));
    actions
}

/// What only version 2 sends on.
fn part() -> Completed {
    Completed {
        id: EffectId(78),
        relays: vec![
            Relay::Unkept {
                account: bare("bob@example.org"),
                mid: mids()[0],
                packet: presence(),
            },
            Relay::Blocklist {
                account: bare("bob@example.org"),
                revision: u64::MAX,
                jids: vec![jid(ALICE), jid("example.net")],
            },
            event_for(&[BOB, "carol@example.org"]),
            Relay::LastEvents {
                session: jid(ALICE),
                events: vec![event("bob@example.org", "node", u64::MAX)],
                rest: Some(last_events()),
            },
            Relay::Revealed {
                account: bare("alice@example.org"),
                peer: bare("bob@example.org"),
            },
            broadcast(mids()[0], "bob@example.org"),
            Relay::End {
                session: jid(BOB),
                reason: EndReason::Admin,
            },
        ],
        messages: Vec::new(),
    }
}

/// The commands that version 2 has besides, with what else it brought.
pub(crate) fn later_commands() -> Vec<Command> {
    let among = [
        Among::All,
        Among::Only(ShardId(3)),
        Among::Without([ShardId(1), ShardId(2)].into()),
    ];
    let in_part = among.map(|among| Command::DoneInPart {
        part: part(),
        rest: Effect::Unavailable {
            packet: presence(),
            directed: vec![jid(BOB)],
            after: Some(bare("carol@example.org")),
            among,
        },
    });
    let mut commands = vec![
        Command::End {
            session: jid(ALICE),
            epoch: None,
            reason: EndReason::Removed,
        },
        Command::Settings(settings()),
        Command::Compare {
            node: NodeId(4),
            at: 5,
            hash: u64::MAX,
        },
    ];
    commands.extend(in_part);
    let account = bare("bob@example.org");
    commands.push(Command::ReadBlocklist { account });
    let account = bare("bob@example.org");
    commands.push(Command::ArchiveStated { account });
    commands.push(Command::Inbound(Inbound {
        session: jid(ALICE),
        epoch: Epoch(9),
        first: 5,
        stanzas: vec![vec![
            Action::FollowsBlocklist,
            Action::Blocklist(blocked(5, 6, &["eve@example.net"], &["example.com/x"])),
            Action::BlocklistAt(7),
            Action::ArchiveStated,
            Action::Interest(vec!["node".into()]),
            Action::Send(event_for(&[BOB])),
        ]],
    }));
    commands.push(opening());
    commands.push(Command::Send {
        relays: vec![Relay::Subscription(presence())],
    });
    commands.push(Command::Forget {
        account: bare("alice@example.org"),
    });
    let (id, packet) = (mids()[1], presence());
    commands.push(Command::Broadcast { id, packet });
    commands.push(Command::Retire { node: NodeId(4) });
    commands
}

fn opening() -> Command {
    Command::Open(Open {
        session: jid(ALICE),
        owner: owner(8),
        agent: Some("0123456789abcdef".into()),
        sm: Some(OpenSm {
            smid: Some(SmId("smid".into())),
            max: 300,
            seed: 7,
        }),
        carbons: true,
    })
}

/// Every command of version 1, with every variant of what it holds.
pub(crate) fn commands() -> Vec<Command> {
    let mut commands = session_commands();
    commands.extend([
        Command::NodeLost {
            node: NodeId(u64::MAX),
            alive: Some(BootId(2)),
        },
        Command::Relay {
            from: ShardId(2),
            first: 1,
            items: relays(),
        },
        Command::Trim {
            to: ShardId(1),
            upto: 9,
        },
        Command::SetLimits {
            account: bare("alice@example.org"),
            limits: Some(Limits {
                hibernated: Some(2),
                old: None,
            }),
        },
        Command::Done(vec![Completed {
            id: EffectId(77),
            relays: relays(),
            messages: vec![Fetched {
                mid: mids()[0],
                stamp: 1_700_000_000_000,
                archived: true,
                packet: presence(),
            }],
        }]),
        Command::Tick,
    ]);
    commands.extend(reasons().map(|reason| Command::End {
        session: jid(ALICE),
        epoch: Some(Epoch(9)),
        reason,
    }));
    commands
}

fn session_commands() -> Vec<Command> {
    let (session, epoch) = (jid(ALICE), Epoch(9));
    vec![
        Command::Bind(Bind {
            session: session.clone(),
            owner: owner(1),
        }),
        Command::Enable(Enable {
            session: session.clone(),
            epoch,
            after: 2,
            smid: Some(SmId("sm".into())),
            max: 300,
            seed: u32::MAX,
        }),
        Command::Resume(Resume {
            account: bare("alice@example.org"),
            smid: SmId("sm".into()),
            h: 5,
            owner: owner(2),
        }),
        Command::Inbound(Inbound {
            session: session.clone(),
            epoch,
            first: 3,
            stanzas: vec![actions(), Vec::new()],
        }),
        Command::Acknowledge(Acknowledge {
            session: session.clone(),
            epoch,
            upto: 70_000,
        }),
        Command::Lost {
            session: session.clone(),
            epoch,
        },
        Command::Overdue { session, epoch },
    ]
}

fn effects() -> Vec<Effect> {
    vec![
        Effect::Archive(ArchiveRow {
            owner: bare("bob@example.org"),
            mid: mids()[1],
            order: Order(12),
            with: jid(ALICE),
            stamp: 13,
            hidden: true,
            packet: presence(),
        }),
        Effect::Forget {
            account: bare("bob@example.org"),
            mids: mids(),
        },
        Effect::Fetch {
            session: jid(BOB),
            mids: mids(),
        },
        Effect::Return {
            account: bare("bob@example.org"),
            mids: mids(),
        },
        Effect::Subscription(presence()),
        Effect::Push {
            account: bare("bob@example.org"),
            resource: "phone".into(),
            count: 3,
            message: Some(presence()),
        },
        Effect::Unavailable {
            packet: presence(),
            directed: Vec::new(),
            after: None,
            among: Among::All,
        },
        Effect::Blocklist(bare("bob@example.org")),
        Effect::LastEvents(last_events()),
    ]
}

fn last_events() -> LastEvents {
    LastEvents {
        session: jid(ALICE),
        nodes: vec!["node".into(), "other".into()],
        owner: Some(bare("bob@example.org")),
        after: Some((bare("bob@example.org"), "node".into())),
    }
}

/// A state in which nothing is empty.
pub(crate) fn state() -> ShardState {
    let mut stage = Stage::new();
    stage.settings = settings();
    stage.now = 1_700_000_000_000;
    stage.apply(Command::Retire { node: NodeId(7) });
    stage.now += 1_000;
    old_sessions(&mut stage);
    stage.bind(ALICE, Some(-1));
    stage.act(ALICE, Action::Carbons(true));
    stage.act(ALICE, Action::Interested);
    stage.act(ALICE, Action::FollowsBlocklist);
    stage.block(ALICE, &["eve@example.net", "example.com"], &[]);
    stage.act(ALICE, Action::BlocklistAt(9));
    stage.act(ALICE, Action::ArchiveStated);
    stage.act(ALICE, Action::Interest(vec!["node".into()]));
    let directed = Kind::Presence(PresenceType::Available);
    stage.act(
        ALICE,
        Action::Directed(packet(directed, ALICE, Some("x@elsewhere.example/y"))),
    );
    stage.resumable(BOB, Some(5));
    stage.resumable("bob@example.org/desk", Some(5));
    stage.act(BOB, Action::PushEnabled(true));
    stage.apply(Command::SetLimits {
        account: bare("carol@example.org"),
        limits: Some(Limits {
            hibernated: None,
            old: Some(2),
        }),
    });
    // Held by both sessions of the account, and more than their queues hold in full.
    let to_bob = |mid| message(MessageType::Chat, ALICE, "bob@example.org", mid);
    stage.send((10..40).map(to_bob));
    let question = packet(Kind::Iq(IqType::Get), ALICE, Some(BOB));
    stage.acknowledge_all(BOB);
    stage.act(
        ALICE,
        Action::Send(Relay::Iq {
            packet: question,
            permitted: true,
        }),
    );
    stage.lose("bob@example.org/desk");
    stage.send((40..45).map(|mid| message(MessageType::Chat, ALICE, "dora@example.org", mid)));
    stage.apply(Command::Relay {
        from: ShardId(2),
        first: 1,
        items: vec![Relay::Hidden {
            account: bare("dora@example.org"),
            mids: vec![ArchiveId::new(1, 41)],
        }],
    });
    for relay in relays() {
        let outboxes = stage.state.outboxes_mut();
        outboxes.post(ShardId(1), CopyOnWrite::new(relay));
    }
    for effect in effects() {
        stage.state.add_effect(effect);
    }
    leave_to_later(&mut stage.state);
    stage.state
}

/// Presence that is still to be shown, and a farewell that waits for room.
fn leave_to_later(state: &mut ShardState) {
    let shown = Relay::Presence {
        packet: presence(),
        to: vec![jid("bob@example.org")],
    };
    state.fan_mut().push(CopyOnWrite::new(shown));
    let everybody = CopyOnWrite::new(broadcast(mids()[0], "bob@example.org"));
    state.fan_mut().push(everybody);
    state.broadcasts_mut().note(mids()[0]);
    let untold = Untold {
        after: Some(bare("bob@example.org")),
        directed: vec![jid(BOB)],
    };
    let outboxes = state.outboxes_mut();
    outboxes.set_aside(ShardId(1), &jid(ALICE), untold);
}

fn old_sessions(stage: &mut Stage) {
    for n in 0..2 {
        let session = format!("carol@example.org/{n}");
        let epoch = stage.resumable(&session, None);
        stage.apply(Command::End {
            session: jid(&session),
            epoch: Some(epoch),
            reason: EndReason::Admin,
        });
    }
    let sleeping = "erik@example.org/sleeps";
    stage.resumable(sleeping, Some(0));
    stage.act(sleeping, Action::PushEnabled(true));
    stage.lose(sleeping);
}
