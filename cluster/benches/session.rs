//! What sessions cost one shard: commands per second, and memory per hibernated session.
//!
//! ```sh
//! cargo bench -p holdfast-cluster --bench session
//! ```
//!
//! Memory is the growth of the resident set, so it holds what the allocator adds; the budget is 1 KiB for a
//! hibernated session with an empty queue and 16 KiB for one that is 500 archived messages over its bounds.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use std::time::Instant;

use bytes::Bytes;
use cluster::id::{ArchiveId, BootId, ConnId, EffectId, Epoch, NodeId, Owner, ShardId, SmId};
use cluster::session::{
    Action, Batch, Bind, Command, Completed, Enable, Inbound, Message, Outcome, PresenceUpdate,
    Relay, Resume, Settings, ShardState, Traits,
};
use proto::Jid;
use proto::stanza::{Header, Kind, MessageType, Packet, PresenceType};

const SESSIONS: usize = 20_000;
const ROUNDS: usize = 5;
const QUEUED: usize = 500;
const FULL: usize = 500;
const BATCH: usize = 64;

fn jid(user: usize) -> Jid {
    Jid::new(&format!("user{user}@example.org/phone")).expect("valid")
}

fn owner(conn: u64) -> Owner {
    Owner {
        node: NodeId(1),
        boot: BootId(1),
        conn: ConnId(conn),
    }
}

fn packet(kind: Kind, from: &Jid, to: Option<Jid>, payload: &'static [u8]) -> Packet {
    Packet {
        header: Header {
            kind,
            from: Some(from.clone()),
            to,
            id: Some("a1b2c3d4".into()),
            lang: None,
        },
        payload: Bytes::from_static(payload),
    }
}

/// A shard, with everything that its entries ask of a database done at once.
struct Shard {
    state: ShardState,
    now: u64,
}

impl Shard {
    fn new(settings: Settings) -> Self {
        let mut shard = Self {
            state: ShardState::new(ShardId(0), 1),
            now: 1_700_000_000_000,
        };
        shard.apply(vec![Command::Settings(settings)]);
        shard
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        self.now += 1;
        let batch = Batch {
            now: self.now,
            commands,
        };
        self.state.apply(batch).outcomes
    }

    fn all(&mut self, commands: impl Iterator<Item = Command>) {
        let mut batch = Vec::new();
        for command in commands {
            batch.push(command);
            if batch.len() == BATCH {
                self.apply(std::mem::take(&mut batch));
            }
        }
        self.apply(batch);
    }

    /// Binds a session that may be resumed and is available; returns its epoch.
    fn open(&mut self, session: &Jid, conn: u64) -> Epoch {
        let bind = Bind {
            session: session.clone(),
            owner: owner(conn),
        };
        let Some(Outcome::Bound { epoch }) = self.apply(vec![Command::Bind(bind)]).pop() else {
            panic!("{session} is not bound");
        };
        let enable = Enable {
            session: session.clone(),
            epoch,
            after: 0,
            smid: Some(SmId(format!("{conn:022}").into())),
            max: 300,
            seed: 0,
        };
        let update = PresenceUpdate {
            packet: packet(
                Kind::Presence(PresenceType::Available),
                session,
                None,
                b"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>",
            ),
            priority: 0,
            subscribers: Vec::new(),
            probes: Vec::new(),
            requests: Vec::new(),
        };
        let presence = Inbound {
            session: session.clone(),
            epoch,
            first: 1,
            stanzas: vec![vec![Action::Presence(update)]],
        };
        let read = cluster::session::Acknowledge {
            session: session.clone(),
            epoch,
            upto: 2,
        };
        self.apply(vec![
            Command::Enable(enable),
            Command::Inbound(presence),
            Command::Acknowledge(read),
        ]);
        epoch
    }

    fn settle(&mut self) {
        loop {
            let pending = self.state.pending(EffectId(0), 256);
            if pending.is_empty() {
                return;
            }
            let done = pending.iter().map(|pending| Completed {
                id: pending.id,
                relays: Vec::new(),
                messages: Vec::new(),
            });
            let done = done.collect();
            self.apply(vec![Command::Done(done)]);
        }
    }
}

/// Bytes of memory in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

fn speed() {
    let before = resident();
    let mut shard = Shard::new(Settings::default());
    let mut epochs: Vec<Epoch> = (0..SESSIONS)
        .map(|n| shard.open(&jid(n), n as u64))
        .collect();
    let opened = resident();
    sleep(&mut shard, &epochs);
    let asleep = resident();
    let mut seconds = 0.0;
    for round in 1..=ROUNDS {
        let start = Instant::now();
        wake(&mut shard, &mut epochs, round);
        sleep(&mut shard, &epochs);
        seconds += start.elapsed().as_secs_f64();
    }
    let commands = 2 * SESSIONS * ROUNDS;
    println!(
        "hibernate and resume: {:.0} commands/s",
        commands as f64 / seconds
    );
    println!("session, attached: {} bytes", (opened - before) / SESSIONS);
    println!(
        "session, hibernated, empty queue: {} bytes of at most 1024",
        (asleep - before) / SESSIONS
    );
}

/// Every connection is lost.
fn sleep(shard: &mut Shard, epochs: &[Epoch]) {
    let lost = epochs.iter().enumerate().map(|(n, epoch)| Command::Lost {
        session: jid(n),
        epoch: *epoch,
    });
    shard.all(lost);
}

/// Every client comes back.
fn wake(shard: &mut Shard, epochs: &mut [Epoch], round: usize) {
    let mut first = 0;
    for chunk in epochs.chunks_mut(BATCH) {
        let resume = |n: usize| {
            Command::Resume(Resume {
                account: jid(n).bare(),
                smid: SmId(format!("{n:022}").into()),
                h: 1,
                owner: owner((round * SESSIONS + n) as u64),
            })
        };
        let outcomes = shard.apply((first..first + chunk.len()).map(resume).collect());
        first += chunk.len();
        for (known, outcome) in chunk.iter_mut().zip(outcomes) {
            let Outcome::Resumed { epoch, .. } = outcome else {
                panic!("not resumed: {outcome:?}");
            };
            *known = epoch;
        }
    }
}

fn overflown() {
    let settings = Settings {
        // Nothing is held in full.
        max_queue_stanzas: 1,
        max_backlog_bytes: 0,
        max_undelivered: 0,
        ..Settings::default()
    };
    let mut shard = Shard::new(settings);
    let sender = Jid::new("sender@example.org/desk").expect("valid");
    let epoch = shard.open(&sender, 1_000_000);
    let mut next = 2;
    let before = resident();
    for n in 0..FULL {
        let session = jid(n);
        let held = shard.open(&session, n as u64);
        shard.apply(vec![Command::Lost {
            session: session.clone(),
            epoch: held,
        }]);
        let stanzas = (0..=QUEUED as u128).map(|k| {
            vec![Action::Send(Relay::Message(Message {
                packet: packet(
                    Kind::Message(MessageType::Chat),
                    &sender,
                    Some(Jid::from(session.bare())),
                    &[b'x'; 300],
                ),
                mid: ArchiveId::new(1_700_000_000_000, (n as u128) << 32 | k),
                traits: Traits {
                    archive_sent: false,
                    archive_received: true,
                    offline: true,
                    carbon: true,
                    important: true,
                },
            }))]
        });
        let stanzas: Vec<_> = stanzas.collect();
        let first = next;
        next += stanzas.len() as u64;
        shard.apply(vec![Command::Inbound(Inbound {
            session: sender.clone(),
            epoch,
            first,
            stanzas,
        })]);
        shard.settle();
    }
    println!(
        "session, hibernated, {QUEUED} archived messages over its bounds: {} bytes of at most 16384",
        (resident() - before) / FULL
    );
}

/// Each in a process of its own, so that neither lives on what the other has freed.
fn main() {
    const PARTS: [(&str, fn()); 2] = [("--speed", speed), ("--overflow", overflown)];
    let asked: Vec<String> = std::env::args().collect();
    for (name, part) in PARTS {
        if asked.iter().any(|arg| arg == name) {
            return part();
        }
    }
    let own = std::env::current_exe().expect("a running program has a file");
    for (name, _) in PARTS {
        let ended = std::process::Command::new(&own).arg(name).status();
        assert!(ended.is_ok_and(|status| status.success()), "{name} failed");
    }
}
