//! Shards without consensus, for tests of what stands on it: each has one state that all nodes share, a
//! leader that the test appoints, and answers that get lost when the test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::loss::PeerWatch;
use super::mirror::task::Mirror;
use super::tasks::LeaderTasks;
use crate::cluster::Host;
use crate::config::LOST_AFTER;
use crate::format::Version;
use crate::id::EffectId;
use crate::peers::Peers;
use crate::propose::batch::{self, Batcher};
use crate::propose::{
    EncodedEntry, Leadership, NotLeader, Notices, Proposer, ShardGroup, ShardRequest, Transport,
    Unreached,
};
use crate::session::{
    Batch, Completed, Event, Notice, Outcome, Output, Pending, Settings, ShardState,
};
use crate::{BootId, NodeId, ShardId};

pub(crate) fn clock() -> u64 {
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
    notices: broadcast::Sender<Notices>,
}

/// All shards and nodes.
pub(crate) struct World {
    shards: Vec<Shard>,
    nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    /// Of so many answers one gets lost; 0 = none.
    pub(crate) lossy: AtomicU32,
    answers: AtomicU32,
    /// Where nodes that are started from now on count hibernated sessions.
    pub(crate) mirror: Mutex<Mirror>,
}

/// A node as tests see it.
pub(crate) struct Node {
    pub(crate) proposers: Arc<[Proposer]>,
    pub(crate) groups: Vec<Arc<FakeGroup>>,
    pub(crate) host: Arc<FakeHost>,
    pub(crate) peers: watch::Sender<Peers>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) formats: watch::Sender<Version>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
}

/// Notes what it is told, and performs what it is asked for, after failing a few times.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) outputs: Mutex<Vec<Output>>,
    pub(crate) failures: AtomicU32,
    pub(crate) performed: Mutex<Vec<Pending>>,
}

impl FakeHost {
    /// The payloads that were delivered, in order, each number once.
    pub(crate) fn delivered(&self) -> Vec<String> {
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

pub(crate) struct FakeGroup {
    world: Arc<World>,
    shard: ShardId,
    me: NodeId,
    leadership: watch::Receiver<Leadership>,
}

impl World {
    pub(crate) fn new(shards: u16) -> Arc<Self> {
        let shard = |id| Shard {
            state: Mutex::new(ShardState::new(ShardId(id), shards)),
            index: AtomicU64::new(0),
            leader: watch::Sender::new((None, 0)),
            applied: watch::Sender::new(()),
            notices: broadcast::Sender::new(1024),
        };
        Arc::new(Self {
            shards: (0..shards).map(shard).collect(),
            nodes: Mutex::default(),
            lossy: AtomicU32::new(0),
            answers: AtomicU32::new(0),
            mirror: Mutex::default(),
        })
    }

    pub(crate) fn appoint(&self, shard: u16, leader: Option<u64>) {
        let change = |(node, term): &mut (Option<NodeId>, u64)| {
            (*node, *term) = (leader.map(NodeId), *term + 1)
        };
        self.shards[usize::from(shard)].leader.send_modify(change);
    }

    pub(crate) fn state(&self, shard: ShardId) -> MutexGuard<'_, ShardState> {
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
    pub(crate) fn node(self: &Arc<Self>, id: u64) -> Arc<Node> {
        let me = NodeId(id);
        let host = Arc::new(FakeHost::default());
        let mut tasks = JoinSet::new();
        let shards = (0..).map(ShardId).take(self.shards.len());
        let groups: Vec<_> = shards
            .map(|shard| self.group(shard, me, &mut tasks))
            .collect();
        let (proposers, inboxes): (Vec<_>, Vec<_>) = groups.iter().map(|_| Proposer::new()).unzip();
        let proposers: Arc<[Proposer]> = proposers.into();
        let peers = watch::Sender::new(Peers::default());
        let settings = watch::Sender::new(Settings::default());
        let formats = watch::Sender::new(Version::CURRENT);
        for (group, inbox) in groups.iter().zip(inboxes) {
            let transport = Arc::new(FakeTransport(self.clone()));
            tasks.spawn(
                Batcher::new(group.clone(), transport, formats.subscribe(), clock, inbox).run(),
            );
            let watch = PeerWatch::new((me, BootId(1)), &peers.subscribe(), LOST_AFTER);
            let duty = LeaderTasks::new(
                group.clone(),
                proposers.clone(),
                (host.clone(), Handle::current()),
                watch,
                self.mirror.lock().expect("whole").clone(),
                settings.subscribe(),
            );
            tasks.spawn(duty.run());
        }
        let node = Arc::new(Node {
            proposers,
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
    pub(crate) fn kill(&self, id: u64) {
        let node = self
            .nodes
            .lock()
            .expect("whole")
            .remove(&NodeId(id))
            .expect("runs");
        node.tasks.lock().expect("whole").abort_all();
    }
}

impl ShardGroup for FakeGroup {
    fn shard(&self) -> ShardId {
        self.shard
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    async fn write(&self, entry: EncodedEntry) -> Result<Vec<Outcome>, NotLeader> {
        tokio::task::yield_now().await;
        let shard = &self.world.shards[usize::from(self.shard.0)];
        let (version, batch) = Batch::read(&entry.bytes()).expect("our own");
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
        drop(shard.notices.send(applied.notices.into()));
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

    fn notices(&self) -> broadcast::Receiver<Notices> {
        self.world.shards[usize::from(self.shard.0)]
            .notices
            .subscribe()
    }
}

struct FakeTransport(Arc<World>);

impl Transport for FakeTransport {
    async fn call(
        &self,
        to: NodeId,
        shard: ShardId,
        asked: ShardRequest,
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
        let answer = batch::answer(&*node.groups[at], &node.proposers[at], asked, &payload).await;
        if self.0.loses() {
            Err(Unreached)
        } else {
            Ok(answer)
        }
    }
}
