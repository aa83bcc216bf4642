//! Everything of a node that replicates, started and stopped in order.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinError};
use tokio::time;

use crate::config::{Config, ConfigError};
use crate::identity::{self, Identity, IdentityError};
use crate::link::{Kind, LinkStartError, Links, PeerEvent};
use crate::raft::Fatal;
use crate::raft::failover::{Failover, SETTLED};
use crate::raft::groups::{Groups, GroupsError};
use crate::raft::log::{Log, LogError, Options};
use crate::raft::machine::Observer;
use crate::raft::membership::{self, Reconciler};
use crate::raft::roll::Roll;
use crate::raft::tell;
use crate::room::{self, Shortage};
use crate::{NodeId, bootstrap, clock, recover};

/// How often others are told again that this node is about to stop.
const AGAIN: Duration = Duration::from_millis(50);
/// How often others are reminded that this node should not lead.
const REMIND: Duration = Duration::from_secs(1);
/// How long a node that is about to stop waits for others to vote in its place.
const HANDOVER: Duration = Duration::from_secs(30);

/// The node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The node does not know who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node can talk to nobody.
    #[error(transparent)]
    Links(#[from] LinkStartError),
    /// The groups cannot be started.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// Reading the data directory was cut short.
    #[error("reading the data directory: {0}")]
    Reading(#[from] JoinError),
}

/// A seat cannot be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// Nobody had that seat, as far as this node knows.
    #[error("there is no node {0}, or this one has not met it since it started")]
    Unknown(u64),
    /// Its node runs, and would come back at once.
    #[error("node {0} is connected: stop it first")]
    Up(u64),
    /// The shard that decides it has no leader or no majority, or this node does not know all members yet.
    #[error(
        "it could not be decided, or is only about to be: shard 0 takes no entries, or not all members are known here; try again"
    )]
    Undecided,
}

/// Everything of this node that replicates: identity, log, links and groups.
pub struct Replication {
    /// Who this node is.
    pub identity: Identity,
    /// The log of all groups.
    pub log: Log,
    /// The links to other nodes, unless there are none.
    pub links: Option<Links>,
    /// The groups.
    pub groups: Groups,
    /// What this node lacks at the moment (disk space, file descriptors) to take entries, if anything.
    pub shortage: watch::Receiver<Option<Shortage>>,
    /// What is known of the members.
    pub roll: Roll,
    failover: Option<Failover>,
    tasks: Vec<AbortHandle>,
}

impl Replication {
    /// Starts everything on the current runtime. It does not wait until the groups have leaders.
    ///
    /// `listener` is used instead of the configured address if there is one; connections with other nodes
    /// run on the runtime `links`; `observer` hears of applied entries.
    pub async fn start(
        config: &Config,
        listener: Option<TcpListener>,
        links: &Handle,
        observer: impl FnOnce(&Identity) -> Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let fatal = Fatal::abort();
        let (dir, seat) = (config.data_dir.clone(), config.seat);
        let options = Options {
            segment_bytes: config.log_segment_bytes,
            fsync: config.fsync,
            fatal: fatal.clone(),
            metrics: config.metrics.clone(),
            ..Options::default()
        };
        let shards = config.shards;
        let open = move || {
            recover::refuse_unfinished(&dir)?;
            identity::clear_if_replaced(&dir)?;
            let log = Log::open(&dir.join("log"), options)?;
            let identity = Identity::open(&dir, seat, log.is_new())?.agree_on(shards)?;
            Ok::<_, StartError>((log, identity))
        };
        let (log, identity) = tokio::task::spawn_blocking(open).await??;
        let links = match (config.is_single(), listener) {
            (true, _) => None,
            (false, Some(listener)) => Some(Links::start_on(listener, config, &identity, links)?),
            (false, None) => Some(Links::start(config, &identity, links)?),
        };
        let observer = observer(&identity);
        let ends = fatal.clone();
        let groups = Groups::start(config, &identity, &log, links.as_ref(), observer, ends).await?;
        let (said, shortage) = watch::channel(None);
        let watching = tokio::spawn(room::watch(
            config.data_dir.clone(),
            log.clone(),
            groups.clone(),
            said,
        ));
        let mut replication = Self {
            identity,
            log,
            links,
            groups,
            shortage,
            failover: None,
            roll: Roll::default(),
            tasks: vec![watching.abort_handle()],
        };
        match replication.links.clone() {
            None => {
                bootstrap::start_alone(config, &replication.identity, &replication.groups).await?;
                let rest = rest_once_led(replication.groups.clone());
                replication.tasks.push(tokio::spawn(rest).abort_handle());
            }
            Some(links) => replication.start_with(config, &links, fatal),
        }
        Ok(replication)
    }

    fn start_with(&mut self, config: &Config, links: &Links, fatal: Fatal) {
        self.roll.set_patience(config.patience());
        let told = end_if_replaced(links.subscribe(), self.identity.clone(), fatal);
        self.tasks.push(tokio::spawn(told).abort_handle());
        let failover = Failover::start(&self.groups, links, SETTLED);
        let spare = spare_the_short(failover.clone(), self.shortage.clone());
        self.tasks.push(tokio::spawn(spare).abort_handle());
        self.failover = Some(failover.clone());
        let reconciler = Reconciler {
            config: config.clone(),
            identity: self.identity.clone(),
            groups: self.groups.clone(),
            links: links.clone(),
            failover,
            roll: self.roll.clone(),
        };
        self.tasks
            .push(tokio::spawn(reconciler.run()).abort_handle());
        links.serve(&[Kind::Tell], Arc::new(tell::Hearer(self.groups.clone())));
        let tell = tell::run(self.groups.clone(), links.clone());
        self.tasks.push(tokio::spawn(tell).abort_handle());
        let birth = bootstrap::serve(config, &self.identity, links, &self.groups);
        self.tasks.push(tokio::spawn(birth).abort_handle());
    }

    /// Hands every leadership over and takes none from now on, because the node is about to stop. If a shard would
    /// then be left without a majority, since other nodes are away or about to stop too, others vote in their place
    /// first.
    pub async fn drain(&self) {
        let (Some(failover), Some(links)) = (&self.failover, &self.links) else {
            return;
        };
        let begun = clock::instant();
        loop {
            failover.drain().await;
            // A leader that had not heard of it may have given this node a vote just before: that has to arrive.
            time::sleep(AGAIN).await;
            if !membership::is_needed(&self.groups, links, failover) {
                return;
            }
            if clock::instant() - begun > HANDOVER {
                tracing::warn!(
                    "a shard is left without a majority: too few nodes are there to vote in it"
                );
                return;
            }
        }
    }

    /// Has others lead what this node leads, and vote in its place if too few would be left. To be repeated.
    pub async fn step_back(&self) {
        if let Some(failover) = &self.failover {
            failover.drain().await;
        }
    }

    /// This node may lead and vote again.
    pub async fn step_forward(&self) {
        if let Some(failover) = &self.failover {
            failover.undrain().await;
        }
    }

    /// The nodes to be retired so that the seat of a node that is away is given up: all that had it, and are members or
    /// were met.
    pub fn given_up(&self, seat: u64) -> Result<BTreeSet<NodeId>, RemoveError> {
        let own = self.identity.seat();
        let Some(links) = self
            .links
            .as_ref()
            .filter(|links| seat == own || links.seats().contains_key(&seat))
        else {
            return Err(RemoveError::Unknown(seat));
        };
        if seat == own || links.up().iter().any(|process| process.seat == seat) {
            return Err(RemoveError::Up(seat));
        }
        let found = self.roll.found();
        if found.targets.is_empty() {
            return Err(RemoveError::Undecided);
        }
        let members = found.members.into_iter();
        let members = members.filter_map(|(node, (of, _))| (of == seat).then_some(node));
        // It may have come and gone since the last look, or be no member of any shard.
        let met = links.absent().into_iter().map(|absence| absence.process);
        let met = met.filter_map(|process| (process.seat == seat).then_some(process.node));
        let had_it: BTreeSet<NodeId> = members.chain(met).collect();
        match had_it.is_empty() {
            true => Err(RemoveError::Unknown(seat)),
            false => Ok(had_it),
        }
    }

    /// Stops everything. For leaderships that were not handed over this is like a crash: the others have to elect.
    pub async fn shutdown(&self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(failover) = &self.failover {
            failover.shutdown();
        }
        if let Some(links) = &self.links {
            links.shutdown();
        }
        self.groups.shutdown().await;
    }
}

/// Ends the process once a peer says that this node is no longer a member. It joins anew when it is started again:
/// what it has on its disk is older than what the others have, and its votes no longer count.
async fn end_if_replaced(
    mut events: broadcast::Receiver<PeerEvent>,
    identity: Identity,
    fatal: Fatal,
) {
    loop {
        match events.recv().await {
            Ok(PeerEvent::Replaced) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
    let node = identity.node();
    let written = tokio::task::spawn_blocking(move || identity.retire(node)).await;
    if let Ok(Err(error)) = written {
        tracing::error!("cannot write the identity: {error}");
    }
    fatal.call(format_args!(
        "node {node} is no longer a member of its cluster, because it was away for long or was removed; \
         it joins anew when it is started again"
    ));
}

/// Has other nodes lead for as long as this one lacks disk space or file descriptors.
async fn spare_the_short(failover: Failover, mut shortage: watch::Receiver<Option<Shortage>>) {
    loop {
        let short = shortage.wait_for(Option::is_some).await.is_ok();
        if !short {
            return;
        }
        while shortage.borrow().is_some() {
            failover.step_back().await;
            time::sleep(REMIND).await;
        }
        failover.step_forward().await;
    }
}

/// Stops the timers of groups whose only member this node is, for good: once it leads it has nobody to tell, and nobody
/// else ever will.
async fn rest_once_led(groups: Groups) {
    for group in groups.all() {
        let mut leadership = group.watch_leader();
        if leadership.wait_for(|now| now.mine).await.is_ok() {
            group.raft.runtime_config().tick(false);
        }
    }
}

#[cfg(test)]
mod tests;
