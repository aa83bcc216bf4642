//! The node without a replica, and the replicas from which it hears of the shards.

use super::{REPLICAS, SHARDS, World};
use crate::id::{ConnId, ShardId};
use crate::session::simulation::conn::Conn;
use crate::session::simulation::mutant::Mutant;

/// The replica from which a node hears of a shard.
pub(in super::super) fn source(sources: &[usize], node: usize, shard: ShardId) -> usize {
    match node < REPLICAS {
        true => node,
        false => sources[usize::from(shard.0)],
    }
}

impl World {
    /// The node turns to another replica. That one has applied at least what the node has heard of, and maybe more,
    /// of which the node was told nothing.
    pub(super) fn change_source(&mut self, shard: usize) -> Result<(), String> {
        let to = self.below(REPLICAS);
        self.turn_to(shard, to)
    }

    /// The process of a source is gone.
    pub(super) fn lose_source(&mut self, shard: usize, replica: usize) -> Result<(), String> {
        match self.sources[shard] == replica {
            true => self.turn_to(shard, (replica + 1) % REPLICAS),
            false => Ok(()),
        }
    }

    /// Notes how much the node has heard of a shard by now. A source that dies has forgotten it.
    pub(super) fn hear(&mut self, shard: usize) {
        let applied = self.shards[shard].applied(self.sources[shard]);
        self.heard[shard] = self.heard[shard].max(applied);
    }

    fn turn_to(&mut self, shard: usize, to: usize) -> Result<(), String> {
        self.hear(shard);
        let heard = self.heard[shard];
        let more = self.below(3);
        let lacks = heard.saturating_sub(self.shards[shard].applied(to));
        let outputs = self.shards[shard].catch_up(to, lacks + more, &mut Vec::new())?;
        // These come too early for the node that is about to turn to it.
        self.route(to, outputs)?;
        self.sources[shard] = to;
        self.hear(shard);
        if self.mutant == Mutant::SkippedUnread {
            return Ok(());
        }
        let away = |conn: &Conn| conn.owner.node.0 as usize >= REPLICAS;
        let of = ShardId(u16::try_from(shard).unwrap_or(SHARDS));
        let conns = self.conns.iter().filter(|(_, c)| away(c) && c.shard == of);
        let conns: Vec<ConnId> = conns.map(|(id, _)| *id).collect();
        let resync = |id| self.tend(id, Conn::resync);
        conns.into_iter().try_for_each(resync)
    }
}
