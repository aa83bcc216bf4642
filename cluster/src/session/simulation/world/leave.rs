//! One client leaves for good, while processes die: who saw it hears of it once (I-15).

use super::{NODES, SHARDS, World};
use crate::id::ShardId;
use crate::session::Command;
use crate::session::simulation::conn::MAX;
use crate::session::simulation::presence::Shown;
use crate::shard::map::shard_of;

impl World {
    /// All are at home. One of them is cut off, hibernates if it may, expires, and stays away.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        let leaver = self.below(self.clients.len());
        let seen: Vec<(u32, usize)> = self
            .clients
            .iter()
            .map(|c| (c.session, c.seen.len()))
            .collect();
        let shard = usize::from(shard_of(&self.clients[leaver].account, SHARDS).0);
        let sleeps = self.clients[leaver].sm.is_some();
        self.part(leaver)?;
        if sleeps {
            self.heal(Some(leaver))?;
            self.judge_leaving(leaver, &seen, false)?;
            for _ in 0..u64::from(MAX) / 5 + 1 {
                self.now += 5_000;
                self.propose(ShardId(shard as u16), Command::Tick);
                self.serve(false)?;
            }
        } else {
            self.notice()?;
            self.serve(false)?;
        }
        // The leader dies before the effect, after it and before the shard knows of it, or not at all.
        let fate = self.below(3);
        if fate == 0 {
            self.crash(self.shards[shard].leader)?;
        }
        self.effects(shard);
        if fate == 1 {
            self.crash(self.shards[shard].leader)?;
        }
        self.effects(shard);
        self.heal(Some(leaver))?;
        self.judge_leaving(leaver, &seen, true)
    }

    /// Its connection is cut, or its node dies; or it tries to come back, and is gone before its node hears
    /// whether it may.
    fn part(&mut self, leaver: usize) -> Result<(), String> {
        let conn = self.clients[leaver].conn;
        let held = conn.and_then(|conn| self.conns.get(&conn));
        let node = held.map_or(0, |conn| conn.owner.node.0 as usize);
        self.cut(leaver);
        match self.below(4) {
            0 => self.crash(node)?,
            1 if self.clients[leaver].sm.is_some() => {
                let node = self.below(NODES);
                self.connect(leaver, node);
                self.connections_work()?;
                self.cut(leaver);
                self.notice()?;
                self.notice()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// `seen`: each client's session, and how much it had seen when the one left.
    fn judge_leaving(
        &self,
        leaver: usize,
        seen: &[(u32, usize)],
        over: bool,
    ) -> Result<(), String> {
        let gone = &self.clients[leaver];
        for (client, (session, before)) in self.clients.iter().zip(seen) {
            let of = |s: &&super::Seen| s.from == gone.jid && s.session == *session;
            let (known, new) = client.seen.split_at(*before);
            let told = new.iter().filter(of);
            let told = told.filter(|s| matches!(s.shown, Shown::Gone(_))).count();
            let saw = known.iter().rfind(of);
            let saw =
                client.jid != gone.jid && saw.is_some_and(|s| matches!(s.shown, Shown::Here(_)));
            let due = usize::from(saw && over);
            // Who has a new session itself may have missed it, or have got it directed in the one before.
            let most = due.max(usize::from(over && !client.watches(&gone.account)));
            if told > most || (told < due && client.session == *session) {
                return Err(format!(
                    "{} heard {told} times that {} is gone, not {due} (I-15)",
                    client.jid, gone.jid
                ));
            }
        }
        Ok(())
    }
}
