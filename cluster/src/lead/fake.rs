//! Shards without consensus, for tests of what stands on it: each has one state that all nodes share, a
//! leader that the test appoints, and answers that get lost when the test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::batch::{self, Batcher};
use super::duty::Duty;
use super::limits::Ledger;
use super::loss::{Peers, Watch};
use super::{
    Courier, EncodedEntry, Group, Leadership, News, NotLeader, Question, Queue, Unreached,
};
use crate::cluster::Host;
use crate::config::LOST_AFTER;
use crate::format::Version;
use crate::id::EffectId;
use crate::session::{
    Batch, Completed, Event, Notice, Outcome, Output, Pending, Settings, ShardState,
};
use crate::{BootId, NodeId, ShardId};

pub(super) fn clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis() as u64
}

/// That these effects are done, and nothing follows from them.
pub(super) fn completed(ids: &[u64]) -> Vec<Completed> {
    let done = |id: &u64| Completed {
        id: EffectId(*id),
        relays: Vec::new(),
        messages: Vec::new(),
    };
    ids.iter().map(done).collect()
}

/// What all nodes share of a shard.
struct Shard {
    state: Mutex<ShardState>,
    index: AtomicU64,
    leader: watch::Sender<(Option<NodeId>, u64)>,
    applied: watch::Sender<()>,
    news: broadcast::Sender<News>,
}

/// All shards and nodes.
pub(super) struct World {
    shards: Vec<Shard>,
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    /// Of so many answers one gets lost; 0 = none.
    pub(super) lossy: AtomicU32,
    answers: AtomicU32,
    /// Where nodes that are started from now on count hibernated sessions.
    pub(super) ledger: Mutex<Ledger>,
}

/// A node as tests see it.
pub(super) struct Node {
    pub(super) queues: Arc<[Queue]>,
    pub(super) groups: Vec<Arc<FakeGroup>>,
    pub(super) host: Arc<FakeHost>,
    pub(super) peers: watch::Sender<Peers>,
    pub(super) settings: watch::Sender<Settings>,
    pub(super) formats: watch::Sender<Version>,
    pub(super) tasks: Mutex<JoinSet<()>>,
}

/// Notes what it is told, and performs what it is asked for, after failing a few times.
#[derive(Default)]
pub(super) struct FakeHost {
    pub(super) outputs: Mutex<Vec<Output>>,
    pub(super) failures: AtomicU32,
    pub(super) performed: Mutex<Vec<Pending>>,
}

impl FakeHost {
    /// The payloads that were delivered, in order, each number once.
    pub(super) fn delivered(&self) -> Vec<String> {
        let mut next = 1;
        let mut delivered = Vec::new();
        for output in self.outputs.lock().expect("whole").iter() {
            if let Event::Stanza { seq, item } = &output.event {
                assert_eq!(*seq, next, "numbers are consecutive");
                next += 1;
                delivered.push(String::from_utf8_lossy(&item.packet.payload).into_owned());
            }
        }
        delivered
    }
}

impl Host for FakeHost {
    fn answer(&self, question: Bytes) -> Bytes {
        question
    }

    fn outputs(&self, outputs: Vec<Output>) {
        self.outputs.lock().expect("whole").extend(outputs);
    }

    fn notices(&self, _: ShardId, _: bool, _: &[Notice]) {}

    fn resync(&self, _: ShardId) {}

    fn perform(&self, _: ShardId, effects: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>> {
        let failing = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let done = effects.iter().map(|effect| Completed {
            id: effect.id,
            relays: Vec::new(),
            messages: Vec::new(),
        });
        let done: Vec<Completed> = if failing.is_ok() {
            Vec::new()
        } else {
            done.collect()
        };
        self.performed.lock().expect("whole").extend(effects);
        Box::pin(async move { done })
    }
}

pub(super) struct FakeGroup {
    world: Arc<World>,
    shard: ShardId,
    me: NodeId,
    leadership: watch::Receiver<Leadership>,
}

impl World {
    pub(super) fn new(shards: u16) -> Arc<Self> {
        let shard = |id| Shard {
            state: Mutex::new(ShardState::new(ShardId(id), shards)),
            index: AtomicU64::new(0),
            leader: watch::Sender::new((None, 0)),
            applied: watch::Sender::new(()),
            news: broadcast::Sender::new(1024),
        };
        Arc::new(Self {
            shards: (0..shards).map(shard).collect(),
            nodes: Mutex::default(),
            lossy: AtomicU32::new(0),
            answers: AtomicU32::new(0),
            ledger: Mutex::default(),
        })
    }

    pub(super) fn appoint(&self, shard: u16, leader: Option<u64>) {
        let change = |(node, term): &mut (Option<NodeId>, u64)| {
            (*node, *term) = (leader.map(NodeId), *term + 1)
        };
        self.shards[usize::from(shard)].leader.send_modify(change);
    }

    pub(super) fn state(&self, shard: ShardId) -> MutexGuard<'_, ShardState> {
        self.shards[usize::from(shard.0)]
            .state
            .lock()
            .expect("whole")
    }

    fn loses(&self) -> bool {
        let one_in = self.lossy.load(Ordering::SeqCst);
        one_in > 0 && self.answers.fetch_add(1, Ordering::SeqCst) % one_in == one_in - 1
    }

    fn group(
        self: &Arc<Self>,
        shard: ShardId,
        me: NodeId,
        tasks: &mut JoinSet<()>,
    ) -> Arc<FakeGroup> {
        let (sender, leadership) = watch::channel(Leadership::default());
        let mut leader = self.shards[usize::from(shard.0)].leader.subscribe();
        leader.mark_changed();
        tasks.spawn(async move {
            while leader.changed().await.is_ok() {
                let (leader, term) = *leader.borrow_and_update();
                sender.send_replace(Leadership {
                    leader,
                    mine: leader == Some(me),
                    term,
                });
            }
        });
        Arc::new(FakeGroup {
            world: self.clone(),
            shard,
            me,
            leadership,
        })
    }

    /// A node with all its tasks.
    pub(super) fn node(self: &Arc<Self>, id: u64) -> Arc<Node> {
        let me = NodeId(id);
        let host = Arc::new(FakeHost::default());
        let mut tasks = JoinSet::new();
        let shards = (0..).map(ShardId).take(self.shards.len());
        let groups: Vec<_> = shards
            .map(|shard| self.group(shard, me, &mut tasks))
            .collect();
        let (queues, inboxes): (Vec<_>, Vec<_>) = groups.iter().map(|_| Queue::new()).unzip();
        let queues: Arc<[Queue]> = queues.into();
        let peers = watch::Sender::new(Peers::default());
        let settings = watch::Sender::new(Settings::default());
        let formats = watch::Sender::new(Version::CURRENT);
        for (group, inbox) in groups.iter().zip(inboxes) {
            let courier = Arc::new(FakeCourier(self.clone()));
            tasks.spawn(
                Batcher::new(group.clone(), courier, formats.subscribe(), clock, inbox).run(),
            );
            let watch = Watch::new((me, BootId(1)), &peers.subscribe(), LOST_AFTER);
            let duty = Duty::new(
                group.clone(),
                queues.clone(),
                host.clone(),
                watch,
                self.ledger.lock().expect("whole").clone(),
                settings.subscribe(),
            );
            tasks.spawn(duty.run());
        }
        let node = Arc::new(Node {
            queues,
            groups,
            host,
            peers,
            settings,
            formats,
            tasks: Mutex::new(tasks),
        });
        self.nodes.lock().expect("whole").insert(me, node.clone());
        node
    }

    /// The node is gone, and whatever it was about to do.
    pub(super) fn kill(&self, id: u64) {
        let node = self
            .nodes
            .lock()
            .expect("whole")
            .remove(&NodeId(id))
            .expect("runs");
        node.tasks.lock().expect("whole").abort_all();
    }
}

impl Group for FakeGroup {
    fn shard(&self) -> ShardId {
        self.shard
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    async fn write(&self, entry: EncodedEntry) -> Result<Vec<Outcome>, NotLeader> {
        tokio::task::yield_now().await;
        let shard = &self.world.shards[usize::from(self.shard.0)];
        let (version, batch) = Batch::read(&entry.into_bytes()).expect("our own");
        let nodes = self.world.nodes.lock().expect("whole").clone();
        let mut state = shard.state.lock().expect("whole");
        if shard.leader.borrow().0 != Some(self.me) {
            return Err(NotLeader);
        }
        let applied = state.apply_as(version, batch);
        assert_eq!(crate::session::invariant::broken(&state), None);
        for (id, node) in &nodes {
            let own = applied
                .outputs
                .iter()
                .filter(|output| output.owner.node == *id);
            node.host.outputs(own.cloned().collect());
        }
        drop(state);
        drop(shard.news.send(applied.notices.into()));
        shard.index.fetch_add(1, Ordering::SeqCst);
        shard.applied.send_replace(());
        if self.world.loses() {
            Err(NotLeader)
        } else {
            Ok(applied.outcomes)
        }
    }

    async fn read_index(&self) -> Result<u64, NotLeader> {
        match self.leadership.borrow().mine {
            true => Ok(self.applied_index()),
            false => Err(NotLeader),
        }
    }

    fn read<R>(&self, look: impl FnOnce(&ShardState) -> R) -> R {
        look(&self.world.state(self.shard))
    }

    fn applied_index(&self) -> u64 {
        self.world.shards[usize::from(self.shard.0)]
            .index
            .load(Ordering::SeqCst)
    }

    fn applied(&self) -> watch::Receiver<()> {
        self.world.shards[usize::from(self.shard.0)]
            .applied
            .subscribe()
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.world.shards[usize::from(self.shard.0)]
            .news
            .subscribe()
    }
}

struct FakeCourier(Arc<World>);

impl Courier for FakeCourier {
    async fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        question: Question,
        payload: Bytes,
    ) -> Result<Bytes, Unreached> {
        let node = self
            .0
            .nodes
            .lock()
            .expect("whole")
            .get(&to)
            .cloned()
            .ok_or(Unreached)?;
        let at = usize::from(shard.0);
        let answer = batch::answer(&*node.groups[at], &node.queues[at], question, &payload).await;
        if self.0.loses() {
            Err(Unreached)
        } else {
            Ok(answer)
        }
    }
}
