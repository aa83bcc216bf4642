//! The end of a session, or of its availability, as others hear of it: each of them once (IM-41, IM-47).
//!
//! Who subscribes is in the database, so an effect finds it, in parts if there are many. Before it has told all, a
//! session of the same name may be there, be shown to some, and leave again:
//!
//! - one that becomes available takes the farewell of its predecessor back: whoever has not heard it has seen no gap;
//! - whom one that is not available has shown itself to hears of both ends with the later one.
//!
//! A shard that takes nothing has farewells set aside for it, by name alone and each name once, however many
//! contacts live there. When it takes something again they are found anew.

use std::collections::{BTreeMap, BTreeSet};

use proto::stanza::{Header, Kind, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::effect::{Among, Effect};
use super::outbox::{Untold, join};
use super::relay::Relay;
use super::session::Session;
use super::state::ShardState;
use super::step::{SLICE, Step};
use crate::id::{EffectId, ShardId};
use crate::shard::map::shard_of;

/// A farewell that is under way.
struct Farewell<'a> {
    packet: &'a Packet,
    after: Option<&'a BareJid>,
    /// What tells those whom this part of it does not.
    rest: Option<EffectId>,
}

pub(super) fn unavailable(jid: &Jid) -> Packet {
    Packet {
        header: Header {
            kind: Kind::Presence(PresenceType::Unavailable),
            from: Some(jid.clone()),
            to: None,
            id: None,
            lang: None,
        },
        payload: bytes::Bytes::new(),
    }
}

impl ShardState {
    /// A session has ended. Who is not available has no subscribers to tell.
    pub(super) fn say_unavailable(&mut self, jid: &Jid, session: &Session, step: &mut Step) {
        let directed = self.strangers(jid, session.directed().clone());
        if !session.is_available() {
            return self.say_gone_to(jid, directed, step);
        }
        let packet = unavailable(jid);
        self.show_to_own(&jid.bare(), &packet, step);
        self.add_effect(Effect::Unavailable {
            packet,
            directed,
            after: None,
            among: Among::All,
        });
    }

    /// A client says that it is available no longer, to these subscribers.
    pub(super) fn say_gone(
        &mut self,
        packet: &Packet,
        subscribers: Vec<Jid>,
        directed: Vec<Jid>,
        step: &mut Step,
    ) {
        let farewell = Farewell {
            packet,
            after: None,
            rest: None,
        };
        self.spread_gone(&farewell, subscribers, directed, step);
    }

    /// A session that was not available is gone for those to whom it has shown itself. Who has yet to hear of the
    /// end of its predecessor hears of both together.
    pub(super) fn say_gone_to(&mut self, jid: &Jid, mut directed: Vec<Jid>, step: &mut Step) {
        let shards = self.shards();
        // Takes out those who are to hear a farewell, which is for these shards and goes on behind `after`.
        let mut take = |after: &Option<BareJid>, among: &Among| {
            let untold = |to: &Jid| {
                let behind = after.as_ref().is_none_or(|after| to.bare() > *after);
                behind && among.contains(shard_of(&to.bare(), shards))
            };
            let (more, others): (Vec<Jid>, _) = directed.drain(..).partition(untold);
            directed = others;
            more
        };
        for id in self.effects().farewells_of(jid) {
            let effects = self.effects_mut();
            effects.change_farewell(id, |after, among, told| join(told, take(after, among)));
        }
        for (shard, untold) in self.outboxes_mut().untold_of(jid) {
            let more = take(&untold.after, &Among::Only(shard));
            join(&mut untold.directed, more);
        }
        self.spread_presence(&unavailable(jid), directed, step);
    }

    /// A session becomes available that these subscribe to: nobody is told any more that its predecessor is gone,
    /// but for those who do not see it again.
    pub(super) fn take_back_farewell(
        &mut self,
        jid: &Jid,
        subscribers: &[BareJid],
        step: &mut Step,
    ) {
        let mut directed = Vec::new();
        for id in self.effects().farewells_of(jid) {
            let effects = self.effects_mut();
            effects.change_farewell(id, |_, _, told| directed.append(told));
            self.effects_mut().remove(id);
        }
        directed.extend(self.outboxes_mut().take_back(jid));
        let Some(session) = self.session_mut(jid).filter(|_| !directed.is_empty()) else {
            return;
        };
        let subscribers: BTreeSet<&BareJid> = subscribers.iter().collect();
        directed.retain(|to| {
            // A subscriber's own session that was shown the predecessor goes on with this one.
            let seen = subscribers.contains(&to.bare()) || session.directed().contains(to);
            if seen {
                session.direct_to(to.clone());
            }
            !seen
        });
        self.spread_presence(&unavailable(jid), directed, step);
    }

    /// The subscribers of a session that is gone are known: they are told, and with them those to whom it directed
    /// its presence, each once. `rest` tells the others.
    pub(super) fn farewell_found(
        &mut self,
        effect: &Effect,
        relays: Vec<Relay>,
        rest: Option<EffectId>,
        step: &mut Step,
    ) {
        let Effect::Unavailable {
            packet,
            directed,
            after,
            among,
        } = effect
        else {
            return;
        };
        let (mut packet, mut subscribers) = (packet.clone(), Vec::new());
        for relay in relays {
            match relay {
                Relay::Presence { packet: said, to } => {
                    packet = said;
                    subscribers.extend(to);
                }
                other => self.send(other, step),
            }
        }
        let shards = self.shards();
        subscribers.retain(|to| among.contains(shard_of(&to.bare(), shards)));
        let later = rest.map(|rest| self.effects().directed_of(rest));
        let later = later.unwrap_or_default();
        let mut directed: Vec<Jid> = directed.clone();
        directed.retain(|to| !later.contains(to));
        let from = packet.header.from.clone();
        if let Some(back) = from.and_then(|jid| self.session_mut(&jid)) {
            back.go_on(&mut subscribers, &mut directed);
        }
        let farewell = Farewell {
            packet: &packet,
            after: after.as_ref(),
            rest,
        };
        self.spread_gone(&farewell, subscribers, directed, step);
    }

    /// What is left to be told when a part of it has been: whoever proposed it may not have known all of whom.
    pub(super) fn farewell_rest(&self, effect: &Effect, rest: Effect) -> Effect {
        let (
            Effect::Unavailable {
                directed, among, ..
            },
            Effect::Unavailable { packet, after, .. },
        ) = (effect, &rest)
        else {
            return rest;
        };
        let behind = |to: &&Jid| after.as_ref().is_none_or(|after| to.bare() > *after);
        Effect::Unavailable {
            packet: packet.clone(),
            directed: directed.iter().filter(behind).cloned().collect(),
            after: after.clone(),
            among: among.clone(),
        }
    }

    /// Tells those in shards that take something; for the others the farewell is set aside.
    fn spread_gone(
        &mut self,
        farewell: &Farewell<'_>,
        mut subscribers: Vec<Jid>,
        directed: Vec<Jid>,
        step: &mut Step,
    ) {
        if let Some(from) = &farewell.packet.header.from {
            self.leave_out_blocked(&from.bare(), &mut subscribers, |to| Some(to));
        }
        let shards = self.shards();
        let home = |to: &Jid| shard_of(&to.bare(), shards);
        let full = self.outboxes().full();
        let mut away: BTreeMap<ShardId, Vec<Jid>> = BTreeMap::new();
        let mut near = Vec::with_capacity(directed.len());
        if full.is_empty() {
            near = directed;
        } else {
            subscribers.retain(|to| {
                let home = Some(home(to)).filter(|home| full.contains(home));
                home.map(|home| away.entry(home).or_default()).is_none()
            });
            for to in directed {
                match Some(home(&to)).filter(|home| full.contains(home)) {
                    Some(home) => away.entry(home).or_default().push(to),
                    None => near.push(to),
                }
            }
        }
        let to = together(subscribers.into_iter(), near);
        self.spread_presence(farewell.packet, to, step);
        for (shard, directed) in away {
            self.set_aside(farewell, shard, directed);
        }
    }

    /// Whoever of this shard is to hear it does so when the shard takes something again.
    fn set_aside(&mut self, farewell: &Farewell<'_>, shard: ShardId, mut directed: Vec<Jid>) {
        let Some(jid) = &farewell.packet.header.from else {
            return;
        };
        if let Some(rest) = farewell.rest {
            directed.extend(self.leave_out(rest, shard));
        }
        let after = farewell.after.cloned();
        let untold = Untold { after, directed };
        self.outboxes_mut().set_aside(shard, jid, untold);
    }

    /// What is left of a farewell is for others than this shard's accounts; returns to whom of them presence was
    /// directed.
    fn leave_out(&mut self, rest: EffectId, left_out: ShardId) -> Vec<Jid> {
        let shards = self.shards();
        let (mut apart, mut is_over) = (Vec::new(), false);
        self.effects_mut()
            .change_farewell(rest, |_, among, directed| {
                let of = |to: &Jid| shard_of(&to.bare(), shards) == left_out;
                (apart, *directed) = directed.drain(..).partition(of);
                match among {
                    Among::All => *among = Among::Without(BTreeSet::from([left_out])),
                    Among::Only(only) => is_over = *only == left_out,
                    Among::Without(without) => {
                        without.insert(left_out);
                    }
                }
            });
        if is_over {
            self.effects_mut().remove(rest);
        }
        apart
    }

    /// Has farewells told that were set aside, where there is room again: some with each entry.
    pub(super) fn resume_farewells(&mut self) {
        for (shard, jid, untold) in self.outboxes_mut().take_due(SLICE) {
            self.add_effect(Effect::Unavailable {
                packet: unavailable(&jid),
                directed: untold.directed,
                after: untold.after,
                among: Among::Only(shard),
            });
        }
    }

    /// Those to whom a session directed its presence, without those of its own account who hear of its
    /// broadcasts anyway.
    pub(super) fn strangers(&self, jid: &Jid, directed: BTreeSet<Jid>) -> Vec<Jid> {
        let account = jid.bare();
        let is_one = |to: &Jid| {
            let unavailable = || self.session(to).is_some_and(|s| !s.is_available());
            !to.belongs_to(&account) || (to != jid && unavailable())
        };
        directed.into_iter().filter(is_one).collect()
    }
}

/// Everybody once who is a subscriber or to whom presence was directed.
fn together(subscribers: impl Iterator<Item = Jid>, directed: Vec<Jid>) -> Vec<Jid> {
    let few = directed.is_empty();
    let mut to: Vec<Jid> = subscribers.chain(directed).collect();
    if !few {
        to.sort_unstable();
        to.dedup();
    }
    to
}

#[cfg(test)]
mod tests;
