//! All that node sees.
//!
//! A [`Cluster`] is this node's part of it: replicas of all shards, queues of proposals to them, and the
//! duties of those that it leads. It runs on a runtime of its own, so that neither a long parse nor a
//! slow client delays an election, and its connections on another, so that no entry, however much it does,
//! delays a sign of life; its methods may be called from any other.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::ask;
use crate::bootstrap::Replication;
use crate::config::Config;
use crate::id::Owner;
use crate::lead::admission::Admission;
use crate::lead::group::{LinkCourier, RaftGroup};
use crate::lead::loss::Peers;
use crate::lead::{Courier, DEADLINE, Group, NotLeader, Question, Queue, Response, wait_applied};
use crate::limit::{LimitCounts, Tally};
use crate::link::Links;
use crate::room::Shortage;
use crate::session::{
    Action, Command, Completed, Item, Notice, Outcome, Output, Pending, Settings, ShardState,
};
use crate::shard::map::shard_of;
use crate::start::{self, Parts};
use crate::status::{self, NodeStatus, NotReady, Status};
use crate::{BootId, ConnId, NodeId, ShardId, codec};

pub use crate::lead::admission::Permit;
pub use crate::lead::{ProposeError, Unavailable};
pub use crate::start::StartError;

/// What node provides. Called from the cluster's own runtime; must not block.
pub trait Host: Send + Sync + 'static {
    /// For connections of this process, in the order of their entries.
    fn outputs(&self, outputs: Vec<Output>);
    /// What happened to sessions of a shard, in the order of its entries; `leads` if this node leads it. Every
    /// node with a replica hears of it, after a restart once more.
    fn notices(&self, shard: ShardId, leads: bool, notices: &[Notice]);
    /// A snapshot took the place of entries: what local connections missed is to be read from the state
    /// ([`Cluster::missed`]).
    fn resync(&self, shard: ShardId);
    /// This node leads the shard: carry out effects, in order. Returns those that are done; the rest is
    /// asked for again later. May be dropped when this node no longer leads.
    fn perform(&self, shard: ShardId, effects: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>>;
    /// Another node's host asks ([`Cluster::ask_others`]).
    fn answer(&self, question: Bytes) -> Bytes;
}

/// This node's part of the cluster. Clones share it; it stops when the last one is gone.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    config: Config,
    me: (NodeId, BootId),
    replication: Replication,
    shards: Arc<[Arc<RaftGroup>]>,
    queues: Arc<[Queue]>,
    admission: Admission<RaftGroup>,
    settings: watch::Sender<Settings>,
    peers: watch::Receiver<Peers>,
    /// Every shard has heard of this process, and its replica here is up to date.
    taken_part: Arc<AtomicBool>,
    tally: Arc<Tally>,
    draining: AtomicBool,
    /// Ended by [`Cluster::shutdown`], from whichever clone.
    tasks: Mutex<JoinSet<()>>,
    /// The last to go: the tasks run on it.
    runtime: OwnRuntime,
    /// What connections with other nodes run on. Nothing that takes its time does.
    _links: OwnRuntime,
}

/// A runtime may not be dropped where tasks run, which is where the last clone may be.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.0.me.0)
    }
}

impl Cluster {
    /// Reads what is on disk, connects with the others and takes part. Returns as soon as that is under
    /// way; [`Cluster::ready`] tells when clients are welcome.
    pub async fn start(config: Config, host: Arc<dyn Host>) -> Result<Self, StartError> {
        Self::start_on(config, None, host).await
    }

    /// The same with a listener for other nodes that is there already, as tests need it.
    pub async fn start_on(
        config: Config,
        listener: Option<TcpListener>,
        host: Arc<dyn Host>,
    ) -> Result<Self, StartError> {
        let runtime = OwnRuntime::new("cluster", 2).map_err(StartError::Runtime)?;
        let links = OwnRuntime::new("links", 1).map_err(StartError::Runtime)?;
        let handle = runtime.handle().ok_or(StartError::Interrupted)?;
        let connections = links.handle().ok_or(StartError::Interrupted)?.clone();
        let start = {
            let config = config.clone();
            async move { start::start(&config, listener, &connections, host, wall_clock).await }
        };
        let parts: Parts = handle
            .spawn(start)
            .await
            .map_err(|_| StartError::Interrupted)??;
        Ok(Self(Arc::new(Inner {
            config,
            me: parts.me,
            replication: parts.replication,
            admission: Admission::new(parts.shards.clone()),
            shards: parts.shards,
            queues: parts.queues,
            settings: parts.settings,
            peers: parts.peers,
            taken_part: parts.taken_part,
            tally: parts.tally,
            draining: AtomicBool::new(false),
            tasks: Mutex::new(parts.tasks),
            runtime,
            _links: links,
        })))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.0.me.0
    }

    /// A connection of this process, as an owner.
    pub fn owner(&self, conn: ConnId) -> Owner {
        let (node, boot) = self.0.me;
        Owner { node, boot, conn }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.0.config.shards
    }

    /// The shard that owns an account.
    pub fn shard_of(&self, account: &BareJid) -> ShardId {
        shard_of(account, self.0.config.shards)
    }

    /// Proposes to the account's shard, wherever its leader is; tried again over changes of leader, for up
    /// to ten seconds. Calls that are made one after another, each awaited, take effect in this order.
    pub async fn propose(
        &self,
        account: &BareJid,
        command: Command,
    ) -> Result<Outcome, ProposeError> {
        match self.queue(account) {
            Some(queue) => queue.propose(command).await,
            None => Err(Unavailable.into()),
        }
    }

    /// Waits until these stanzas of the account may be proposed: what follows from them has to wait for the
    /// database and for other shards, and there has to be room for it. The permit is to be kept until they are
    /// committed. Says also to which shards' accounts nothing may be sent that is to be archived, because the
    /// database has been away for long and nothing more can wait for it: those messages are to be refused.
    pub async fn admit(
        &self,
        account: &BareJid,
        stanzas: &[Vec<Action>],
    ) -> (Permit, BTreeSet<ShardId>) {
        self.0
            .admission
            .admit(self.shard_of(account), stanzas)
            .await
    }

    /// Hands over a command that may wait for company, a quarter of a second at most, and that does no
    /// harm if it is lost: acknowledgements.
    pub fn propose_lazily(&self, account: &BareJid, command: Command) {
        if let Some(queue) = self.queue(account) {
            queue.propose_lazily(command);
        }
    }

    /// Looks at the account's shard on this node, which may be behind. Must be quick: entries wait.
    pub fn read<R>(&self, account: &BareJid, look: impl FnOnce(&ShardState) -> R) -> R {
        self.group(account).read(look)
    }

    /// Looks at all shards on this node, one after another.
    pub fn read_all<R>(&self, mut look: impl FnMut(ShardId, &ShardState) -> R) -> Vec<R> {
        let shards = self.0.shards.iter();
        shards
            .map(|group| group.read(|state| look(group.shard(), state)))
            .collect()
    }

    /// Looks at the account's shard on this node once it contains all that was committed before the call.
    pub async fn read_latest<R>(
        &self,
        account: &BareJid,
        look: impl FnOnce(&ShardState) -> R + Send,
    ) -> Result<R, Unavailable> {
        let group = self.group(account).clone();
        let courier = LinkCourier(self.0.replication.links.clone());
        let latest = async {
            while catch_up(&*group, &courier).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, latest).await.map_err(|_| Unavailable)?;
        Ok(group.read(look))
    }

    /// Asks the hosts of all other nodes that are connected; those that do not answer within two seconds are left
    /// out.
    pub async fn ask_others(&self, question: &Bytes) -> Vec<Bytes> {
        match &self.0.replication.links {
            Some(links) => ask::ask(links, question).await,
            None => Vec::new(),
        }
    }

    /// Sessions of some accounts behind `after` that a shard says connections of this process act for, though
    /// it does not have them, with their epochs; and where the next look begins.
    pub fn ghosts(
        &self,
        shard: ShardId,
        after: Option<&BareJid>,
        is_here: impl Fn(ConnId) -> bool,
    ) -> (Vec<(Jid, u64)>, Option<BareJid>) {
        let group = self.0.shards.get(usize::from(shard.0));
        group.map_or_else(Default::default, |group| {
            group.read(|state| state.ghosts(self.0.me, after, is_here))
        })
    }

    /// Whether this node leads the account's shard, as far as it knows.
    pub fn leads(&self, account: &BareJid) -> bool {
        self.group(account).leadership().borrow().mine
    }

    /// The shards for which nothing can be committed from here, and why: no leader or no majority can be
    /// reached, or this node can take no entries, and so hears of nothing that others commit.
    pub fn cut_off(&self) -> Vec<(ShardId, NotReady)> {
        if let Some(shortage) = self.shortage() {
            let shards = self.0.shards.iter();
            return shards
                .map(|group| (group.shard(), shortage.into()))
                .collect();
        }
        let peers = self.0.peers.borrow().clone();
        let cut = |group: &Arc<RaftGroup>| {
            let shard = group.shard();
            let leader = group.leadership().borrow().leader;
            let voters: Vec<NodeId> = group.replicas().voters().into_values().collect();
            let reached = status::reach(shard, leader, &voters, self.0.me.0, &peers);
            Some((shard, reached.err()?))
        };
        self.0.shards.iter().filter_map(cut).collect()
    }

    /// What the owner of a session with this epoch is to write, from number `from` on; none if it no
    /// longer acts for the session.
    pub fn missed(&self, session: &Jid, epoch: u64, from: u64) -> Option<Vec<(u64, Arc<Item>)>> {
        self.read(&session.bare(), |state| state.missed(session, epoch, from))
    }

    /// Entries that this node proposes from now on carry these.
    pub fn set_settings(&self, settings: Settings) {
        self.0.settings.send_replace(settings);
    }

    /// What this node, where it leads, has found out about limits.
    pub fn limit_counts(&self) -> LimitCounts {
        self.0.tally.counts()
    }

    /// The cluster as this node knows it.
    pub fn status(&self) -> Status {
        let up = self
            .0
            .replication
            .links
            .as_ref()
            .map(Links::up)
            .unwrap_or_default();
        let mut nodes = vec![NodeStatus {
            seat: self.0.config.seat,
            node: Some(self.0.me.0),
            address: self.0.config.advertise.clone(),
            up: true,
            me: true,
        }];
        for peer in self
            .0
            .config
            .peers
            .iter()
            .filter(|peer| peer.seat != self.0.config.seat)
        {
            let node = up
                .iter()
                .find(|process| process.seat == peer.seat)
                .map(|process| process.node);
            let address = peer.address.clone();
            nodes.push(NodeStatus {
                seat: peer.seat,
                node,
                address,
                up: node.is_some(),
                me: false,
            });
        }
        nodes.sort_by_key(|node| node.seat);
        Status {
            nodes,
            shards: self
                .0
                .shards
                .iter()
                .map(|group| status::shard(group))
                .collect(),
        }
    }

    /// Whether clients are welcome: every shard has a leader and a quorum, and is up to date here.
    pub fn ready(&self) -> Result<(), NotReady> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err(NotReady::Draining);
        }
        if let Some(shortage) = self.shortage() {
            return Err(shortage.into());
        }
        if !self.0.taken_part.load(Ordering::Relaxed) {
            return Err(NotReady::Starting);
        }
        let peers = self.0.peers.borrow().clone();
        self.0
            .shards
            .iter()
            .try_for_each(|group| status::check(&status::shard(group), self.0.me.0, &peers))
    }

    /// What this node lacks to take on more, if anything.
    pub fn shortage(&self) -> Option<Shortage> {
        *self.0.replication.shortage.borrow()
    }

    /// What the log of this node takes up on disk.
    pub fn log_bytes(&self) -> u64 {
        self.0.replication.log.usage().bytes
    }

    /// Hands every leadership over to another node, and says of itself that it is not ready.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        let inner = self.0.clone();
        self.run(async move { inner.replication.drain().await })
            .await;
    }

    /// Ends all that runs here. What was promised is on disk.
    pub async fn shutdown(&self) {
        // The tasks first: what they have proposed may still be answered.
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
        let inner = self.0.clone();
        self.run(async move { inner.replication.shutdown().await })
            .await;
    }

    /// Runs something where the groups run.
    async fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(handle) = self.0.runtime.handle() {
            // It fails only if the runtime is gone, and then all is stopped.
            let _ = handle.spawn(work).await;
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, account: &BareJid) -> Option<&Queue> {
        self.0.queues.get(usize::from(self.shard_of(account).0))
    }

    /// There is one for each number below `shards`, which a shard's number always is.
    fn group(&self, account: &BareJid) -> &Arc<RaftGroup> {
        &self.0.shards[usize::from(self.shard_of(account).0)]
    }
}

impl OwnRuntime {
    fn new(name: &str, threads: usize) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Option<&tokio::runtime::Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

/// Waits until the state contains all that is committed now, by the word of the leader.
pub(crate) async fn catch_up<G: Group, C: Courier>(
    group: &G,
    courier: &C,
) -> Result<(), NotLeader> {
    let leadership = *group.leadership().borrow();
    let index = match leadership.leader {
        _ if leadership.mine => group.read_index().await?,
        Some(leader) => {
            let asked = courier
                .call(leader, group.shard(), Question::ReadIndex, Bytes::new())
                .await;
            match codec::decode(&asked.map_err(|_| NotLeader)?) {
                Ok(Response::Index(index)) => index,
                _ => return Err(NotLeader),
            }
        }
        None => return Err(NotLeader),
    };
    wait_applied(group, index).await
}

/// Milliseconds since 1970. A clock before that stands still, which shards survive.
fn wall_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
