//! Puts a node's part of the cluster together.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::ask::Inquiries;
use crate::bootstrap::{self, Replication};
use crate::cluster::{Host, catch_up};
use crate::config::Config;
use crate::identity::Identity;
use crate::lead::batch::Batcher;
use crate::lead::duty::Duty;
use crate::lead::group::{self, Desk, LinkCourier, RaftGroup};
use crate::lead::junction::Junction;
use crate::lead::limits::Ledger;
use crate::lead::loss::{Peers, Watch};
use crate::lead::{Group, Queue, compare, stall};
use crate::limit::Tally;
use crate::link::Kind;
use crate::raft::groups::Group as Replicas;
use crate::raft::machine::Sink;
use crate::session::{Command, Settings};
use crate::{BootId, NodeId};

/// A node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, the disk or the network does not allow it.
    #[error(transparent)]
    Replication(#[from] bootstrap::StartError),
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
    pub(crate) replication: Replication,
    pub(crate) shards: Arc<[Arc<RaftGroup>]>,
    pub(crate) queues: Arc<[Queue]>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) peers: watch::Receiver<Peers>,
    pub(crate) taken_part: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) tasks: JoinSet<()>,
}

/// Runs on the cluster's runtime, and connections with other nodes on `links`. `listener` is used instead of the
/// configured address if there is one.
pub async fn start(
    config: &Config,
    listener: Option<TcpListener>,
    links: &Handle,
    host: Arc<dyn Host>,
    clock: fn() -> u64,
) -> Result<Parts, StartError> {
    let mut junction = None;
    let sink = |identity: &Identity| {
        let me = (identity.node(), identity.boot());
        let made = Arc::new(Junction::new(me, host.clone(), config.shards));
        junction = Some(made.clone());
        made as Arc<dyn Sink>
    };
    let replication = Replication::start(config, listener, links, sink).await?;
    let junction = junction.ok_or(StartError::Interrupted)?;
    let me = (replication.identity.node(), replication.identity.boot());
    let shards = shards(&replication, &junction);
    let links = replication.links.clone();

    let mut tasks = JoinSet::new();
    let (peers_in, peers) = watch::channel(Peers::default());
    let settings = watch::Sender::new(config.settings);
    let (formats_in, formats) = group::formats(links.as_ref());
    let ledger = Ledger {
        address: config.redis.clone(),
        tally: Arc::default(),
    };
    let (queues, inboxes): (Vec<_>, Vec<_>) = shards.iter().map(|_| Queue::new()).unzip();
    let queues: Arc<[Queue]> = queues.into();
    let courier = Arc::new(LinkCourier(links.clone()));
    let watch = Watch::new(me, &peers, config.lost_after);
    watch_shards(&mut tasks, (me.0, &peers), &shards, &queues);
    for (group, inbox) in shards.iter().zip(inboxes) {
        let formats = formats.clone();
        tasks.spawn(Batcher::new(group.clone(), courier.clone(), formats, clock, inbox).run());
        let (group, queues, host) = (group.clone(), queues.clone(), host.clone());
        let (watch, settings) = (watch.clone(), settings.subscribe());
        tasks.spawn(Duty::new(group, queues, host, watch, ledger.clone(), settings).run());
    }
    if let Some(links) = &links {
        let (groups, queues) = (shards.clone(), queues.clone());
        let desk = Desk { groups, queues };
        links.serve(&group::KINDS, Arc::new(desk));
        links.serve(&[Kind::Ask], Arc::new(Inquiries(host.clone())));
        tasks.spawn(group::watch_peers(links.clone(), peers_in));
        tasks.spawn(group::watch_formats(links.clone(), formats_in));
    }
    let news = announce(me, shards.clone(), queues.clone(), courier);
    let taken_part = Arc::new(AtomicBool::new(false));
    let told = taken_part.clone();
    tasks.spawn(async move {
        news.await;
        told.store(true, Ordering::Relaxed);
    });
    Ok(Parts {
        me,
        replication,
        shards,
        queues,
        settings,
        peers,
        taken_part,
        tally: ledger.tally,
        tasks,
    })
}

/// Has it said when a shard stands still, and what its hash is.
fn watch_shards(
    tasks: &mut JoinSet<()>,
    (me, peers): (NodeId, &watch::Receiver<Peers>),
    shards: &[Arc<RaftGroup>],
    queues: &[Queue],
) {
    for (group, queue) in shards.iter().zip(queues) {
        tasks.spawn(stall::run(group.clone(), queue.clone(), me, peers.clone()));
        tasks.spawn(compare::run(group.clone(), queue.clone(), me));
    }
}

fn shards(replication: &Replication, junction: &Junction) -> Arc<[Arc<RaftGroup>]> {
    let groups = &replication.groups;
    let room = group::Room {
        shortage: replication.shortage.clone(),
        pressure: replication.log.pressure(),
    };
    let shard = |group: &Arc<Replicas>| {
        let leadership = groups.watch_leader(group.shard)?;
        Some(Arc::new(RaftGroup::new(
            group.clone(),
            leadership,
            room.clone(),
            junction,
        )))
    };
    groups.all().iter().filter_map(shard).collect()
}

/// Tells every shard that connections of earlier runs of this process are gone, and catches up with it.
async fn announce(
    me: (NodeId, BootId),
    shards: Arc<[Arc<RaftGroup>]>,
    queues: Arc<[Queue]>,
    courier: Arc<LinkCourier>,
) {
    let (node, alive) = (me.0, Some(me.1));
    let earlier = |owners: &BTreeSet<(NodeId, BootId)>| {
        let mut ours = owners.iter().filter(|owner| owner.0 == node);
        ours.any(|owner| Some(owner.1) != alive)
    };
    for (group, queue) in shards.iter().zip(queues.iter()) {
        loop {
            // It is small, and nothing else ends the attempts.
            drop(queue.insist(Command::NodeLost { node, alive }, false).await);
            while let Err(error) = catch_up(&**group, &*courier).await {
                tracing::debug!(shard = %group.shard(), %error, "not yet caught up");
                sleep(Duration::from_millis(20)).await;
            }
            // An entry gives up so many and no more.
            if !earlier(&group.read(|state| state.owners())) {
                break;
            }
        }
    }
}
