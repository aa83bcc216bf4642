//! Two people who chat in one shard, for the bench and the test of what a message costs there.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use cluster::id::{ArchiveId, BootId, ConnId, EffectId, Epoch, NodeId, Owner, ShardId};
use cluster::session::{
    Acknowledge, Action, Batch, Bind, Command, Completed, Inbound, Message, Outcome,
    PresenceUpdate, Relay, Settings, ShardState, Traits,
};
use proto::Jid;
use proto::stanza::{Header, Kind, MessageType, Packet, PresenceType};

/// Messages in a batch.
pub const BATCH: usize = 64;

pub fn jid(user: &str) -> Jid {
    Jid::new(&format!("{user}@example.org/phone")).expect("valid")
}

pub fn packet(kind: Kind, from: &str, to: Option<Jid>) -> Packet {
    Packet {
        header: Header {
            kind,
            from: Some(jid(from)),
            to,
            id: Some("a1b2c3d4".into()),
            lang: None,
        },
        payload: Bytes::from_static(b"<body>How are you?</body>"),
    }
}

/// A shard with two people who chat.
pub struct Chat {
    pub state: ShardState,
    pub now: u64,
    epochs: [Epoch; 2],
    sent: u64,
    read: u64,
}

impl Chat {
    pub fn new() -> Self {
        let mut chat = Self {
            state: ShardState::new(ShardId(0), 1),
            now: 1_700_000_000_000,
            epochs: [Epoch(0); 2],
            sent: 1,
            read: 1,
        };
        chat.apply(vec![Command::Settings(Settings::default())]);
        for (place, user) in ["alice", "bob"].into_iter().enumerate() {
            chat.epochs[place] = chat.open(user, place as u64);
        }
        chat
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        self.now += 1;
        let now = self.now;
        self.state.apply(Batch { now, commands }).outcomes
    }

    fn open(&mut self, user: &str, conn: u64) -> Epoch {
        let owner = Owner {
            node: NodeId(1),
            boot: BootId(1),
            conn: ConnId(conn),
        };
        let session = jid(user);
        let bind = Command::Bind(Bind { session, owner });
        let Some(Outcome::Bound { epoch }) = self.apply(vec![bind]).pop() else {
            panic!("{user} is not bound");
        };
        let update = PresenceUpdate {
            packet: packet(Kind::Presence(PresenceType::Available), user, None),
            priority: 0,
            subscribers: Vec::new(),
            probes: Vec::new(),
            requests: Vec::new(),
        };
        let presence = Inbound {
            session: jid(user),
            epoch,
            first: 1,
            stanzas: vec![vec![Action::Presence(update)]],
        };
        self.apply(vec![Command::Inbound(presence)]);
        epoch
    }

    /// What alice says next.
    pub fn messages(&mut self) -> Batch {
        let message = |number: u64| {
            let to = Jid::from(jid("bob").bare());
            let kind = Kind::Message(MessageType::Chat);
            vec![Action::Send(Relay::Message(Message {
                packet: packet(kind, "alice", Some(to)),
                mid: ArchiveId::new(self.now, u128::from(number)),
                traits: Traits {
                    archive_sent: true,
                    archive_received: true,
                    offline: true,
                    carbon: true,
                    important: true,
                },
            }))]
        };
        let first = self.sent + 1;
        let stanzas = (first..first + BATCH as u64).map(message).collect();
        self.sent += BATCH as u64;
        self.now += 1;
        let inbound = Inbound {
            session: jid("alice"),
            epoch: self.epochs[0],
            first,
            stanzas,
        };
        Batch {
            now: self.now,
            commands: vec![Command::Inbound(inbound)],
        }
    }

    /// Bob has read everything, and all is archived.
    pub fn rest(&mut self) -> Batch {
        self.read += BATCH as u64;
        let mut commands = vec![Command::Acknowledge(Acknowledge {
            session: jid("bob"),
            epoch: self.epochs[1],
            upto: self.read + 1,
        })];
        let pending = self.state.pending(EffectId(0), 1024);
        let done = pending.iter().map(|pending| Completed {
            id: pending.id,
            relays: Vec::new(),
            messages: Vec::new(),
        });
        commands.push(Command::Done(done.collect()));
        self.now += 1;
        let now = self.now;
        Batch { now, commands }
    }
}
