//! The start of a node's groups: it founds a cluster, joins one, or goes on with the one that its data directory names.
//!
//! The lowest seat creates the cluster if and only if *all* that are configured, or found by name, answer that they
//! belong to none and have nothing on their disks. First every seat writes down that it belongs to the new cluster,
//! then each starts its share of the groups, so that the first leaders are spread. If anybody has a cluster already,
//! everyone who has none joins that one, and the leaders of its groups do the rest ([`crate::raft::membership`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all, ready};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinError};
use tokio::time;

use crate::clock;
use crate::config::{Config, ConfigError};
use crate::identity::{self, ClusterId, Identity, IdentityError};
use crate::link::{Handler, Kind, LinkStartError, Links, PeerEvent, Request, To};
use crate::raft::Fatal;
use crate::raft::failover::{Failover, SETTLED};
use crate::raft::groups::{Groups, GroupsError, ShardReplica};
use crate::raft::log::{Log, LogError, Options};
use crate::raft::machine::Observer;
use crate::raft::membership::{self, Roll};
use crate::raft::placement;
use crate::raft::types::{RaftId, Seat};
use crate::room::{self, Shortage};
use crate::{NodeId, codec};

/// The pause between attempts to find a cluster or to finish creating one.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a peer may take to answer; it may have to write to its disk.
const ANSWER: Duration = Duration::from_secs(2);
/// How often others are reminded that this node should not lead.
const REMIND: Duration = Duration::from_secs(1);
/// A founder that was asked to start its groups starts the others' too after so long.
const SHARED_OUT: Duration = Duration::from_secs(1);
/// Addresses behind a name that have not changed for so long are all that there are.
const PUBLISHED: Duration = Duration::from_secs(5);
/// How long a node that is about to stop waits for others to vote in its place.
const HANDOVER: Duration = Duration::from_secs(30);
/// A seat that does not take part in founding the cluster within this time has to join it later.
const LATE: Duration = Duration::from_secs(5);

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
    failover: Option<Failover>,
    roll: Roll,
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
            ..Options::default()
        };
        let open = move || {
            identity::clear_if_replaced(&dir)?;
            let log = Log::open(&dir.join("log"), options)?;
            let identity = Identity::open(&dir, seat, log.is_new())?;
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
            None => replication.start_alone(config).await?,
            Some(links) => replication.start_with(config, &links, fatal),
        }
        Ok(replication)
    }

    /// Founds a cluster of one node, or goes on with it. There is nobody to wait for.
    async fn start_alone(&self, config: &Config) -> Result<(), StartError> {
        let founders = BTreeMap::from([(config.seat, self.identity.node())]);
        if self.identity.cluster().is_none() {
            self.identity.found(ClusterId(clock::random()), &founders)?;
        }
        for group in self.groups.all() {
            if group.is_empty() {
                let voters = founders.values().map(|node| node.0).collect();
                initialize(
                    group,
                    &voters,
                    &seats(&founders, |_| config.advertise.clone()),
                )
                .await;
            } else if let Err(stopped) = group.raft.trigger().elect(false).await {
                tracing::error!("shard {} has stopped: {stopped}", group.shard);
            }
        }
        Ok(())
    }

    fn start_with(&mut self, config: &Config, links: &Links, fatal: Fatal) {
        let birth = Arc::new(Birth {
            config: config.clone(),
            identity: self.identity.clone(),
            links: links.clone(),
            groups: self.groups.clone(),
            started: OnceLock::new(),
        });
        let told = end_if_replaced(links.subscribe(), self.identity.clone(), fatal);
        self.tasks.push(tokio::spawn(told).abort_handle());
        links.serve(
            &[Kind::Standing, Kind::Found],
            Arc::new(Answers(birth.clone())),
        );
        let failover = Failover::start(&self.groups, links, SETTLED);
        let spare = spare_the_short(failover.clone(), self.shortage.clone());
        self.tasks.push(tokio::spawn(spare).abort_handle());
        self.failover = Some(failover.clone());
        let (groups, roll) = (self.groups.clone(), self.roll.clone());
        let reconcile =
            membership::reconcile(config.clone(), groups, links.clone(), failover, roll);
        self.tasks.push(tokio::spawn(reconcile).abort_handle());
        self.tasks
            .push(tokio::spawn(async move { birth.run().await }).abort_handle());
    }

    /// Hands every leadership over and takes none from now on, because the node is about to stop. If a shard would
    /// then be left without a majority, since other nodes are away or about to stop too, others vote in their place
    /// first.
    pub async fn drain(&self) {
        let (Some(failover), Some(links)) = (&self.failover, &self.links) else {
            return;
        };
        let begun = clock::instant();
        failover.drain().await;
        while membership::is_needed(&self.groups, links, failover) {
            if begun.elapsed() > HANDOVER {
                tracing::warn!(
                    "a shard is left without a majority: too few nodes are there to vote in it"
                );
                return;
            }
            time::sleep(AGAIN).await;
            failover.drain().await;
        }
    }

    /// Gives a seat up whose node is away.
    pub fn remove(&self, seat: u64) {
        self.roll.remove(seat);
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

/// What a node answers when it is asked whether it belongs to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    cluster: Option<ClusterId>,
    node: NodeId,
    /// Nothing is on its disk.
    empty: bool,
}

/// The request to found a cluster. Every founder gets it twice: first to write it down, then to start its groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Founding {
    cluster: ClusterId,
    founders: BTreeMap<u64, NodeId>,
    /// All founders have written it down, so each may start its groups.
    start: bool,
}

/// What a node does until it belongs to a cluster whose groups run.
struct Birth {
    config: Config,
    identity: Identity,
    links: Links,
    groups: Groups,
    /// When the founders were first asked to start their groups.
    started: OnceLock<Instant>,
}

struct Answers(Arc<Birth>);

impl Handler for Answers {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let birth = self.0.clone();
        match request.kind {
            Kind::Standing => Box::pin(ready(Some(codec::encode(&birth.standing()).into()))),
            Kind::Found => Box::pin(async move {
                let founding = codec::decode(&request.payload).ok()?;
                birth.take_part(founding).await.then(Bytes::new)
            }),
            _ => Box::pin(ready(None)),
        }
    }
}

impl Birth {
    async fn run(&self) {
        while self.identity.cluster().is_none() {
            if let Err(error) = self.seek().await {
                tracing::error!("{error}");
            }
            time::sleep(AGAIN).await;
        }
        let incarnation = self.identity.incarnation();
        let mine = self.config.may_found();
        if let (true, Some(cluster), false) =
            (mine, incarnation.cluster, incarnation.founders.is_empty())
        {
            self.deliver(Founding {
                cluster,
                founders: incarnation.founders,
                start: false,
            })
            .await;
        }
    }

    fn standing(&self) -> Standing {
        let empty = self.groups.all().iter().all(|group| group.is_empty());
        Standing {
            cluster: self.identity.cluster(),
            node: self.identity.node(),
            empty,
        }
    }

    /// Joins the cluster that any other seat belongs to. If none does, this node may found one.
    async fn seek(&self) -> Result<(), StartError> {
        let seats = self.links.seats();
        let ask = |seat| async move {
            let answer = self
                .links
                .call(To::Seat(seat), Kind::Standing, 0, Bytes::new(), ANSWER)
                .await
                .ok()?;
            Some((seat, codec::decode::<Standing>(&answer).ok()?))
        };
        let answers: Vec<(u64, Standing)> = join_all(seats.keys().map(|seat| ask(*seat)))
            .await
            .into_iter()
            .flatten()
            .collect();
        let identity = self.identity.clone();
        if let Some(cluster) = answers.iter().find_map(|(_, standing)| standing.cluster) {
            tracing::info!(
                "joining cluster {:016x} as node {}",
                cluster.0,
                identity.node()
            );
            return Ok(tokio::task::spawn_blocking(move || identity.join(cluster)).await??);
        }
        let all =
            answers.len() == seats.len() && answers.iter().all(|(_, standing)| standing.empty);
        let mine = self.config.may_found() && self.standing().empty;
        if all && mine && self.has_met_all(seats.len()) {
            let mut founders: BTreeMap<u64, NodeId> = answers
                .into_iter()
                .map(|(seat, standing)| (seat, standing.node))
                .collect();
            founders.insert(self.config.seat, identity.node());
            let cluster = ClusterId(clock::random());
            tracing::info!(
                "founding cluster {:016x} as node {}",
                cluster.0,
                identity.node()
            );
            tokio::task::spawn_blocking(move || identity.found(cluster, &founders)).await??;
        }
        Ok(())
    }

    /// Whether nobody can be missing among so many peers. With configured seats this is known. Behind a name there may
    /// be addresses that are not published yet, so they have to be the same for a while.
    fn has_met_all(&self, peers: usize) -> bool {
        if self.config.discovery.is_none() {
            return true;
        }
        let found = self.links.found();
        found.is_some_and(|found| {
            let whole = found.all_met && found.addresses <= peers + 1;
            whole && found.since.elapsed() >= PUBLISHED
        })
    }

    /// Goes on until every group runs: all founders write the cluster down, then each starts its share of the groups.
    async fn deliver(&self, mut founding: Founding) {
        let begun = clock::instant();
        while self.groups.all().iter().any(|group| group.is_empty()) {
            founding.start = false;
            let told = self.tell(&founding).await;
            let late = clock::instant() - begun > LATE && (told + 1) * 2 > founding.founders.len();
            if told + 1 == founding.founders.len() || late {
                founding.start = true;
                self.take_part(founding.clone()).await;
                self.tell(&founding).await;
            }
            time::sleep(AGAIN).await;
        }
    }

    /// Sends the request to all other founders and returns how many have agreed.
    async fn tell(&self, founding: &Founding) -> usize {
        let payload = Bytes::from(codec::encode(founding));
        let tell = |node| {
            self.links
                .call(node, Kind::Found, 0, payload.clone(), ANSWER)
        };
        let others = founding
            .founders
            .values()
            .copied()
            .filter(|node| *node != self.identity.node());
        join_all(others.map(tell))
            .await
            .into_iter()
            .filter(Result::is_ok)
            .count()
    }

    /// Does this node's part of founding the cluster. Returns whether it is one of the founders and has done it.
    async fn take_part(&self, founding: Founding) -> bool {
        if founding.founders.get(&self.config.seat) != Some(&self.identity.node()) {
            return false;
        }
        let (identity, written) = (self.identity.clone(), founding.clone());
        let write = move || identity.found(written.cluster, &written.founders);
        if !matches!(tokio::task::spawn_blocking(write).await, Ok(Ok(()))) {
            return false;
        }
        if founding.start {
            let late = self.started.get_or_init(clock::instant).elapsed() > SHARED_OUT;
            self.start_groups(&founding.founders, late).await;
        }
        true
    }

    /// Starts the groups in which this node votes first, or if it is `late` all in which it votes: whoever should have
    /// started them may be lost.
    async fn start_groups(&self, founders: &BTreeMap<u64, NodeId>, late: bool) {
        let me = self.identity.node();
        let addresses = self.links.seats();
        let address = |seat: u64| match seat == self.config.seat {
            true => self.config.advertise.clone(),
            false => addresses.get(&seat).cloned().unwrap_or_default(),
        };
        let all = self.groups.all();
        let first = placement::founding(all.len(), founders.values().map(|node| node.0));
        for (turn, (group, voters)) in all.iter().zip(first).enumerate() {
            let by_seat: Vec<NodeId> = founders
                .values()
                .copied()
                .filter(|node| voters.contains(&node.0))
                .collect();
            let is_first = by_seat.get(turn % by_seat.len().max(1)) == Some(&me);
            if group.is_empty() && (is_first || (late && by_seat.contains(&me))) {
                initialize(group, &voters, &seats(founders, address)).await;
            }
        }
    }
}

/// The seats of nodes, as the groups remember them.
fn seats(
    founders: &BTreeMap<u64, NodeId>,
    address: impl Fn(u64) -> String,
) -> BTreeMap<RaftId, Seat> {
    let seat = |(seat, node): (&u64, &NodeId)| {
        let (seat, address) = (*seat, address(*seat));
        (node.0, Seat { seat, address })
    };
    founders.iter().map(seat).collect()
}

/// Gives a group its first voters; this node then campaigns. All founders would do it with the same voters, so that
/// doing it twice does no harm.
async fn initialize(
    group: &ShardReplica,
    voters: &BTreeSet<RaftId>,
    seats: &BTreeMap<RaftId, Seat>,
) {
    let members = seats.iter().filter(|(node, _)| voters.contains(node));
    let members: BTreeMap<RaftId, Seat> =
        members.map(|(node, seat)| (*node, seat.clone())).collect();
    if let Err(error) = group.raft.initialize(members).await {
        // Another founder has initialised the group already.
        tracing::debug!("shard {}: {error}", group.shard);
    }
}

#[cfg(test)]
mod tests;
