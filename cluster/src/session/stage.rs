//! A stage for tests of one shard: sessions of a few accounts, and what their owners are told.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::*;
use crate::id::{ArchiveId, BootId, ConnId, EffectId, Epoch, NodeId, Owner, ShardId, SmId};

/// One shard, alone.
pub(super) struct Stage {
    pub(super) state: ShardState,
    pub(super) now: u64,
    pub(super) settings: Settings,
    /// All that was told of, until a test takes it.
    pub(super) notices: Vec<Notice>,
    /// Rows by account and id.
    pub(super) archive: BTreeMap<(BareJid, ArchiveId), Fetched>,
    /// Of what is read back, one message fits into an entry.
    pub(super) in_parts: bool,
    conns: u64,
}

pub(super) fn jid(text: &str) -> Jid {
    Jid::new(text).expect("valid")
}

pub(super) fn owner(conn: u64) -> Owner {
    Owner {
        node: NodeId(1),
        boot: BootId(1),
        conn: ConnId(conn),
    }
}

pub(super) fn packet(kind: Kind, from: &str, to: Option<&str>) -> Packet {
    Packet {
        header: Header {
            kind,
            from: Some(jid(from)),
            to: to.map(jid),
            id: Some("1".into()),
            lang: None,
        },
        payload: Bytes::from_static(b"<body>hi</body>"),
    }
}

/// A message that is archived, copied and kept.
pub(super) fn message(kind: MessageType, from: &str, to: &str, mid: u128) -> Message {
    Message {
        packet: packet(Kind::Message(kind), from, Some(to)),
        mid: ArchiveId::new(1, mid),
        traits: Traits {
            archive_sent: true,
            archive_received: true,
            offline: !matches!(
                kind,
                MessageType::Headline | MessageType::Groupchat | MessageType::Error
            ),
            carbon: kind == MessageType::Chat,
            important: true,
        },
    }
}

/// What a node of an account tells.
pub(super) fn event(owner: &str, node: &str, key: u64) -> NodeEvent {
    NodeEvent {
        packet: packet(Kind::Message(MessageType::Headline), owner, None),
        node: node.into(),
        key,
    }
}

/// It, for those who are subscribed.
pub(super) fn event_for(to: &[&str]) -> Relay {
    let to = to.iter().map(|to| Recipient {
        jid: jid(to),
        subscribed: true,
    });
    Relay::Event {
        event: event("alice@example.org", "node", 7),
        to: to.collect(),
    }
}

/// A message of the server for all accounts behind this one.
pub(super) fn broadcast(id: ArchiveId, after: &str) -> Relay {
    Relay::Broadcast {
        id,
        packet: packet(Kind::Message(MessageType::Headline), "example.org", None),
        after: Some(jid(after).bare()),
    }
}

/// A change of a blocklist that everybody sees who is in it.
pub(super) fn blocked(found: u64, left: u64, block: &[&str], unblock: &[&str]) -> BlocklistUpdate {
    let all = |names: &[&str]| Vec::from_iter(names.iter().map(|name| jid(name)));
    let unblocked = all(unblock).into_iter();
    BlocklistUpdate {
        found,
        left,
        block: all(block),
        unblock: all(unblock),
        viewers: [all(block), all(unblock)].concat(),
        probes: unblocked.map(|jid| jid.bare()).collect(),
        push: Packet {
            header: Header::new(Kind::Iq(IqType::Set)),
            payload: Bytes::new(),
        },
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            state: ShardState::new(ShardId(0), 1),
            now: 1_000_000,
            settings: Settings::default(),
            notices: Vec::new(),
            archive: BTreeMap::new(),
            in_parts: false,
            conns: 0,
        }
    }

    /// Applies one command and checks that the state is whole.
    pub(super) fn apply(&mut self, command: Command) -> (Outcome, Vec<Output>) {
        let changed = *self.state.settings() != self.settings;
        let settings = changed.then_some(Command::Settings(self.settings));
        let batch = Batch {
            now: self.now,
            commands: settings.into_iter().chain([command]).collect(),
        };
        let mut applied = self.state.apply(batch);
        assert_eq!(invariant::broken(&self.state), None);
        self.notices.append(&mut applied.notices);
        let (outcome, mut outputs) = (applied.outcomes.pop().expect("one"), applied.outputs);
        // The leader makes the next entries at once.
        while !self.state.fan().is_empty() {
            let batch = Batch {
                now: self.now,
                commands: vec![Command::Tick],
            };
            let mut applied = self.state.apply(batch);
            self.notices.append(&mut applied.notices);
            outputs.extend(applied.outputs);
        }
        assert_eq!(invariant::broken(&self.state), None);
        (outcome, outputs)
    }

    /// Binds; with a priority the session is available. Returns its epoch.
    pub(super) fn bind(&mut self, session: &str, priority: Option<i8>) -> Epoch {
        self.conns += 1;
        let bind = Bind {
            session: jid(session),
            owner: owner(self.conns),
        };
        let (Outcome::Bound { epoch }, _) = self.apply(Command::Bind(bind)) else {
            panic!("{session} is not bound");
        };
        if let Some(priority) = priority {
            self.available(session, priority);
        }
        epoch
    }

    /// Sends presence.
    pub(super) fn available(&mut self, session: &str, priority: i8) -> Vec<Output> {
        let update = PresenceUpdate {
            packet: packet(Kind::Presence(PresenceType::Available), session, None),
            priority,
            subscribers: Vec::new(),
            probes: Vec::new(),
            requests: Vec::new(),
        };
        self.act(session, Action::Presence(update))
    }

    /// Binds with stream management that can be resumed as `session`.
    pub(super) fn resumable(&mut self, session: &str, priority: Option<i8>) -> Epoch {
        let epoch = self.bind(session, priority);
        let after = self.state.session(&jid(session)).expect("bound").next_in() - 1;
        let enable = Enable {
            session: jid(session),
            epoch,
            after,
            smid: Some(SmId(session.into())),
            max: 300,
            seed: 0,
        };
        self.apply(Command::Enable(enable));
        epoch
    }

    /// The session's client has these blocked from now on, and those no longer.
    pub(super) fn block(&mut self, session: &str, block: &[&str], unblock: &[&str]) -> Vec<Output> {
        let found = self.state.blocklist_revision(&jid(session).bare());
        let update = blocked(found, found + 1, block, unblock);
        self.act(session, Action::Blocklist(update))
    }

    /// One stanza from the session's client.
    pub(super) fn act(&mut self, session: &str, action: Action) -> Vec<Output> {
        let session = jid(session);
        let (epoch, first) = self
            .state
            .session(&session)
            .map(|s| (s.epoch(), s.next_in()))
            .expect("bound");
        let inbound = Inbound {
            session,
            epoch,
            first,
            stanzas: vec![vec![action]],
        };
        let (outcome, outputs) = self.apply(Command::Inbound(inbound));
        assert_eq!(outcome, Outcome::Handled { next: first + 1 });
        outputs
    }

    pub(super) fn lose(&mut self, session: &str) -> Vec<Output> {
        let session = jid(session);
        let epoch = self.state.session(&session).expect("bound").epoch();
        self.apply(Command::Lost { session, epoch }).1
    }

    /// The client has everything.
    pub(super) fn acknowledge_all(&mut self, session: &str) {
        let session = jid(session);
        let (epoch, upto) = self
            .state
            .session(&session)
            .map(|s| (s.epoch(), s.queue.next()))
            .expect("bound");
        let ack = Acknowledge {
            session,
            epoch,
            upto,
        };
        self.apply(Command::Acknowledge(ack));
    }

    /// A client with this count resumes the session.
    pub(super) fn resume(&mut self, session: &str, h: u32) -> (Outcome, Vec<Output>) {
        self.conns += 1;
        let resume = Resume {
            account: jid(session).bare(),
            smid: SmId(session.into()),
            h,
            owner: owner(self.conns),
        };
        self.apply(Command::Resume(resume))
    }

    /// Clients send these in one entry.
    pub(super) fn send(&mut self, messages: impl IntoIterator<Item = Message>) -> Vec<Output> {
        let mut stanzas: BTreeMap<Jid, Vec<Vec<Action>>> = BTreeMap::new();
        for message in messages {
            let from = message.packet.header.from.clone().expect("a sender");
            let action = Action::Send(Relay::Message(message));
            stanzas.entry(from).or_default().push(vec![action]);
        }
        let mut outputs = Vec::new();
        for (session, stanzas) in stanzas {
            let bound = self.state.session(&session).expect("bound");
            let inbound = Inbound {
                epoch: bound.epoch(),
                first: bound.next_in(),
                session,
                stanzas,
            };
            outputs.extend(self.apply(Command::Inbound(inbound)).1);
        }
        outputs
    }

    /// The client of this session has everything below `upto`.
    pub(super) fn acknowledge(&mut self, session: &str, upto: u64) -> Vec<Output> {
        let session = jid(session);
        let epoch = self.state.session(&session).expect("bound").epoch();
        let ack = Acknowledge {
            session,
            epoch,
            upto,
        };
        self.apply(Command::Acknowledge(ack)).1
    }

    /// Carries out one effect after the other until none is left.
    pub(super) fn work(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(pending) = self.state.pending(EffectId(0), 1).pop() {
            let messages = match &*pending.effect {
                Effect::Archive(row) => {
                    let fetched = Fetched {
                        mid: row.mid,
                        stamp: row.stamp,
                        archived: !row.hidden,
                        packet: row.packet.clone(),
                    };
                    self.archive.insert((row.owner.clone(), row.mid), fetched);
                    Vec::new()
                }
                Effect::Forget { account, mids } => {
                    for mid in mids {
                        let row = self.archive.remove(&(account.clone(), *mid));
                        assert!(row.is_some_and(|row| !row.archived), "not a hidden row");
                    }
                    Vec::new()
                }
                Effect::Fetch { session, mids } => self.rows(&session.bare(), mids),
                Effect::Return { account, mids } => self.rows(account, mids),
                _ => Vec::new(),
            };
            let mut done = Completed {
                id: pending.id,
                relays: Vec::new(),
                messages,
            };
            let more = done.messages.get(1).map(|second| second.mid);
            let rest = more.filter(|_| self.in_parts);
            let rest = rest.and_then(|next| behind(&pending.effect, next));
            let command = match rest {
                Some(rest) => {
                    done.messages.truncate(1);
                    Command::DoneInPart { part: done, rest }
                }
                None => Command::Done(vec![done]),
            };
            outputs.extend(self.apply(command).1);
        }
        outputs
    }

    fn rows(&self, account: &BareJid, mids: &[ArchiveId]) -> Vec<Fetched> {
        let rows = mids.iter();
        rows.filter_map(|mid| self.archive.get(&(account.clone(), *mid)).cloned())
            .collect()
    }

    /// Hidden rows of all accounts.
    pub(super) fn hidden(&self) -> usize {
        self.archive.values().filter(|row| !row.archived).count()
    }

    pub(super) fn undelivered(&self, account: &str) -> usize {
        self.state
            .undelivered(&BareJid::new(account).expect("valid"))
    }
}

/// The same effect for the message `next` and those behind it.
fn behind(effect: &Effect, next: ArchiveId) -> Option<Effect> {
    let cut = |mids: &[ArchiveId]| {
        let place = mids.iter().position(|mid| *mid == next)?;
        Some(mids[place..].to_vec())
    };
    match effect {
        Effect::Fetch { session, mids } => Some(Effect::Fetch {
            session: session.clone(),
            mids: cut(mids)?,
        }),
        Effect::Return { account, mids } => Some(Effect::Return {
            account: account.clone(),
            mids: cut(mids)?,
        }),
        _ => None,
    }
}

/// The stanzas among the outputs, as `session: kind`.
pub(super) fn stanzas(outputs: &[Output]) -> Vec<(String, Kind)> {
    let stanzas = outputs.iter().filter_map(|o| match &o.event {
        Event::Stanza { item, .. } => Some((o.session.to_string(), item.packet.header.kind)),
        _ => None,
    });
    stanzas.collect()
}

/// The numbers of the stanzas for one connection.
pub(super) fn numbers(outputs: &[Output]) -> Vec<u64> {
    let numbers = outputs.iter().filter_map(|o| match o.event {
        Event::Stanza { seq, .. } => Some(seq),
        _ => None,
    });
    numbers.collect()
}
