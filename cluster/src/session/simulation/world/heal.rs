//! The end of a run: no more faults, and everything settles.

use super::{NODES, SHARDS, World};
use crate::id::ShardId;
use crate::session::simulation::oracle;
use crate::session::simulation::shards::Shard;

impl World {
    /// No more faults: everybody comes back but who is `away`, everything arrives (I-22).
    pub(super) fn heal(&mut self, away: Option<usize>) -> Result<(), String> {
        for _ in 0..400 {
            while self.conns.values().any(|c| !c.linked) {
                self.notice();
            }
            for client in (0..self.clients.len()).filter(|c| Some(*c) != away) {
                self.connect(client, client % NODES);
                self.listen(client)?;
                self.acknowledge(client);
            }
            self.edges_work();
            while !self.proposals.is_empty() {
                self.serve(false)?;
            }
            self.catch_up()?;
            for node in 0..NODES {
                self.sweep(node);
            }
            for shard in 0..self.shards.len() {
                self.relay(shard);
                self.effects(shard);
                self.tick(shard);
            }
            if self.is_settled(away) {
                return self.judge_owners();
            }
            self.now += 10;
        }
        // What the clients saw says more, if it says anything.
        oracle::judge(&self.clients)?;
        Err(String::from("it does not settle (I-22)"))
    }

    fn is_settled(&self, away: Option<usize>) -> bool {
        let quiet = |s: &Shard| {
            let others = (0..SHARDS).map(ShardId).filter(|to| *to != s.state().id());
            let sent = others.into_iter().all(|to| {
                let (first, next) = s.state().outbox_range(to);
                first == next
            });
            sent && s.state().pending_count() == 0 && !s.state().is_busy()
        };
        let idle = |s: &Shard| {
            let users = s.state().users().values();
            let mut sessions = users.flat_map(|u| u.sessions.values());
            sessions.all(|s| s.queue.load().0 == 0 || (away.is_some() && s.owner().is_none()))
        };
        self.proposals.is_empty()
            && self.shards.iter().all(idle)
            && self.shards.iter().all(quiet)
            && (self.clients.iter().enumerate())
                .all(|(n, c)| Some(n) == away || (c.ready && c.conn.is_some()))
            && self
                .conns
                .values()
                .all(|c| c.up.is_empty() && c.down.is_empty() && c.alive)
    }
}
