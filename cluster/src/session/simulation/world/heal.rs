//! The end of a run: no more faults, and everything settles.

use super::{NODES, SHARDS, World};
use crate::id::ShardId;
use crate::session::simulation::conn::{Conn, Link};
use crate::session::simulation::shards::Shard;

/// As long, in milliseconds, as nothing is asked of a client without stream management that has something in flight.
const MOST: u64 = 2_000;

impl World {
    /// No more faults: everybody comes back but who is `away`, everything arrives (I-22).
    pub(super) fn heal(&mut self, away: Option<usize>) -> Result<(), String> {
        for _ in 0..400 {
            while self.conns.values().any(|c| c.link == Link::Cut) {
                self.notice()?;
            }
            for client in (0..self.clients.len()).filter(|c| Some(*c) != away) {
                self.connect(client, client % NODES);
                self.listen(client)?;
                self.acknowledge(client);
            }
            self.connections_work()?;
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
            self.rest();
        }
        // What the clients saw says more, if it says anything.
        self.judge_clients()?;
        Err(String::from("it does not settle (I-22)"))
    }

    /// A moment passes; if nothing is under way, the time until a connection has something to do.
    fn rest(&mut self) {
        let soon = self.now + 10;
        let is_quiet = self.proposals.is_empty() && self.conns.values().all(Conn::is_quiet);
        let wake = self.conns.values().filter_map(Conn::wake).min();
        self.now = match wake.filter(|_| is_quiet) {
            Some(wake) => wake.clamp(soon, soon + MOST),
            None => soon,
        };
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
            && self.conns.values().all(|c| c.is_quiet() && !c.is_over())
    }
}
