//! The database of the simulation, and what must be true of it in the end (I-13, I-14).

use std::collections::BTreeMap;

use proto::stanza::Packet;
use proto::{BareJid, Jid};

use super::World;
use crate::id::{ArchiveId, EffectId, ShardId};
use crate::session::simulation::mutant::Mutant;
use crate::session::simulation::presence::{Shown, is_subscriber};
use crate::session::simulation::shards::mid;
use crate::session::{Command, Completed, Effect, Fetched, Relay};

/// Rows by account and id; more than one of a kind only if something is broken.
#[derive(Default)]
pub(super) struct Archive {
    rows: BTreeMap<(BareJid, ArchiveId), Vec<Fetched>>,
}

impl Archive {
    fn find(&self, account: &BareJid, mids: &[ArchiveId]) -> Vec<Fetched> {
        let rows = mids.iter();
        let rows = rows.filter_map(|mid| self.rows.get(&(account.clone(), *mid))?.first());
        rows.cloned().collect()
    }
}

/// What subscribers are told of the end of a session.
fn gone(
    packet: &Packet,
    effect: (u16, u64),
    after: Option<&BareJid>,
    accounts: &[BareJid],
) -> Option<Relay> {
    let account = packet.header.from.as_ref()?.bare();
    let subscribers = accounts.iter().filter(|a| is_subscriber(a, &account));
    let subscribers = subscribers.filter(|a| after.is_none_or(|after| *a > after));
    let mut packet = packet.clone();
    packet.payload = Shown::Gone(Some(effect)).write().into();
    Some(Relay::Presence {
        packet,
        to: subscribers.map(Jid::from).collect(),
    })
}

impl World {
    /// A leader carries out a few effects, and again until it hears that they are done.
    pub(super) fn effects(&mut self, shard: usize) {
        let twice = self.mutant == Mutant::ArchiveTwice;
        let mut done = Vec::new();
        let accounts = self.accounts.clone();
        for pending in self.shards[shard].state().pending(EffectId(0), 5) {
            let (mut messages, mut relays) = (Vec::new(), Vec::new());
            match &*pending.effect {
                Effect::Archive(row) => {
                    let fetched = Fetched {
                        mid: row.mid,
                        stamp: row.stamp,
                        archived: !row.hidden,
                        packet: row.packet.clone(),
                    };
                    let key = (row.owner.clone(), row.mid);
                    let rows = self.archive.rows.entry(key).or_default();
                    if twice || rows.is_empty() {
                        rows.push(fetched);
                    }
                }
                Effect::Forget { account, mids } => {
                    for mid in mids {
                        self.archive.rows.remove(&(account.clone(), *mid));
                    }
                }
                Effect::Fetch { session, mids } => {
                    messages = self.archive.find(&session.bare(), mids);
                }
                Effect::Return { account, mids } => messages = self.archive.find(account, mids),
                Effect::Unavailable { packet, after, .. } => {
                    let effect = (shard as u16, pending.id.0);
                    relays.extend(gone(packet, effect, after.as_ref(), &accounts));
                }
                Effect::Subscription(_)
                | Effect::Push { .. }
                | Effect::Blocklist(_)
                | Effect::LastEvents(_) => {}
            }
            let mut completed = Completed {
                id: pending.id,
                relays,
                messages,
            };
            match self.in_part(&pending.effect, &mut completed) {
                Some(rest) => {
                    let part = completed;
                    let command = Command::DoneInPart { part, rest };
                    self.propose(ShardId(shard as u16), command);
                }
                None => done.push(completed),
            }
        }
        if !done.is_empty() {
            self.propose(ShardId(shard as u16), Command::Done(done));
        }
    }

    /// Some of a farewell's many addressees are too many for one entry: what is left of it.
    fn in_part(&mut self, effect: &Effect, completed: &mut Completed) -> Option<Effect> {
        let (Effect::Unavailable { packet, among, .. }, [Relay::Presence { to, .. }]) =
            (effect, &mut completed.relays[..])
        else {
            return None;
        };
        if to.len() < 2 || self.below(2) == 0 {
            return None;
        }
        to.truncate(1);
        Some(Effect::Unavailable {
            packet: packet.clone(),
            directed: Vec::new(),
            after: to.first().map(Jid::bare),
            among: among.clone(),
        })
    }

    /// Everybody has got everything: one row of each message that is to stay, none that was only kept,
    /// and nothing behind the marker.
    pub(super) fn judge_archive(&self) -> Result<(), String> {
        for ((account, mid), rows) in &self.archive.rows {
            if rows.len() > 1 {
                return Err(format!("{mid} is in the archive of {account} twice (I-13)"));
            }
            if rows.iter().any(|row| !row.archived) {
                return Err(format!("{mid} stays hidden for {account} (I-14)"));
            }
        }
        for client in &self.clients {
            let waiting: usize = self
                .shards
                .iter()
                .map(|s| s.state().undelivered(&client.account))
                .sum();
            if waiting > 0 {
                return Err(format!("{waiting} wait for {} (I-14)", client.jid));
            }
            if !self.shards[0].state().settings().archive_by_default {
                let mut rows = self.archive.rows.keys();
                if let Some((account, mid)) = rows.next() {
                    return Err(format!("{mid} is in the archive of {account} (I-13)"));
                }
                continue;
            }
            for (_, uid, to) in client
                .sent
                .iter()
                .filter(|s| client.acknowledged.contains(&s.1))
            {
                let shown = |account: &BareJid| {
                    self.archive
                        .rows
                        .contains_key(&(account.clone(), mid(*uid)))
                };
                let kept = shown(&client.account) || client.account == *to;
                if !kept || (!shown(to) && !uid.is_multiple_of(3)) {
                    return Err(format!("{uid} to {to} is not in the archives (I-13)"));
                }
            }
        }
        Ok(())
    }
}
