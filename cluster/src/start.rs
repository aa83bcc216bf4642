//! Starts all parts of a node: replication, proposing, and the tasks of a leader.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ask::Inquiries;
use crate::cluster::Host;
use crate::config::Config;
use crate::identity::Identity;
use crate::lead::loss::PeerWatch;
use crate::lead::mirror::LimitCounters;
use crate::lead::mirror::task::Mirror;
use crate::lead::tasks::LeaderTasks;
use crate::link::{Kind, Links};
use crate::peers::{self, Peers};
use crate::propose::batch::Batcher;
use crate::propose::group::{self, LinkTransport, RaftGroup, RequestHandler};
use crate::propose::subscribers::Subscribers;
use crate::propose::{Proposer, ShardGroup, compare, stall};
use crate::raft::machine::Observer;
use crate::raft::replica::ShardReplica;
use crate::replication::{self, Replication};
use crate::session::query::HasEarlier;
use crate::session::{Command, Settings};
use crate::subscribe::query;
use crate::subscribe::source::{Source, Subscription};
use crate::{BootId, NodeId};

/// A node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, the disk or the network does not allow it.
    #[error(transparent)]
    Replication(#[from] replication::StartError),
    /// The system gives no threads.
    #[error("the cluster's threads cannot be started: {0}")]
    Runtime(io::Error),
    /// The start was cut short: the process is about to end.
    #[error("the start was interrupted")]
    Interrupted,
}

/// What a running node consists of.
pub struct Parts {
    pub(crate) me: (NodeId, BootId),
    pub(crate) replication: Replication,
    pub(crate) shards: Arc<[Arc<RaftGroup>]>,
    pub(crate) proposers: Arc<[Proposer]>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) peers: watch::Receiver<Peers>,
    pub(crate) taken_part: Arc<AtomicBool>,
    pub(crate) counters: Arc<LimitCounters>,
    pub(crate) tasks: JoinSet<()>,
}

/// Where what must not delay the groups runs.
pub struct Runtimes {
    /// Connections with other nodes.
    pub links: Handle,
    /// What the host does for leaders.
    pub effects: Handle,
}

/// Runs on the cluster's runtime, but for what has its own. `listener` is used instead of the
/// configured address if there is one.
pub async fn start(
    config: &Config,
    listener: Option<TcpListener>,
    runtimes: &Runtimes,
    host: Arc<dyn Host>,
    clock: fn() -> u64,
) -> Result<Parts, StartError> {
    let mut subscribers = None;
    let observer = |identity: &Identity| {
        let me = (identity.node(), identity.boot());
        // A node that is alone has all replicas. Another one has to find out where they are.
        let source = match config.is_single() {
            true => Source::Here,
            false => Source::None,
        };
        let made = Arc::new(Subscribers::new(me, host.clone(), config.shards, source));
        subscribers = Some(made.clone());
        made as Arc<dyn Observer>
    };
    let replication = Replication::start(config, listener, &runtimes.links, observer).await?;
    let subscribers = subscribers.ok_or(StartError::Interrupted)?;
    let me = (replication.identity.node(), replication.identity.boot());
    let shards = shards(&replication, &subscribers);
    let links = replication.links.clone();

    let mut tasks = JoinSet::new();
    let (peers_in, peers) = watch::channel(Peers::default());
    let settings = watch::Sender::new(config.settings);
    let (formats_in, formats) = peers::formats(links.as_ref());
    let mirror = Mirror {
        address: config.redis.clone(),
        counters: Arc::default(),
    };
    let (proposers, inboxes): (Vec<_>, Vec<_>) = shards.iter().map(|_| Proposer::new()).unzip();
    let proposers: Arc<[Proposer]> = proposers.into();
    let transport = Arc::new(LinkTransport(links.clone()));
    let watch = PeerWatch::new(me, &peers, config.lost_after);
    watch_shards(&mut tasks, (me.0, &peers), &shards, &proposers);
    for (group, inbox) in shards.iter().zip(inboxes) {
        let formats = formats.clone();
        tasks.spawn(Batcher::new(group.clone(), transport.clone(), formats, clock, inbox).run());
        let (group, proposers, host) = (group.clone(), proposers.clone(), host.clone());
        let (watch, settings) = (watch.clone(), settings.subscribe());
        let host = (host, runtimes.effects.clone());
        let leader = LeaderTasks::new(group, proposers, host, watch, mirror.clone(), settings);
        tasks.spawn(leader.retiring(replication.roll.orders()).run());
    }
    if let Some(links) = &links {
        serve(links, shards.clone(), proposers.clone(), host.clone());
        tasks.spawn(peers::watch_peers(links.clone(), peers_in));
        tasks.spawn(peers::watch_formats(links.clone(), formats_in));
        subscribe(&mut tasks, me.0, &shards, links, &peers, &host);
    }
    let taken_part = Arc::new(AtomicBool::new(false));
    let (all, queues, told) = (shards.clone(), proposers.clone(), taken_part.clone());
    tasks.spawn(announce(me, all, queues, links, told));
    Ok(Parts {
        me,
        replication,
        shards,
        proposers,
        settings,
        peers,
        taken_part,
        counters: mirror.counters,
        tasks,
    })
}

/// Answers what other nodes ask about shards, and what their hosts ask.
fn serve(
    links: &Links,
    groups: Arc<[Arc<RaftGroup>]>,
    proposers: Arc<[Proposer]>,
    host: Arc<dyn Host>,
) {
    let answers = query::Answers {
        groups: groups.clone(),
    };
    links.serve(&query::KINDS, Arc::new(answers));
    let handler = RequestHandler { groups, proposers };
    links.serve(&group::KINDS, Arc::new(handler));
    links.serve(&[Kind::Ask], Arc::new(Inquiries(host)));
}

/// Starts the tasks that each replica has whether it leads or not: they report a shard that stands still, and propose
/// its hash.
fn watch_shards(
    tasks: &mut JoinSet<()>,
    (me, peers): (NodeId, &watch::Receiver<Peers>),
    shards: &[Arc<RaftGroup>],
    proposers: &[Proposer],
) {
    for (group, proposer) in shards.iter().zip(proposers) {
        tasks.spawn(stall::run(
            group.clone(),
            proposer.clone(),
            me,
            peers.clone(),
        ));
        tasks.spawn(compare::run(group.clone(), proposer.clone(), me));
    }
}

/// Keeps a source of outputs for each shard.
fn subscribe(
    tasks: &mut JoinSet<()>,
    me: NodeId,
    shards: &[Arc<RaftGroup>],
    links: &Links,
    peers: &watch::Receiver<Peers>,
    host: &Arc<dyn Host>,
) {
    for group in shards {
        let subscription = Subscription {
            me,
            group: group.clone(),
            links: links.clone(),
            peers: peers.clone(),
            host: host.clone(),
        };
        tasks.spawn(subscription.run());
    }
}

fn shards(replication: &Replication, subscribers: &Subscribers) -> Arc<[Arc<RaftGroup>]> {
    let groups = &replication.groups;
    let room = group::LogRoom {
        shortage: replication.shortage.clone(),
        pressure: replication.log.pressure(),
    };
    let shard = |group: &Arc<ShardReplica>| {
        let leadership = groups.watch_leader(group.shard)?;
        Some(Arc::new(RaftGroup::new(
            group.clone(),
            leadership,
            room.clone(),
            subscribers.of(group.shard)?.clone(),
        )))
    };
    groups.all().iter().filter_map(shard).collect()
}

/// Tells every shard that connections of earlier runs of this process are gone, and waits until what is known of it
/// here contains that.
async fn announce(
    me: (NodeId, BootId),
    shards: Arc<[Arc<RaftGroup>]>,
    proposers: Arc<[Proposer]>,
    links: Option<Links>,
    taken_part: Arc<AtomicBool>,
) {
    let (node, alive) = (me.0, Some(me.1));
    for (group, proposer) in shards.iter().zip(proposers.iter()) {
        loop {
            // The only error would be that the command is too large, and this one is small.
            drop(proposer.insist(Command::NodeLost { node, alive }).await);
            let left = HasEarlier { process: me };
            match query::ask_latest(group, links.as_ref(), left).await {
                Ok(false) => break,
                // One entry gives up a bounded number of sessions, so there may be more.
                Ok(true) => {}
                Err(error) => {
                    tracing::debug!(shard = %group.shard(), %error, "not yet known");
                }
            }
        }
    }
    taken_part.store(true, Ordering::Relaxed);
}
