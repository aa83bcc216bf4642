//! Who acts for sessions, by the word of the shards, and who really does.

use super::World;
use super::sources::source;
use crate::id::{BootId, NodeId, ShardId};
use crate::session::Command;
use crate::session::simulation::mutant::Mutant;

impl World {
    /// An entry has left something to the next one: the leader makes it.
    pub(super) fn tick(&mut self, shard: usize) {
        if self.shards[shard].state().is_busy() {
            self.propose(ShardId(shard as u16), Command::Tick);
        }
    }

    /// The earlier runs of this node are gone.
    pub(super) fn node_lost(&self, node: NodeId) -> Command {
        let alive = Some(BootId(self.boots[node.0 as usize]));
        Command::NodeLost { node, alive }
    }

    /// An entry has given up a slice of a node's sessions; the leader says so again while there are others.
    pub(super) fn lost(&mut self, node: NodeId, shard: ShardId) {
        let alive = BootId(self.boots[node.0 as usize]);
        let owners = self.shards[usize::from(shard.0)].state().owners();
        let rest = owners
            .iter()
            .any(|owner| owner.0 == node && owner.1 != alive);
        if rest && self.mutant != Mutant::SliceForgetsRest {
            self.propose(shard, self.node_lost(node));
        }
    }

    /// A node looks for sessions that it is said to act for, through connections that it does not have.
    pub(super) fn sweep(&mut self, node: usize) {
        if self.mutant == Mutant::GhostsUnswept {
            return;
        }
        let process = (NodeId(node as u64), BootId(self.boots[node]));
        let mut lost = Vec::new();
        for (shard, id) in self.shards.iter().zip(0..) {
            let state = shard.replica(source(&self.sources, node, ShardId(id)));
            let (owned, _) = state.owned_by(process, None);
            let ghosts = owned
                .into_iter()
                .filter(|(.., conn)| !self.conns.contains_key(conn));
            lost.extend(ghosts.map(|(session, epoch, _)| (ShardId(id), (session, epoch))));
        }
        for (shard, (session, epoch)) in lost {
            self.propose(shard, Command::Lost { session, epoch });
        }
    }

    /// When all is settled, a session has the connection that the shards say it has, or sleeps.
    pub(super) fn judge_owners(&self) -> Result<(), String> {
        let users = self
            .shards
            .iter()
            .flat_map(|shard| shard.state().users().iter());
        for (account, user) in users {
            let owners = user.sessions.values().filter_map(|s| s.owner());
            for owner in owners {
                let held = self
                    .conns
                    .get(&owner.conn)
                    .is_some_and(|c| c.owner == owner);
                if !held {
                    return Err(format!("nobody acts for a session of {account} (I-8)"));
                }
            }
        }
        Ok(())
    }
}
