//! What a snapshot of a large shard costs: how long `apply` waits for it, and how long it takes to write it, to
//! start from it, and to bring it to another replica.
//!
//! ```sh
//! cargo bench -p holdfast-cluster --bench snapshot
//! ```
//!
//! 100,000 hibernated sessions have 1 GB of queues. `apply` has entries to do all the time; the budget is 50 ms
//! for one of them, whatever happens beside it. It needs 6 GB of memory and 4 GB of disk.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::id::{ArchiveId, BootId, ConnId, NodeId, Owner, ShardId, SmId};
use cluster::inner::{
    Collected, Entry, Fatal, Incoming, Machine, Observer, Part, Proposal, Snapshot, SnapshotData,
    TC, Turn,
};
use cluster::session::{
    Batch, Bind, Command, Enable, Message, Notice, Outcome, Output, Relay, ShardState, Traits,
};
use futures_util::stream;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use proto::Jid;
use proto::stanza::{Header, Kind, MessageType, Packet};

const SESSIONS: usize = 100_000;
const QUEUED: usize = 20;
const BODY: usize = 500;
/// What is transferred at a time.
const PIECE: usize = 256 << 10;
/// What `apply` may take.
const BUDGET: Duration = Duration::from_millis(50);
const NOW: u64 = 1_700_000_000_000;

struct Deaf;

impl Observer for Deaf {
    fn outputs(&self, _: ShardId, _: Vec<Output>) {}
    fn notices(&self, _: ShardId, _: Vec<Notice>) {}
    fn applied(&self, _: ShardId, _: u64) {}
    fn installed(&self, _: ShardId) {}
}

fn jid(user: usize) -> Jid {
    Jid::new(&format!("user{user}@example.org/phone")).expect("valid")
}

fn message(to: usize, number: u64) -> Relay {
    let payload = format!("<body>{}</body>", "x".repeat(BODY - 13));
    let header = Header {
        kind: Kind::Message(MessageType::Chat),
        from: Some(jid(SESSIONS)),
        to: Some(jid(to)),
        id: Some("a1b2c3d4".into()),
        lang: None,
    };
    Relay::Message(Message {
        packet: Packet {
            header,
            payload: Bytes::from(payload),
        },
        mid: ArchiveId::new(NOW, number.into()),
        traits: Traits {
            offline: true,
            ..Traits::default()
        },
    })
}

fn batch(commands: Vec<Command>) -> Batch {
    Batch { now: NOW, commands }
}

/// Hibernated sessions with full queues. What comes next from the other shard has the second number.
fn build() -> (ShardState, u64) {
    let mut state = ShardState::new(ShardId(0), 2);
    let mut first = 1;
    for n in 0..SESSIONS {
        let owner = Owner {
            node: NodeId(1),
            boot: BootId(1),
            conn: ConnId(n as u64),
        };
        let session = jid(n);
        let bind = Bind {
            session: session.clone(),
            owner,
        };
        let bound = state.apply(batch(vec![Command::Bind(bind)])).outcomes.pop();
        let Some(Outcome::Bound { epoch }) = bound else {
            panic!("not bound")
        };
        let enable = Enable {
            session: session.clone(),
            epoch,
            after: 0,
            smid: Some(SmId(format!("{n:022}").into())),
            max: 300,
            seed: 0,
        };
        let items: Vec<_> = (0..QUEUED as u64).map(|k| message(n, first + k)).collect();
        let queued = items.len() as u64;
        state.apply(batch(vec![
            Command::Enable(enable),
            Command::Lost { session, epoch },
            Command::Relay {
                from: ShardId(1),
                first,
                items,
            },
        ]));
        first += queued;
    }
    (state, first)
}

fn open(dir: &std::path::Path) -> Machine {
    Machine::open((ShardId(0), 2), dir, None, Arc::new(Deaf), Fatal::abort()).expect("opens")
}

fn state(machine: &Machine) -> ShardState {
    machine.replica().lock().expect("whole").state.clone()
}

/// Applies entries until it is told to stop.
struct Load {
    machine: Machine,
    index: u64,
    first: u64,
}

/// How long the entries took.
#[derive(Default)]
struct Waits(Vec<Duration>);

impl Waits {
    fn print(mut self, when: &str) {
        self.0.sort();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize];
        println!(
            "apply, {when}: {} entries, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?} of at most {BUDGET:?}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

impl Load {
    async fn one(&mut self) -> Duration {
        self.index += 1;
        // Far apart, so that each changes what nothing else has changed.
        let to = (self.index as usize).wrapping_mul(7919) % SESSIONS;
        let items = vec![message(to, self.first)];
        let relay = Command::Relay {
            from: ShardId(1),
            first: self.first,
            items,
        };
        self.first += 1;
        let entry = Entry {
            log_id: openraft::testing::log_id::<TC>(1, 1, self.index),
            payload: openraft::EntryPayload::Normal(Proposal::new(&batch(vec![relay]))),
        };
        let begun = Instant::now();
        let entries = stream::iter([Ok((entry, None))]);
        self.machine.apply(entries).await.expect("applies");
        begun.elapsed()
    }

    async fn run(mut self, stop: Arc<AtomicBool>) -> (Self, Waits) {
        let mut waits = Waits::default();
        while !stop.load(Ordering::Relaxed) {
            waits.0.push(self.one().await);
            // As many as a busy shard has, and no more: what is measured is the wait, not the queue.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        (self, waits)
    }
}

/// Does something while entries are applied.
async fn beside<T>(load: Load, when: &str, work: impl Future<Output = T>) -> (Load, T) {
    let stop = Arc::new(AtomicBool::new(false));
    let running = tokio::spawn(load.run(stop.clone()));
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    let (load, waits) = running.await.expect("runs");
    waits.print(when);
    (load, done)
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    peak.unwrap_or("VmHWM unknown").replace('\t', " ")
}

async fn transfer(snapshot: Snapshot, replica: &mut Machine) {
    let SnapshotData::Stored(stored) = snapshot.snapshot else {
        panic!("not stored")
    };
    let incoming = Incoming::new(Turn::default());
    let mut offset = 0;
    loop {
        let data = stored.read(offset, PIECE).expect("reads");
        let next = offset + data.len() as u64;
        let part = Part {
            transfer: 1,
            offset,
            data: data.into(),
            last: next == stored.length(),
        };
        offset = next;
        let collected = incoming.collect(replica.file(), (NodeId(1), 1), part).await;
        if let Collected::Whole(meta, received) = collected.expect("is taken") {
            let received = SnapshotData::Received(received);
            return replica
                .install_snapshot(&meta, received)
                .await
                .expect("installs");
        }
    }
}

#[tokio::main]
async fn main() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("dir"));
    let mut machine = open(dirs[0].path());
    let (built, first) = build();
    println!("built: {:?}, {}", built.totals(), peak());
    machine.replica().lock().expect("whole").state = built;
    let load = Load {
        machine: machine.clone(),
        index: 0,
        first,
    };
    let nothing = tokio::time::sleep(Duration::from_secs(5));
    let (load, ()) = beside(load, "nothing else", nothing).await;
    let begun = Instant::now();
    let snapshot = async {
        let mut view = machine.get_snapshot_builder().await;
        let viewed = begun.elapsed();
        (viewed, view.build_snapshot().await.expect("builds"))
    };
    let (load, (viewed, snapshot)) = beside(load, "beside a snapshot", snapshot).await;
    println!(
        "snapshot: view {viewed:?}, in all {:?}, {}",
        begun.elapsed(),
        peak()
    );
    let SnapshotData::Stored(stored) = &snapshot.snapshot else {
        panic!("not stored")
    };
    println!("snapshot: {} bytes", stored.length());

    let begun = Instant::now();
    let again = open(dirs[0].path());
    println!("restart: {:?}, {}", begun.elapsed(), peak());
    let begun = Instant::now();
    let mut replica = open(dirs[1].path());
    let transfer = transfer(snapshot, &mut replica);
    beside(load, "beside a transfer", transfer).await;
    println!(
        "transfer and installation: {:?}, {}",
        begun.elapsed(),
        peak()
    );
    assert!(state(&replica) == state(&again), "replicas differ");
}
