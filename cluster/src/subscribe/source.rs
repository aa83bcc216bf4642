//! Where a node gets what a shard says to its connections: from its own replica, or from one on another node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Ask, News};
use crate::cluster::Host;
use crate::link::{Kind, Links};
use crate::peers::Peers;
use crate::propose::ShardGroup;
use crate::propose::group::RaftGroup;
use crate::raft::groups::group_of;
use crate::{NodeId, ShardId, clock, codec};

/// How long a source may take to answer. It holds a question for less than half of that.
const ANSWER: Duration = Duration::from_secs(3);
/// For how long a source is left alone that has failed, if there is another one.
const AVOIDED: Duration = Duration::from_secs(2);
/// A source lags that lacks what leaders have said so long ago.
const LAG: Duration = Duration::from_secs(3);
/// How often a source is looked for when there is none.
const LOOK: Duration = Duration::from_millis(50);

/// Where outputs come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing was found yet.
    #[default]
    None,
    /// The replica on this node.
    Here,
    /// The replica on that node.
    At(NodeId),
}

/// A source can no longer be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It does not answer, or refuses.
    Silent,
    /// It hears of nothing that others commit.
    Lagging,
}

/// Keeps one shard's source on this node.
pub struct Subscription {
    /// This node.
    pub me: NodeId,
    /// The shard.
    pub group: Arc<RaftGroup>,
    /// The way to other nodes.
    pub links: Links,
    /// Which of them are there.
    pub peers: watch::Receiver<Peers>,
    /// Who hears of outputs.
    pub host: Arc<dyn Host>,
}

impl Subscription {
    /// Runs for as long as the node does.
    pub async fn run(self) {
        let mut known = self.group.replica().watch_known();
        let mut avoided: BTreeMap<NodeId, Instant> = BTreeMap::new();
        // What follows from entries up to this one, the host has heard.
        let mut told = 0;
        loop {
            known.mark_unchanged();
            if self.may_be_here(told) {
                if self.group.set_source(Source::Here) {
                    self.host.resync(self.group.shard());
                }
                if known.changed().await.is_err() {
                    return;
                }
                told = told.max(self.group.applied_index());
                continue;
            }
            let now = clock::timer();
            avoided.retain(|_, until| *until > now);
            let up = self.candidates();
            let preferred = up
                .iter()
                .filter(|node| !avoided.contains_key(node))
                .copied();
            let near = self.links.neighbours();
            let near = preferred.clone().filter(|node| near.contains(node));
            let shard = self.group.shard();
            let chosen = choose(self.me, shard, near)
                .or_else(|| choose(self.me, shard, preferred))
                .or_else(|| choose(self.me, shard, up.iter().copied()));
            let Some(node) = chosen else {
                // It is looked for again, whatever has changed.
                drop(timeout(LOOK, known.changed()).await);
                continue;
            };
            if let Err(lost) = self.follow(node, &mut told).await {
                tracing::debug!(shard = %self.group.shard(), %node, ?lost, "another source is looked for");
                if avoided.insert(node, clock::timer() + AVOIDED).is_some() || up.len() == 1 {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Whether this node has a replica that knows at least what the host has heard.
    fn may_be_here(&self, told: u64) -> bool {
        self.group.replica().is_member() && self.group.applied_index() >= told
    }

    /// Voters that are connected, except this node.
    fn candidates(&self) -> BTreeSet<NodeId> {
        let peers = self.peers.borrow();
        let voters = self.group.replica().voters().into_values();
        voters
            .filter(|node| *node != self.me && peers.up.contains_key(node))
            .collect()
    }

    /// Takes outputs from a node until that fails, or this node's own replica can take over.
    async fn follow(&self, node: NodeId, told: &mut u64) -> Result<(), Lost> {
        let news = self.ask(node, Ask::Begin(*told)).await?;
        let feed = news.feed;
        *told = news.applied.max(*told);
        self.group.take_loads(news.loads);
        self.group.set_source(Source::At(node));
        self.host.resync(self.group.shard());
        let mut lag = Lag::default();
        while !self.may_be_here(*told) {
            let news = self.ask(node, Ask::Next(feed)).await?;
            if !news.outputs.is_empty() {
                self.host.outputs(news.outputs);
            }
            *told = news.applied.max(*told);
            self.group.take_loads(news.loads);
            let committed = self.group.replica().told_committed();
            if lag.look(clock::timer(), news.applied, committed) {
                return Err(Lost::Lagging);
            }
        }
        Ok(())
    }

    async fn ask(&self, node: NodeId, ask: Ask) -> Result<News, Lost> {
        let payload = Bytes::from(codec::encode(&ask));
        let group = group_of(self.group.shard());
        let answer = self
            .links
            .call(node, Kind::Subscribe, group, payload, ANSWER)
            .await;
        let answer = answer.map_err(|_| Lost::Silent)?;
        codec::decode(&answer).map_err(|error| {
            tracing::warn!(%node, %error, "outputs of a shard cannot be read");
            Lost::Silent
        })
    }
}

/// Whether a source stays behind what leaders say. Pure.
#[derive(Debug, Default)]
struct Lag(VecDeque<(Instant, u64)>);

impl Lag {
    fn look(&mut self, now: Instant, applied: u64, committed: u64) -> bool {
        if self.0.back().is_none_or(|(_, last)| *last < committed) {
            self.0.push_back((now, committed));
        }
        while self.0.front().is_some_and(|(_, index)| *index <= applied) {
            self.0.pop_front();
        }
        let oldest = self.0.front();
        oldest.is_some_and(|(since, _)| now.saturating_duration_since(*since) > LAG)
    }
}

/// Spreads subscribers evenly over replicas, and keeps each where it is when others come and go. Pure.
fn choose(me: NodeId, shard: ShardId, among: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    among.max_by_key(|node| {
        let mut hasher = DefaultHasher::new();
        (me, shard, node).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = NodeId> {
        numbers.map(NodeId)
    }

    #[test]
    fn subscribers_are_spread_and_stay_where_they_are_when_another_replica_goes() {
        let mut counts = BTreeMap::<NodeId, usize>::new();
        for me in 10..310 {
            let (me, shard) = (NodeId(me), ShardId(0));
            let all = choose(me, shard, nodes(1..=3)).expect("one");
            *counts.entry(all).or_default() += 1;
            let fewer = choose(me, shard, nodes(1..=2)).expect("one");
            assert!(all == NodeId(3) || all == fewer);
        }
        assert!(
            counts.values().all(|count| (60..140).contains(count)),
            "{counts:?}"
        );
        assert_eq!(choose(NodeId(1), ShardId(0), std::iter::empty()), None);
    }

    #[test]
    fn a_source_lags_when_it_lacks_for_long_what_was_committed() {
        let start = clock::timer();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut lag = Lag::default();
        assert!(!lag.look(at(0), 5, 10));
        assert!(!lag.look(at(2), 9, 20), "it comes along");
        assert!(!lag.look(at(3), 12, 20));
        assert!(!lag.look(at(5), 12, 30));
        assert!(
            lag.look(at(6), 12, 40),
            "it has not had entry 20 for four seconds"
        );
        assert!(!lag.look(at(7), 40, 40));
        assert!(
            !lag.look(at(99), 40, 40),
            "nothing happens, and nothing is missing"
        );
    }
}
