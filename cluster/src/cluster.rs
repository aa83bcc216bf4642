//! The interface of this crate: [`Cluster`] for the server to call, [`Host`] for the server to implement.
//!
//! A [`Cluster`] is this node's part of the cluster: replicas of some shards, a subscription to each of the others, the
//! way of proposals to all of them, and the tasks of a leader for those that it leads. It has three runtimes of its
//! own, and its methods may be called from any other. The first keeps long parsing and slow clients from delaying an
//! election. The second is for connections between nodes, so that even a large entry does not delay a heartbeat. On the
//! third the host carries out effects, so that rows by the thousand delay no entry.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proto::{BareJid, Jid};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask;
use crate::clock;
use crate::config::{Config, LinkAuth, Patience};
use crate::id::{Epoch, Owner};
use crate::lead::mirror::{LimitCounters, LimitCounts};
use crate::link::Links;
use crate::link::tls::TlsError;
use crate::peers::Peers;
use crate::propose::admission::Admission;
use crate::propose::group::RaftGroup;
use crate::propose::{
    NotLeader, Proposer, Response, ShardGroup, ShardRequest, Transport, wait_applied,
};
use crate::replication::Replication;
use crate::room::Shortage;
use crate::session::query::{Owned, Query};
use crate::session::{
    Action, Command, Completed, Notice, Outcome, Output, Pending, Settings, ShardState,
};
use crate::shard::map::shard_of;
use crate::start::{self, Parts};
use crate::status::{self, NotReady};
use crate::subscribe::query;
use crate::subscribe::source::Source;
use crate::{BootId, ConnId, NodeId, ShardId, codec};

pub use crate::propose::admission::Permit;
pub use crate::propose::{ProposeError, Unavailable};
pub use crate::replication::RemoveError;
pub use crate::start::StartError;

mod health;

/// What the server provides. These methods are called on the cluster's own runtimes and must not block.
pub trait Host: Send + Sync + 'static {
    /// Takes outputs for connections of this process, in the order of the entries that caused them. Some may come
    /// twice when the replica changes that they come from.
    fn outputs(&self, outputs: Vec<Output>);
    /// Hears what happened to sessions of a shard, in the order of its entries; `leads` says whether this node leads
    /// the shard. It is called on every node with a replica, and again after a restart for entries that are replayed.
    fn notices(&self, shard: ShardId, leads: bool, notices: &[Notice]);
    /// Hears that outputs may have been skipped, because a snapshot has replaced entries or outputs come from another
    /// replica now. What local connections have missed has to be asked for ([`crate::session::query::Missed`]).
    fn resync(&self, shard: ShardId);
    /// Carries out effects in their order, on the node that leads the shard. Returns those that are done; the others
    /// are passed again later. The future is dropped when this node no longer leads.
    fn perform(&self, shard: ShardId, effects: Vec<Pending>) -> BoxFuture<'static, Vec<Completed>>;
    /// Answers the host of another node ([`Cluster::ask_others`]).
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
    proposers: Arc<[Proposer]>,
    admission: Admission<RaftGroup>,
    settings: watch::Sender<Settings>,
    peers: watch::Receiver<Peers>,
    /// Every shard has learned that earlier runs of this process are gone, and what is known of it here is current.
    taken_part: Arc<AtomicBool>,
    counters: Arc<LimitCounters>,
    draining: AtomicBool,
    /// The tasks of this node. [`Cluster::shutdown`] ends them, whichever clone it is called on.
    tasks: Mutex<JoinSet<()>>,
    /// The tasks run on it, so it is dropped after them.
    runtime: OwnRuntime,
    /// The runtime of connections with other nodes. Nothing slow may run on it.
    _links: OwnRuntime,
    /// The runtime on which the host carries out effects.
    _effects: OwnRuntime,
}

/// A runtime that is shut down in the background: the last clone may be dropped inside a task, where dropping a runtime
/// panics.
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
        let runtime =
            OwnRuntime::new("cluster", consensus_threads()).map_err(StartError::Runtime)?;
        let links = OwnRuntime::new("links", 1).map_err(StartError::Runtime)?;
        let effects = OwnRuntime::new("effects", 1).map_err(StartError::Runtime)?;
        let handle = runtime.handle().ok_or(StartError::Interrupted)?;
        let runtimes = start::Runtimes {
            links: links.handle().ok_or(StartError::Interrupted)?.clone(),
            effects: effects.handle().ok_or(StartError::Interrupted)?.clone(),
        };
        let start = {
            let config = config.clone();
            async move { start::start(&config, listener, &runtimes, host, clock::wall).await }
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
            proposers: parts.proposers,
            settings: parts.settings,
            peers: parts.peers,
            taken_part: parts.taken_part,
            counters: parts.counters,
            draining: AtomicBool::new(false),
            tasks: Mutex::new(parts.tasks),
            runtime,
            _links: links,
            _effects: effects,
        })))
    }

    /// The id of this node.
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
        match self.proposer(account) {
            Some(proposer) => proposer.propose(command).await,
            None => Err(Unavailable.into()),
        }
    }

    /// Waits until these stanzas of the account may be proposed. What follows from them queues up for the database and
    /// for other shards, and there has to be room for it; the permit holds that room and is to be kept until the
    /// stanzas are committed. The set names shards whose database has been away for so long that nothing more can wait
    /// for it: the caller has to refuse messages to their accounts if they are to be archived.
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

    /// Proposes a command that may wait for others for up to a quarter of a second, and that may be lost without harm.
    /// Acknowledgements are such commands.
    pub fn propose_lazily(&self, account: &BareJid, command: Command) {
        if let Some(proposer) = self.proposer(account) {
            proposer.propose_lazily(command);
        }
    }

    /// Asks the nearest replica of the account's shard, which may be behind.
    pub async fn query<Q: Query>(
        &self,
        account: &BareJid,
        query: Q,
    ) -> Result<Q::Answer, Unavailable> {
        query::ask(self.group(account), self.links(), query).await
    }

    /// The same; the answer contains all that was committed before the call.
    pub async fn query_latest<Q: Query>(
        &self,
        account: &BareJid,
        query: Q,
    ) -> Result<Q::Answer, Unavailable> {
        query::ask_latest(self.group(account), self.links(), query).await
    }

    /// Asks the nearest replica of a shard, which may be behind.
    pub async fn query_shard<Q: Query>(
        &self,
        shard: ShardId,
        query: Q,
    ) -> Result<Q::Answer, Unavailable> {
        let group = self.0.shards.get(usize::from(shard.0));
        query::ask(group.ok_or(Unavailable)?, self.links(), query).await
    }

    /// Reads the shards that have a replica on this node, one after another. `look` must be quick: entries wait for it.
    pub fn read_all<R>(&self, mut look: impl FnMut(ShardId, &ShardState) -> R) -> Vec<R> {
        let here = self.0.shards.iter();
        let here = here.filter(|group| group.source() == Source::Here);
        here.map(|group| group.read(|state| look(group.shard(), state)))
            .collect()
    }

    /// Asks the hosts of all other nodes that are connected; those that do not answer within two seconds are left
    /// out.
    pub async fn ask_others(&self, question: &Bytes) -> Vec<Bytes> {
        match &self.0.replication.links {
            Some(links) => ask::ask(links, question).await,
            None => Vec::new(),
        }
    }

    /// Sessions of a shard that connections of this process own, with their epochs. It goes through some accounts
    /// behind `after`; the second value is where the next call has to begin.
    pub async fn owned(
        &self,
        shard: ShardId,
        after: Option<BareJid>,
    ) -> Result<(Vec<(Jid, Epoch, ConnId)>, Option<BareJid>), Unavailable> {
        let process = self.0.me;
        self.query_shard(shard, Owned { process, after }).await
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
            let voters: Vec<NodeId> = group.replica().voters().into_values().collect();
            let reached = status::reach(shard, leader, &voters, self.0.me.0, &peers)
                .and_then(|()| status::has_source(shard, group.source(), &peers));
            Some((shard, reached.err()?))
        };
        self.0.shards.iter().filter_map(cut).collect()
    }

    /// Changes the settings that this node has its shards follow where it leads them.
    pub fn set_settings(&self, settings: Settings) {
        self.0.settings.send_replace(settings);
    }

    /// Changes how nodes know each other, for connections that are made from now on. Reads files, and so blocks.
    pub fn set_auth(&self, auth: &LinkAuth) -> Result<(), TlsError> {
        let links = self.0.replication.links.as_ref();
        links.map_or(Ok(()), |links| links.set_auth(auth))
    }

    /// Changes when a node that is away is given up.
    pub fn set_patience(&self, patience: Patience) {
        self.0.replication.roll.set_patience(patience);
    }

    /// How this node, as a leader, has decided about limits, and whether Redis answers.
    pub fn limit_counts(&self) -> LimitCounts {
        self.0.counters.counts()
    }

    /// Whether clients are welcome: every shard has a leader and a quorum, and is up to date here.
    pub fn ready(&self) -> Result<(), NotReady> {
        self.obstacles().into_iter().next().map_or(Ok(()), Err)
    }

    /// What this node lacks at the moment to take entries, if anything.
    pub fn shortage(&self) -> Option<Shortage> {
        *self.0.replication.shortage.borrow()
    }

    /// Gives up the seat of a node that is away: others vote in its place, and if it comes back it joins anew. Shard 0
    /// decides that; when this returns it is decided for good, whatever happens to this node or another.
    pub async fn remove(&self, seat: u64) -> Result<(), RemoveError> {
        let decides = self.0.proposers.first().ok_or(RemoveError::Undecided)?;
        for node in self.0.replication.given_up(seat)? {
            match decides.propose(Command::Retire { node }).await {
                Ok(Outcome::Done) => {}
                _ => return Err(RemoveError::Undecided),
            }
        }
        Ok(())
    }

    /// How many bytes the log of this node has on disk.
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

    /// Has others lead what this node leads, and vote in its place if too few would be left. It is to be repeated for as
    /// long as that is wanted, until [`Cluster::step_forward`].
    pub async fn step_back(&self) {
        let inner = self.0.clone();
        self.run(async move { inner.replication.step_back().await })
            .await;
    }

    /// This node may lead and vote again.
    pub async fn step_forward(&self) {
        let inner = self.0.clone();
        self.run(async move { inner.replication.step_forward().await })
            .await;
    }

    /// Stops everything that runs here. What was promised to anybody is on disk.
    pub async fn shutdown(&self) {
        // The tasks first: what they have proposed may still be answered.
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
        let inner = self.0.clone();
        self.run(async move { inner.replication.shutdown().await })
            .await;
    }

    /// Runs a future on the runtime of the groups.
    async fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(handle) = self.0.runtime.handle() {
            // It fails only if the runtime is gone, and then everything has stopped already.
            let _ = handle.spawn(work).await;
        }
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> Option<&Links> {
        self.0.replication.links.as_ref()
    }

    fn proposer(&self, account: &BareJid) -> Option<&Proposer> {
        self.0.proposers.get(usize::from(self.shard_of(account).0))
    }

    /// The index is in range: there is a group for each number below `shards`, and `shard_of` returns no other.
    fn group(&self, account: &BareJid) -> &Arc<RaftGroup> {
        &self.0.shards[usize::from(self.shard_of(account).0)]
    }
}

/// Threads for the groups: half of the cores, as the other half serves clients, and no more than a few, as the groups
/// wait for disks and for each other most of the time. On two cores a second one costs a tenth more than it gains.
fn consensus_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    (cores / 2).clamp(1, 4)
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

/// Asks the leader how far the log is committed, and waits until this replica has applied it.
pub(crate) async fn catch_up<G: ShardGroup, C: Transport>(
    group: &G,
    transport: &C,
) -> Result<(), NotLeader> {
    let leadership = *group.leadership().borrow();
    let index = match leadership.leader {
        _ if leadership.mine => group.read_index().await?,
        Some(leader) => {
            let asked = transport
                .call(leader, group.shard(), ShardRequest::ReadIndex, Bytes::new())
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
