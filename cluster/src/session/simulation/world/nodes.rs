//! Nodes: they carry connections, and what is between a client and its node.

use super::sources::source;
use super::{Proposal, SHARDS, World};
use crate::id::{BootId, ConnId, NodeId, Owner};
use crate::session::Output;
use crate::session::simulation::client::{Down, Up};
use crate::session::simulation::conn::{Around, Conn, Link, MAX};
use crate::shard::map::shard_of;

impl World {
    pub(super) fn connect(&mut self, client: usize, node: usize) {
        if self.clients[client].conn.is_some() {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let owner = Owner {
            node: NodeId(node as u64),
            boot: BootId(self.boots[node]),
            conn,
        };
        let up = self.clients[client].greet(conn);
        let account = self.clients[client].account.clone();
        let shard = shard_of(&account, SHARDS);
        self.conns
            .insert(conn, Conn::new(owner, client, (account, shard), up));
    }

    /// A client says something. Behind its stanzas it asks how far they are counted.
    pub(super) fn say(&mut self, conn: ConnId, up: Vec<Up>) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            let counts = self.clients[conn.client].sm.is_some() && up.iter().any(Up::is_stanza);
            conn.up.extend(up);
            conn.up.extend(counts.then_some(Up::Request));
        }
    }

    /// Lets a connection act, and takes up what it wants to be proposed.
    pub(super) fn tend(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Conn, &Around<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let around = Around {
            now: self.now,
            mutant: self.mutant,
            shards: &self.shards,
            sources: &self.sources,
            accounts: &self.accounts,
        };
        act(conn, &around)?;
        let shard = conn.shard;
        let proposals = conn.commands.drain(..).map(|command| Proposal {
            shard,
            conn: Some(id),
            theft: false,
            command,
        });
        self.proposals.extend(proposals);
        self.refused = self.refused.take().or(conn.refused.take());
        if conn.is_over() && conn.link != Link::Whole {
            self.conns.remove(&id);
        }
        Ok(())
    }

    /// Every connection reads what has come, and does what is due.
    pub(super) fn connections_work(&mut self) -> Result<(), String> {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        conns
            .into_iter()
            .try_for_each(|conn| self.tend(conn, Conn::work))
    }

    /// Outputs of the replica on `node` reach the connections of the process that runs there now, and those of the
    /// node that has no replica if this one is its source.
    pub(super) fn route(&mut self, node: usize, outputs: Vec<Output>) -> Result<(), String> {
        for output in outputs {
            let owner = output.owner;
            let shard = shard_of(&output.session.bare(), SHARDS);
            let at = owner.node.0 as usize;
            let told = source(&self.sources, at, shard) == node;
            if told && owner.boot == BootId(self.boots[at]) {
                self.tend(owner.conn, |conn, around| conn.output(output, around))?;
            }
        }
        Ok(())
    }

    /// A client reads what has arrived; a connection that its node closed is lost.
    pub(super) fn listen(&mut self, client: usize) -> Result<(), String> {
        let Some(id) = self.clients[client].conn else {
            return Ok(());
        };
        let downs: Vec<Down> = self
            .conns
            .get_mut(&id)
            .map_or_else(Vec::new, |c| c.down.drain(..).collect());
        for down in downs {
            if let Down::Failed { h } = &down {
                self.judge_refusal(client, *h)?;
            }
            let up = self.clients[client].receive(down)?;
            self.say(id, up);
        }
        if self.conns.get(&id).is_none_or(Conn::is_over) {
            self.cut(client);
        }
        Ok(())
    }

    /// Nothing was there to resume.
    fn judge_refusal(&self, client: usize, h: Option<u32>) -> Result<(), String> {
        let slept = self.now - self.clients[client].cut_at;
        let sm = self.clients[client].sm.as_ref();
        let made_room =
            sm.is_some_and(|sm| self.shards.iter().any(|s| s.limited.contains(&sm.smid)));
        // Whose count is refused loses its session, which is told in the end.
        let ended = made_room || self.refused.is_some();
        if slept < u64::from(MAX) * 1000 && !ended {
            return Err(format!("a session that slept {slept} ms is refused (I-10)"));
        }
        if h.is_none() {
            return Err(String::from(
                "the count of an ended session is forgotten (I-11)",
            ));
        }
        Ok(())
    }

    /// The client's end of a connection is gone; its node may not know yet.
    pub(super) fn cut(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(id) = client.conn.take() else {
            return;
        };
        let conn = self.conns.get_mut(&id);
        if client.ready {
            let lost = conn.as_ref().and_then(|conn| conn.lost());
            client.cut_at = lost.unwrap_or(self.now);
        }
        client.ready = false;
        if let Some(conn) = conn {
            conn.link = Link::Cut;
            if conn.is_over() {
                self.conns.remove(&id);
            }
        }
    }

    /// A node notices that a connection is gone.
    pub(super) fn notice(&mut self) -> Result<(), String> {
        let cut = self.conns.iter().filter(|(_, c)| c.link == Link::Cut);
        let cut: Vec<ConnId> = cut.map(|(id, _)| *id).collect();
        if cut.is_empty() {
            return Ok(());
        }
        let id = cut[self.below(cut.len())];
        self.tend(id, |conn, around| {
            conn.link = Link::Gone;
            conn.gone(around)
        })
    }
}
