//! The start of a node's groups: it founds a cluster, joins one, or goes on with the one that its data directory names.
//!
//! The lowest seat creates the cluster if and only if *all* that are configured, or found by name, answer that they
//! belong to none and have nothing on their disks. First every seat writes down that it belongs to the new cluster,
//! then each starts its share of the groups, so that the first leaders are spread. If anybody has a cluster already,
//! everyone who has none joins the one that has a leader, and the leaders of its groups do the rest ([`crate::raft::membership`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all, ready};
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;
use tokio::time;

use crate::clock;
use crate::config::Config;
use crate::identity::{ClusterId, Identity, IdentityError};
use crate::link::{Handler, Kind, Links, Request, To};
use crate::raft::groups::Groups;
use crate::raft::placement;
use crate::raft::replica::ShardReplica;
use crate::raft::types::{RaftId, Seat};
use crate::{NodeId, codec};

/// The pause between attempts to find a cluster or to finish creating one.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a peer may take to answer; it may have to write to its disk.
const ANSWER: Duration = Duration::from_secs(2);
/// A founder that was asked to start its groups starts the others' too after so long.
const SHARED_OUT: Duration = Duration::from_secs(1);
/// Addresses behind a name that have not changed for so long are all that there are.
const PUBLISHED: Duration = Duration::from_secs(5);
/// A seat that does not take part in founding the cluster within this time has to join it later. A node that has met
/// members without a leader joins them after this time all the same.
const LATE: Duration = Duration::from_secs(5);

/// What is found cannot be written down.
#[derive(Debug, thiserror::Error)]
enum SeekError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("writing the identity: {0}")]
    Interrupted(#[from] JoinError),
}

/// Founds a cluster of one node, or goes on with it. There is nobody to wait for.
pub async fn start_alone(
    config: &Config,
    identity: &Identity,
    groups: &Groups,
) -> Result<(), IdentityError> {
    let founders = BTreeMap::from([(config.seat, identity.node())]);
    if identity.cluster().is_none() {
        identity.found(ClusterId(clock::random()), &founders)?;
    }
    for group in groups.all() {
        if group.is_empty() {
            let voters = BTreeSet::from([identity.node().0]);
            let seats = seats(&founders, |_| config.advertise.clone());
            initialize(group, &voters, &seats).await;
        } else if let Err(stopped) = group.raft.trigger().elect(false).await {
            tracing::error!("shard {} has stopped: {stopped}", group.shard);
        }
    }
    Ok(())
}

/// Answers others that look for a cluster from now on. The future runs until this node belongs to one whose groups run.
pub fn serve(
    config: &Config,
    identity: &Identity,
    links: &Links,
    groups: &Groups,
) -> impl Future<Output = ()> + use<> {
    let birth = Arc::new(Birth {
        config: config.clone(),
        identity: identity.clone(),
        links: links.clone(),
        groups: groups.clone(),
        started: OnceLock::new(),
        met: OnceLock::new(),
        said: AtomicBool::new(false),
    });
    links.serve(
        &[Kind::Standing, Kind::Found],
        Arc::new(Answers(birth.clone())),
    );
    async move { birth.run().await }
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
    /// When a member of a cluster was first met.
    met: OnceLock<Instant>,
    /// It was said that different clusters answer.
    said: AtomicBool,
}

/// What a node that belongs to no cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// It joins this one.
    Join(ClusterId),
    /// It may found one, since nobody belongs to any.
    Found,
    /// It waits for the members that it has met to have a leader.
    Wait,
    /// There are several, and not exactly one of them has a leader.
    Unclear,
}

/// Decides which of the clusters that these members belong to is the one to join: that with a leader. Who was left
/// behind when a cluster was recovered still belongs to the old one, and is not to draw anybody into it. Pure.
fn choose(members: &[(ClusterId, NodeId)], leaders: &BTreeSet<NodeId>, late: bool) -> Choice {
    let all: BTreeSet<ClusterId> = members.iter().map(|(cluster, _)| *cluster).collect();
    let led = members.iter().filter(|(_, node)| leaders.contains(node));
    let led: BTreeSet<ClusterId> = led.map(|(cluster, _)| *cluster).collect();
    let one = |set: &BTreeSet<ClusterId>| set.first().copied().filter(|_| set.len() == 1);
    match (one(&led), one(&all)) {
        (Some(cluster), _) => Choice::Join(cluster),
        (None, Some(cluster)) if late => Choice::Join(cluster),
        (None, Some(_)) => Choice::Wait,
        (None, None) if all.is_empty() => Choice::Found,
        (None, None) => Choice::Unclear,
    }
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
    async fn seek(&self) -> Result<(), SeekError> {
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
        let choice = self.choose(&answers);
        if let Choice::Join(cluster) = choice {
            tracing::info!(
                "joining cluster {:016x} as node {}",
                cluster.0,
                identity.node()
            );
            let joining = identity.clone();
            tokio::task::spawn_blocking(move || joining.join(cluster)).await??;
            self.turn_away(cluster, &answers);
        }
        if choice != Choice::Found {
            return Ok(());
        }
        let all =
            answers.len() == seats.len() && answers.iter().all(|(_, standing)| standing.empty);
        let mine = self.config.may_found() && self.standing().empty;
        if all && mine && self.has_met_all() {
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

    fn choose(&self, answers: &[(u64, Standing)]) -> Choice {
        let members = answers.iter();
        let members: Vec<_> = members
            .filter_map(|(_, standing)| Some((standing.cluster?, standing.node)))
            .collect();
        let groups = self.groups.all().iter();
        let leaders = groups.filter_map(|group| group.leadership().leader);
        let begun = match members.is_empty() {
            true => None,
            false => Some(*self.met.get_or_init(clock::instant)),
        };
        let late = begun.is_some_and(|begun| clock::instant() - begun > LATE);
        let choice = choose(&members, &leaders.collect(), late);
        if choice == Choice::Unclear && !self.said.swap(true, Ordering::Relaxed) {
            let clusters: BTreeSet<_> = members.iter().map(|(cluster, _)| cluster.0).collect();
            let clusters: Vec<_> = clusters.iter().map(|id| format!("{id:016x}")).collect();
            tracing::error!(
                "the nodes that answer belong to different clusters ({}), and which of them goes on is not clear: this \
                 node joins none. If one was recovered, stop the members of the other",
                clusters.join(", ")
            );
        }
        choice
    }

    /// Has those greeted again who may belong to another cluster: while this node belonged to none, it refused nobody.
    fn turn_away(&self, cluster: ClusterId, answers: &[(u64, Standing)]) {
        let fits = |seat: &u64| {
            let standing = answers.iter().find(|(answering, _)| answering == seat);
            standing.is_some_and(|(_, standing)| standing.cluster.is_none_or(|of| of == cluster))
        };
        let up = self.links.up().into_iter().map(|process| process.seat);
        let up: BTreeSet<u64> = up.collect();
        for (seat, address) in self.links.seats() {
            if up.contains(&seat) && !fits(&seat) {
                self.links.dismiss(seat);
                self.links.introduce(seat, &address);
            }
        }
    }

    /// Whether nobody can be missing among the peers. With configured seats this is known. Behind a name there may
    /// be addresses that are not published yet, so they have to be the same for a while.
    fn has_met_all(&self) -> bool {
        if self.config.discovery.is_none() {
            return true;
        }
        let found = self.links.found();
        found.is_some_and(|found| found.all_met && clock::timer() - found.since >= PUBLISHED)
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
            let begun = *self.started.get_or_init(clock::instant);
            let late = clock::instant() - begun > SHARED_OUT;
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
mod tests {
    use super::*;

    const OLD: ClusterId = ClusterId(1);
    const NEW: ClusterId = ClusterId(2);

    #[track_caller]
    fn check(members: &[(ClusterId, u64)], leaders: &[u64], late: bool, expect: Choice) {
        let members = members.iter().map(|(of, node)| (*of, NodeId(*node)));
        let members: Vec<_> = members.collect();
        let leaders = leaders.iter().copied().map(NodeId).collect();
        assert_eq!(choose(&members, &leaders, late), expect);
    }

    #[test]
    fn a_node_joins_the_cluster_that_has_a_leader() {
        check(&[], &[], true, Choice::Found);
        check(&[(OLD, 1)], &[1], false, Choice::Join(OLD));
        check(&[(OLD, 1), (NEW, 2)], &[2], false, Choice::Join(NEW));
        check(&[(OLD, 1), (NEW, 2)], &[2], true, Choice::Join(NEW));
    }

    #[test]
    fn a_node_waits_for_a_leader_and_joins_none_of_two_clusters_without() {
        check(&[(OLD, 1)], &[], false, Choice::Wait);
        check(&[(OLD, 1)], &[], true, Choice::Join(OLD));
        check(&[(OLD, 1), (NEW, 2)], &[], true, Choice::Unclear);
        check(&[(OLD, 1), (NEW, 2)], &[1, 2], true, Choice::Unclear);
        check(&[(OLD, 1)], &[7], false, Choice::Wait);
    }
}
