//! Chooses leaders: a new one within milliseconds of a loss, the preferred one when all is well, and none on a node
//! that is about to stop.
//!
//! When a peer is down, the survivors compare their logs. Each tells its own group that the lost leader hands
//! leadership to the survivor with the longest log. That ends the lease, for which an election would otherwise have to
//! wait, and makes the chosen one campaign. Raft's rules still hold: a vote needs the longest log and a quorum, so a
//! false alarm only moves the leader. But leases are worthless because of this, and reads have to ask a quorum.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all, ready};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;
use tokio::time;

use self::choice::choose;
use super::groups::{Groups, group_of};
use super::known::Leadership;
use super::replica::ShardReplica;
use super::types::{LogId, RaftId, TransferRequest};
use crate::clock;
use crate::link::{Handler, Kind, Links, PeerEvent, Request};
use crate::{NodeId, codec};

pub(super) mod choice;

/// How long a survivor waits for the others to say how long their logs are. Without the others it could not win anyway,
/// and if it campaigns too early with a shorter log it spoils the term for the one that can win.
const COMPARE: Duration = Duration::from_millis(200);
/// When there is no leader so long after the hand-over, the survivors campaign by themselves.
const RETRY: Duration = Duration::from_millis(40);
/// How often they do so, before openraft's own timers are left to it.
const RETRIES: u32 = 6;
/// How often groups without a leader, or with another than the preferred one, are looked for.
const WATCH: Duration = Duration::from_millis(250);
/// A node that has been up for so long gets the groups back that it should lead.
pub const SETTLED: Duration = Duration::from_secs(30);
/// Leadership is moved only to a node that lacks at most so many entries.
const NEARLY_ALL: u64 = 100;
/// How long moving a leader may take.
const MOVE: Duration = Duration::from_secs(1);

/// The payload of [`Kind::Draining`] when the sender does not want to lead.
const STEPS_BACK: &[u8] = b"";
/// The payload when the sender is about to stop: it should not vote either, if that leaves too few.
const STOPS: &[u8] = b"stops";
/// The payload when the sender wants to lead again.
const STEPS_FORWARD: &[u8] = b"forward";

/// Keeps the groups of this node led. Clones share it.
#[derive(Clone)]
pub struct Failover(Arc<Inner>);

struct Inner {
    groups: Groups,
    links: Links,
    settled: Duration,
    draining: AtomicBool,
    // A lock that is rarely taken: it changes with a few events a day.
    peers: Mutex<Peers>,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Default)]
struct Peers {
    up_since: HashMap<NodeId, Instant>,
    draining: HashSet<NodeId>,
    /// Those of them that are about to stop.
    stopping: HashSet<NodeId>,
}

/// The last entry of each group's log on one node.
type Tails = BTreeMap<u64, Option<LogId>>;

impl Failover {
    /// Starts; `settled` is [`SETTLED`] except in tests.
    pub fn start(groups: &Groups, links: &Links, settled: Duration) -> Self {
        let events = links.subscribe();
        let inner = Arc::new(Inner {
            groups: groups.clone(),
            links: links.clone(),
            settled,
            draining: AtomicBool::new(false),
            peers: Mutex::default(),
            tasks: Mutex::default(),
        });
        for process in links.up() {
            inner
                .peers()
                .up_since
                .insert(process.node, clock::instant());
        }
        links.serve(
            &[Kind::Tails, Kind::Draining],
            Arc::new(Answers(inner.clone())),
        );
        let follow = tokio::spawn(follow(inner.clone(), events)).abort_handle();
        let watch = tokio::spawn(watch(inner.clone())).abort_handle();
        inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend([follow, watch]);
        Self(inner)
    }

    /// Hands over every leadership, and takes none from now on unless nobody else can: the node is about to stop. It is
    /// to be repeated for as long as the node goes on.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.tell_others(STOPS).await;
        self.give_all_away().await;
    }

    /// The nodes that are about to stop.
    pub fn stopping(&self) -> BTreeSet<RaftId> {
        let me = self
            .0
            .draining
            .load(Ordering::Relaxed)
            .then(|| self.0.groups.node());
        let peers = self.0.peers();
        peers
            .stopping
            .iter()
            .copied()
            .chain(me)
            .map(|node| node.0)
            .collect()
    }

    /// Has the others lead what this node leads, and asks them not to give it back. It is to be repeated, since a node
    /// that has just come up has not heard of it.
    pub async fn step_back(&self) {
        self.tell_others(STEPS_BACK).await;
        self.give_all_away().await;
    }

    async fn give_all_away(&self) {
        let groups = self.0.groups.all().iter();
        join_all(groups.map(|group| self.0.give_away(group))).await;
    }

    /// This node may lead again, unless it drains.
    pub async fn step_forward(&self) {
        if !self.0.draining.load(Ordering::Relaxed) {
            self.tell_others(STEPS_FORWARD).await;
        }
    }

    /// This node does not stop after all.
    pub async fn undrain(&self) {
        self.0.draining.store(false, Ordering::Relaxed);
        self.step_forward().await;
    }

    async fn tell_others(&self, word: &'static [u8]) {
        let word = Bytes::from_static(word);
        let tell = |node| {
            self.0
                .links
                .call(node, Kind::Draining, 0, word.clone(), MOVE)
        };
        join_all(
            self.0
                .links
                .up()
                .into_iter()
                .map(|process| tell(process.node)),
        )
        .await;
    }

    /// Stops to watch.
    pub fn shutdown(&self) {
        for task in self
            .0
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            task.abort();
        }
    }
}

struct Answers(Arc<Inner>);

impl Handler for Answers {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        let answer = match request.kind {
            Kind::Tails => Some(codec::encode(&self.0.tails()).into()),
            Kind::Draining => {
                let mut peers = self.0.peers();
                let node = request.from.node;
                match &request.payload[..] {
                    STEPS_FORWARD => peers.draining.remove(&node) | peers.stopping.remove(&node),
                    STOPS => peers.draining.insert(node) | peers.stopping.insert(node),
                    _ => peers.draining.insert(node),
                };
                Some(Bytes::new())
            }
            _ => None,
        };
        Box::pin(ready(answer))
    }
}

async fn follow(inner: Arc<Inner>, mut events: broadcast::Receiver<PeerEvent>) {
    loop {
        match events.recv().await {
            Ok(PeerEvent::Up(process)) => {
                let mut peers = inner.peers();
                peers.up_since.insert(process.node, clock::instant());
                peers.draining.remove(&process.node);
                peers.stopping.remove(&process.node);
            }
            Ok(PeerEvent::Down(process)) => {
                inner.peers().up_since.remove(&process.node);
                let inner = inner.clone();
                tokio::spawn(async move { inner.lost(process.node).await });
            }
            Ok(PeerEvent::Gone(_) | PeerEvent::Replaced) => {}
            // Missed events are made up for by `watch`.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Finds what no event reports: groups that have had no leader for a while, and groups that are not led by the
/// preferred node.
async fn watch(inner: Arc<Inner>) {
    let mut leaderless = HashMap::new();
    loop {
        clock::beat(WATCH).await;
        for group in inner.groups.all() {
            // Who is alone has nobody to tell that it leads, and nobody else will.
            let alone = group.leadership().mine && group.is_alone();
            group.raft.runtime_config().tick(!alone);
        }
        for (turn, group) in inner.groups.all().iter().enumerate() {
            let leader = group.leadership().leader;
            if leader.is_some_and(|leader| inner.links.is_up(leader)) {
                leaderless.remove(&group.shard);
                continue;
            }
            let since = *leaderless.entry(group.shard).or_insert_with(clock::instant);
            let voters: Vec<NodeId> = group.voters().into_values().collect();
            let Some(place) = voters
                .iter()
                .position(|voter| *voter == inner.groups.node())
            else {
                continue;
            };
            // The voters try one after the other, beginning with the preferred leader.
            let rank = (place + voters.len() - turn % voters.len()) % voters.len();
            if clock::instant() - since >= WATCH * (1 + rank as u32) && inner.has_quorum(group) {
                leaderless.remove(&group.shard);
                // The group may have stopped, which is noticed elsewhere.
                let _ = group.raft.trigger().elect(true).await;
            }
        }
        inner.prefer().await;
    }
}

impl Inner {
    /// A poisoned lock is usable: no holder can leave the value half changed.
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tails(&self) -> Tails {
        self.groups
            .all()
            .iter()
            .map(|group| (group_of(group.shard), group.last()))
            .collect()
    }

    fn has_quorum(&self, group: &ShardReplica) -> bool {
        let voters = group.voters();
        let up = voters
            .values()
            .filter(|voter| self.links.is_up(**voter))
            .count();
        up * 2 > voters.len()
    }

    /// Moves every group that `dead` led to another node.
    async fn lost(self: &Arc<Self>, dead: NodeId) {
        let all = self.groups.all().iter().enumerate();
        let led: Vec<_> = all
            .filter(|(_, group)| group.leadership().leader == Some(dead))
            .collect();
        if led.is_empty() {
            return;
        }
        let tails = self.compare().await;
        for (turn, group) in led {
            let (inner, group) = (self.clone(), group.clone());
            let tails = tails
                .iter()
                .filter_map(|(node, tails)| Some((*node, *tails.get(&group_of(group.shard))?)));
            let tails: BTreeMap<_, _> = tails.collect();
            tokio::spawn(async move { inner.hand_off(&group, dead, &tails, turn).await });
        }
    }

    /// The ends of the logs of this node and of all that answer.
    async fn compare(&self) -> BTreeMap<NodeId, Tails> {
        let ask = |node| async move {
            let answer = self
                .links
                .call(node, Kind::Tails, 0, Bytes::new(), COMPARE)
                .await
                .ok()?;
            Some((node, codec::decode::<Tails>(&answer).ok()?))
        };
        let asked = join_all(self.links.up().into_iter().map(|process| ask(process.node))).await;
        let own = (self.groups.node(), self.tails());
        asked.into_iter().flatten().chain([own]).collect()
    }

    async fn hand_off(
        &self,
        group: &ShardReplica,
        dead: NodeId,
        tails: &BTreeMap<NodeId, Option<LogId>>,
        turn: usize,
    ) {
        let me = self.groups.node();
        let voters = group.voters();
        if !voters.values().any(|voter| *voter == me) {
            return;
        }
        let Ok(vote) = group.raft.with_raft_state(|state| *state.vote_ref()).await else {
            return;
        };
        if !vote.committed || vote.leader_id.node_id != dead.0 {
            return;
        }
        let chosen = choose(&voters, dead, tails, turn).unwrap_or(me);
        // A refusal means that another leader is known by now, and an error is as good as no answer.
        let _ = group
            .raft
            .handle_transfer_leader(TransferRequest::new(vote, chosen.0, group.last()))
            .await;
        let mut leadership = group.watch_leader();
        let led = |now: &Leadership| now.leader.is_some_and(|leader| leader != dead);
        for attempt in 0..RETRIES {
            // The chosen one campaigns already. Each campaign ends the others', so the pauses grow: a vote waits for
            // the disk, which may be slow.
            let patience = if chosen == me { RETRY * 2 } else { RETRY } * 2u32.pow(attempt);
            let patience = patience.mul_f64(clock::jitter(1.0..2.0));
            if time::timeout(patience, leadership.wait_for(led))
                .await
                .is_ok()
            {
                return;
            }
            if !self.has_quorum(group) || !self.has_longest(group).await {
                continue;
            }
            if group.raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }

    /// Whether no voter that answers has a longer log. Only then is it worth campaigning: a campaign that cannot be won
    /// still ends one of the same term that could.
    async fn has_longest(&self, group: &ShardReplica) -> bool {
        let voters = group.voters();
        let tails = self.compare().await;
        let others = tails
            .iter()
            .filter(|(node, _)| voters.values().any(|voter| voter == *node));
        let longest = others
            .filter_map(|(_, tails)| tails.get(&group_of(group.shard)))
            .max();
        longest.is_none_or(|longest| group.last() >= *longest)
    }

    /// Gives each group that this node leads to the node that should, one group at a time.
    async fn prefer(&self) {
        for (turn, group) in self.groups.all().iter().enumerate() {
            let preferred = choice::preferred(&group.voters(), turn);
            let Some(preferred) = preferred.filter(|_| group.leadership().mine) else {
                continue;
            };
            let settled = {
                let peers = self.peers();
                let since = peers.up_since.get(&preferred);
                since.is_some_and(|since| clock::instant() - *since >= self.settled)
                    && !peers.draining.contains(&preferred)
            };
            if settled && lag(group, preferred).is_some_and(|lag| lag <= NEARLY_ALL) {
                tracing::info!(
                    "shard {}: leadership goes back to node {preferred}",
                    group.shard
                );
                self.transfer(group, preferred).await;
                return;
            }
        }
    }

    async fn give_away(&self, group: &ShardReplica) {
        for _ in 0..3 {
            if !group.leadership().mine {
                return;
            }
            let me = self.groups.node();
            let is_there = |voter| voter != me && self.links.is_up(voter);
            let draining = self.peers().draining.clone();
            let lag = |voter| lag(group, voter);
            let Some(to) = choice::heir(&group.voters(), is_there, &draining, lag) else {
                return;
            };
            self.transfer(group, to).await;
        }
    }

    async fn transfer(&self, group: &ShardReplica, to: NodeId) {
        let mut leadership = group.watch_leader();
        if group.raft.trigger().transfer_leader(to.0).await.is_ok() {
            let moved = leadership.wait_for(|now| !now.mine && now.leader.is_some());
            // If it takes longer, the next round tries again.
            let _ = time::timeout(MOVE, moved).await;
        }
    }
}

/// How many entries a follower lacks, as its leader knows.
pub(crate) fn lag(group: &ShardReplica, node: NodeId) -> Option<u64> {
    let metrics = group.metrics();
    let has = metrics.replication.as_ref()?.get(&node.0)?.as_ref()?.index;
    Some(metrics.last_log_index.unwrap_or(0).saturating_sub(has))
}
