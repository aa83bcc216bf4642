//! What a node tells operators and probes of its health, and of the cluster's as far as it sees it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::Cluster;
use crate::NodeId;
use crate::format::Version;
use crate::link::Links;
use crate::propose::ShardGroup;
use crate::raft::roll::Found;
use crate::session::Totals;
use crate::status::{self, MemberState, NodeStatus, NotReady, ShardStatus, Status};

impl Cluster {
    /// The cluster as this node knows it.
    pub fn status(&self) -> Status {
        let found = self.0.replication.roll.found();
        let links = self.0.replication.links.as_ref();
        Status {
            format: links.map_or(Version::CURRENT, Links::common_format),
            nodes: self.nodes(&found),
            shards: self.shard_status(&found),
        }
    }

    /// The shards that this node leads. Of them it knows how far the other replicas are.
    pub fn led(&self) -> Vec<ShardStatus> {
        let mut shards = self.shard_status(&self.0.replication.roll.found());
        shards.retain(|shard| shard.mine);
        shards
    }

    /// What the shards that this node leads hold, together. The sum over all nodes counts everything once.
    pub fn totals(&self) -> Totals {
        let led = self.0.shards.iter();
        let led = led.filter(|group| group.leadership().borrow().mine);
        let totals = led.map(|group| group.read(|state| state.totals()));
        totals.fold(Totals::default(), Totals::and)
    }

    /// How many bytes the snapshots of this node have on disk.
    pub fn snapshot_bytes(&self) -> u64 {
        let groups = self.0.shards.iter();
        groups
            .map(|group| group.replica().machine.snapshot_bytes())
            .sum()
    }

    /// All that keeps clients from being welcome, if anything does.
    pub fn obstacles(&self) -> Vec<NotReady> {
        let draining = self.0.draining.load(Ordering::Relaxed);
        let starting = !self.0.taken_part.load(Ordering::Relaxed);
        let own = [
            draining.then_some(NotReady::Draining),
            self.shortage().map(NotReady::Short),
            starting.then_some(NotReady::Starting),
        ];
        let peers = self.0.peers.borrow().clone();
        let shards = self.0.shards.iter().filter_map(|group| {
            let heard = status::has_source(group.shard(), group.source(), &peers);
            let check = |()| status::check(&status::shard(group), self.0.me.0, &peers);
            heard.and_then(check).err()
        });
        own.into_iter().flatten().chain(shards).collect()
    }

    fn shard_status(&self, found: &Found) -> Vec<ShardStatus> {
        let shards = self.0.shards.iter();
        let mut shards: Vec<ShardStatus> = shards.map(|group| status::shard(group)).collect();
        for (shard, target) in shards.iter_mut().zip(&found.targets) {
            shard.target = target.iter().copied().collect();
        }
        shards
    }

    /// Every seat that is known, and the members that have lost theirs.
    fn nodes(&self, found: &Found) -> Vec<NodeStatus> {
        let links = self.0.replication.links.as_ref();
        let up = links.map(Links::up).unwrap_or_default();
        let seats = links.map(Links::seats).unwrap_or_default();
        let spoken = links.map(Links::spoken).unwrap_or_default();
        let zones = links.map(Links::zones).unwrap_or_default();
        let own = found.members.get(&self.0.me.0);
        let mut nodes = vec![NodeStatus {
            seat: self.0.config.seat,
            node: Some(self.0.me.0),
            address: self.0.config.advertise.clone(),
            up: true,
            me: true,
            state: Some(match self.0.draining.load(Ordering::Relaxed) {
                true => MemberState::Draining,
                // An operator may have taken it out of service, or given it up.
                false => own.map_or(MemberState::Active, |(_, state)| *state),
            }),
            formats: Some(self.0.config.formats),
            zone: zones.get(&self.0.config.seat).cloned(),
        }];
        // Who is gone has its seat only as long as nobody else has.
        let is_gone =
            |(_, (_, state)): &(&NodeId, &(u64, MemberState))| *state == MemberState::Gone;
        let (gone, others): (Vec<_>, Vec<_>) = found.members.iter().partition(is_gone);
        let members = gone.into_iter().chain(others);
        let filled: BTreeMap<u64, NodeId> =
            members.map(|(node, (seat, _))| (*seat, *node)).collect();
        for (seat, address) in seats {
            let process = up.iter().find(|process| process.seat == seat);
            let node = process.map(|process| process.node);
            let node = node.or_else(|| filled.get(&seat).copied());
            let state = node.and_then(|node| Some(found.members.get(&node)?.1));
            nodes.push(NodeStatus {
                seat,
                node,
                address,
                up: process.is_some(),
                me: false,
                state: state.or(process.map(|_| MemberState::Active)),
                formats: spoken.get(&seat).copied(),
                zone: zones.get(&seat).cloned(),
            });
        }
        for (node, (seat, state)) in &found.members {
            if !nodes.iter().any(|known| known.node == Some(*node)) {
                nodes.push(NodeStatus {
                    seat: *seat,
                    node: Some(*node),
                    address: String::new(),
                    up: false,
                    me: false,
                    state: Some(*state),
                    formats: None,
                    zone: zones.get(seat).cloned(),
                });
            }
        }
        nodes.sort_by_key(|node| node.seat);
        nodes
    }
}
