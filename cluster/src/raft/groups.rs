//! The Raft groups of this node: one per shard, on one log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::async_runtime::WatchReceiver;
use openraft::{Config as RaftConfig, ServerState, SnapshotPolicy as RaftSnapshotPolicy};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError};

use super::known::Leadership;
use super::log::Log;
use super::machine::{Machine, Observer};
use super::network::{Factory, KINDS, RaftHandler};
use super::replica::{ShardReplica, members};
use super::snapshot::{SnapshotError, Turn};
use super::types::{GroupStopped, Raft};
use super::{Fatal, keep};
use crate::config::Config;
use crate::identity::Identity;
use crate::link::Links;
use crate::metrics::Metrics as Counters;
use crate::{NodeId, ShardId};

/// The number that is reserved for a group about the cluster itself. There is none yet.
pub const META_GROUP: u64 = 0;

/// The number of a shard's group.
pub fn group_of(shard: ShardId) -> u64 {
    u64::from(shard.0) + META_GROUP + 1
}

/// The groups cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// A snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// openraft refuses what it found on disk.
    #[error("shard {shard} cannot be started: {source}")]
    ShardGroup {
        /// The shard.
        shard: ShardId,
        /// The underlying error.
        source: GroupStopped,
    },
    /// openraft refuses its configuration.
    #[error("the configuration of the groups: {0}")]
    Config(#[from] openraft::ConfigError),
    /// Reading the snapshots was cut short.
    #[error("reading the snapshots: {0}")]
    Reading(#[from] JoinError),
}

/// All groups of this node. Clones share them.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    node: NodeId,
    groups: Vec<Arc<ShardReplica>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Groups {
    /// Reads snapshots and starts the groups on the current runtime. Groups of a new cluster wait until they are given
    /// members, by this node or by a peer.
    pub async fn start(
        config: &Config,
        identity: &Identity,
        log: &Log,
        links: Option<&Links>,
        observer: Arc<dyn Observer>,
        fatal: Fatal,
    ) -> Result<Self, GroupsError> {
        let raft_config = Arc::new(raft_config(&config.cluster_name).validate()?);
        let dir = config.data_dir.join("snapshots");
        let (shards, opened) = (config.shards, log.clone());
        let owner = identity.clone();
        let ends = fatal.clone();
        let open = move || open_machines(shards, &dir, &owner, &opened, &observer, &ends);
        let machines = tokio::task::spawn_blocking(open).await??;
        let node = identity.node();
        let (mut groups, mut rafts) = (Vec::new(), BTreeMap::new());
        for (shard, machine) in machines {
            let id = group_of(shard);
            let factory = Factory {
                links: links.cloned(),
                group: id,
            };
            let started = Raft::new(
                node.0,
                raft_config.clone(),
                factory,
                log.group(id),
                machine.clone(),
            )
            .await;
            let raft = started.map_err(|source| GroupsError::ShardGroup { shard, source })?;
            rafts.insert(id, (raft.clone(), machine.clone()));
            let (log, counters) = (log.group(id), config.metrics.clone());
            let replica = ShardReplica::new((node, shard), (raft, machine), log, counters);
            groups.push(Arc::new(replica));
        }
        let mut tasks = Vec::new();
        for group in &groups {
            let watched = watch_group(
                group.clone(),
                identity.clone(),
                links.cloned(),
                fatal.clone(),
            );
            tasks.push(tokio::spawn(watched).abort_handle());
        }
        let turn = Turn::default();
        let keep = keep::run(groups.clone(), log.clone(), turn.clone(), node);
        tasks.push(tokio::spawn(keep).abort_handle());
        if let Some(links) = links {
            let replicas = RaftHandler::new(identity.clone(), log.clone(), turn, rafts);
            links.serve(&KINDS, Arc::new(replicas));
        }
        Ok(Self(Arc::new(Inner {
            node,
            groups,
            tasks: Mutex::new(tasks),
        })))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// All groups, by shard.
    pub fn all(&self) -> &[Arc<ShardReplica>] {
        &self.0.groups
    }

    /// The group of a shard; `None` if there is no such shard.
    pub fn group(&self, shard: ShardId) -> Option<&Arc<ShardReplica>> {
        self.0.groups.get(usize::from(shard.0))
    }

    /// The group of a shard, as openraft runs it.
    #[cfg(test)]
    pub fn raft(&self, shard: ShardId) -> Option<&Raft> {
        self.group(shard).map(|group| &group.raft)
    }

    /// Who leads, and its changes.
    pub fn watch_leader(&self, shard: ShardId) -> Option<watch::Receiver<Leadership>> {
        self.group(shard).map(|group| group.watch_leader())
    }

    /// Stops all groups. What they have promised is on disk.
    pub async fn shutdown(&self) {
        for task in self
            .0
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            task.abort();
        }
        for group in self.all() {
            if let Err(error) = group.raft.shutdown().await {
                tracing::warn!("shard {} did not stop in order: {error}", group.shard);
            }
        }
    }
}

/// Failures are detected by the links, long before these timers expire. They are the fallback.
fn raft_config(cluster_name: &str) -> RaftConfig {
    RaftConfig {
        cluster_name: cluster_name.to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 64,
        replication_lag_threshold: u64::MAX / 2,
        snapshot_policy: RaftSnapshotPolicy::Never,
        // Entries are in memory and may be large, so few are kept behind a snapshot.
        max_in_snapshot_log_to_keep: 64,
        purge_batch_size: 1,
        enable_pre_vote: Some(true),
        // A restarted node must not go on as leader, since its state is only what its snapshot has.
        enable_leader_restore: Some(false),
        // An old copy of a log that was brought back to a node has to be brought up to date: without it the node
        // would stay behind, and the entries that it forgot would have one copy less, until the leader changes.
        allow_log_reversion: Some(true),
        backoff: String::from("50ms 100ms 200ms ..1s"),
        ..RaftConfig::default()
    }
}

fn open_machines(
    shards: u16,
    dir: &Path,
    identity: &Identity,
    log: &Log,
    observer: &Arc<dyn Observer>,
    fatal: &Fatal,
) -> Result<Vec<(ShardId, Machine)>, SnapshotError> {
    let open = |shard| {
        let owner = Some(identity.clone());
        let machine = Machine::open((shard, shards), dir, owner, observer.clone(), fatal.clone())?;
        machine.covers(log.group(group_of(shard)).purged())?;
        Ok((shard, machine))
    };
    (0..shards).map(|number| open(ShardId(number))).collect()
}

/// Follows the leader and the members of a group. This task is ended before the groups are stopped on purpose. So if it
/// sees a group stop, consensus has panicked, and the node must end rather than run without one of its shards.
async fn watch_group(
    group: Arc<ShardReplica>,
    identity: Identity,
    links: Option<Links>,
    fatal: Fatal,
) {
    let mut metrics = group.raft.server_metrics();
    let mut voted = false;
    let mut succession = Succession::default();
    loop {
        let (leadership, now) = {
            let seen = metrics.borrow_watched();
            let mine = seen.state == ServerState::Leader && seen.current_leader == Some(seen.id);
            let leadership = Leadership {
                leader: seen.current_leader.map(NodeId),
                mine,
                term: seen.vote.leader_id.term,
            };
            (leadership, members(&seen.committed_membership_config))
        };
        if let Some(before) = succession.note(leadership) {
            let is_there = links.as_ref().is_some_and(|links| links.is_up(before));
            let Counters {
                failovers,
                handovers,
                ..
            } = &group.counters;
            if is_there {
                handovers.inc()
            } else {
                failovers.inc()
            };
        }
        group.see(leadership, now);
        if !voted && !group.is_empty() {
            voted = true;
            remember_vote(&identity).await;
        }
        if metrics.changed().await.is_err() {
            group.stopped();
            let state = group.raft.metrics().borrow_watched().running_state.clone();
            let why = state.err().map(|fatal| format!(" ({fatal})"));
            return fatal.call(format_args!(
                "the consensus of shard {} has ended{}; if an old copy of a data directory was brought back to a node, \
                 that node must start without it",
                group.shard,
                why.unwrap_or_default()
            ));
        }
    }
}

/// Remembers who led a group last. Pure.
#[derive(Debug, Default)]
struct Succession(Option<NodeId>);

impl Succession {
    /// Takes who leads now. If this node has begun to lead, whom it has succeeded.
    fn note(&mut self, now: Leadership) -> Option<NodeId> {
        let leader = now.leader?;
        let before = self.0.replace(leader);
        before.filter(|before| now.mine && *before != leader)
    }
}

/// Writes to the identity that this node has voted.
async fn remember_vote(identity: &Identity) {
    let identity = identity.clone();
    match tokio::task::spawn_blocking(move || identity.set_voted()).await {
        Ok(Ok(())) => {}
        // An error is only logged: the identity guards against mistakes of operators, and the log's own writer guards
        // the log.
        Ok(Err(error)) => tracing::error!("cannot write the identity: {error}"),
        Err(error) => tracing::error!("writing the identity: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::raft::log::Options;
    use crate::raft::machine::tests::Deaf;
    use crate::session::Settings;

    #[test]
    fn whom_this_node_succeeds_is_told_once() {
        let (me, other) = (NodeId(1), NodeId(2));
        let led = |leader| Leadership {
            leader,
            mine: leader == Some(me),
            term: 1,
        };
        let mut succession = Succession::default();
        let mut turns = [Some(me), Some(other), None, Some(me), Some(me)].into_iter();
        let found: Vec<_> = turns
            .by_ref()
            .map(|leader| succession.note(led(leader)))
            .collect();
        assert_eq!(found, [None, None, None, Some(other), None]);
    }

    #[tokio::test]
    async fn f_25_a_group_that_ends_by_itself_ends_the_node() {
        let dir = tempfile::tempdir().expect("dir");
        let config = Config::single(dir.path().to_owned(), Settings::default());
        let log = Log::open(&dir.path().join("log"), Options::default()).expect("opens");
        let identity = Identity::open(dir.path(), 1, true).expect("opens");
        let (said, mut reasons) = mpsc::unbounded_channel();
        let fatal = Fatal::new(move |why| said.send(why.to_owned()).expect("is listened to"));
        let observer = Arc::new(Deaf);
        let groups = Groups::start(&config, &identity, &log, None, observer, fatal).await;
        let groups = groups.expect("starts");
        // As when the consensus panics, and not as when the node stops.
        groups
            .raft(ShardId(1))
            .expect("is there")
            .shutdown()
            .await
            .expect("stops");
        let said = tokio::time::timeout(Duration::from_secs(10), reasons.recv()).await;
        let why = said.expect("in time").expect("a reason");
        assert!(why.contains("the consensus of shard 1 has ended"), "{why}");
        groups.shutdown().await;
        assert!(reasons.try_recv().is_err(), "a stop in order is none");
    }
}
