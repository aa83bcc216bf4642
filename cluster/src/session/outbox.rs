//! Between shards: what one has committed and the other has not yet confirmed.
//!
//! The sender keeps items in order until the receiver's cursor has passed them; the receiver skips what
//! its cursor covers and refuses gaps. Both move in the same entry as the state they belong to, so a
//! repeat after any crash is harmless.
//!
//! A shard that takes nothing must cost its neighbours little: who sends to it is slowed down when
//! [`SLOW`] bytes wait for it (see [`Cluster::admit`](crate::Cluster::admit)), and refused when [`FULL`] do. What follows from
//! an end, an answer or an effect was accepted before and is always kept; each was bounded where it was accepted.

use proto::BareJid;
use proto::stanza::Packet;
use serde::{Deserialize, Serialize};

use super::cow::{CopyOnWrite, Queue};
use super::state::ShardState;
use super::*;
use crate::codec;
use crate::id::ShardId;
use crate::shard::map::shard_of;

/// With so many bytes for one other shard those who send there have to wait, unless it takes nothing at all.
pub const SLOW: u64 = 8 << 20;
/// With so many they are refused.
pub const FULL: u64 = 16 << 20;

/// Items for one other shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outbox {
    /// The number of the first item.
    pub(super) first: u64,
    pub(super) items: Queue<CopyOnWrite<Relay>>,
    /// Of the items.
    pub(super) bytes: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::of(1, Queue::default())
    }
}

impl Outbox {
    /// With these items, of which the first has this number.
    pub(super) fn of(first: u64, items: Queue<CopyOnWrite<Relay>>) -> Self {
        let bytes = items.iter().map(|relay| relay.size() as u64).sum();
        Self {
            first,
            items,
            bytes,
        }
    }

    /// Takes out the items below number `upto`; returns their bytes.
    fn trim(&mut self, upto: u64) -> u64 {
        let mut bytes = 0;
        while self.first < upto
            && let Some(relay) = self.items.pop_front()
        {
            self.first += 1;
            bytes += relay.size() as u64;
        }
        self.bytes -= bytes;
        bytes
    }
}

impl ShardState {
    /// Sends something to the account, in this shard or another.
    pub(super) fn dispatch(&mut self, account: &BareJid, relay: Relay, out: &mut Vec<Output>) {
        let shard = shard_of(account, self.shards);
        if shard == self.id {
            self.deliver(relay, out);
        } else {
            self.post(shard, relay);
        }
    }

    pub(super) fn post(&mut self, shard: ShardId, relay: Relay) {
        let size = relay.size() as u64;
        self.backlog += size;
        let outbox = self.outboxes.entry(shard).or_default();
        outbox.bytes += size;
        outbox.items.push_back(CopyOnWrite::new(relay));
    }

    /// More waits for the account's shard than may: what is sent there is refused.
    pub(super) fn is_cut_off(&self, account: &BareJid) -> bool {
        self.outbox_load(shard_of(account, self.shards)).bytes >= FULL
    }

    pub(super) fn relayed(
        &mut self,
        from: ShardId,
        first: u64,
        items: Vec<Relay>,
        out: &mut Vec<Output>,
    ) -> Outcome {
        let cursor = *self.cursors.get(&from).unwrap_or(&1);
        if first > cursor {
            return Outcome::Gap { expected: cursor };
        }
        let known = usize::try_from(cursor - first).unwrap_or(usize::MAX);
        let next = (first + items.len() as u64).max(cursor);
        for relay in items.into_iter().skip(known) {
            self.deliver(relay, out);
        }
        self.cursors.insert(from, next);
        Outcome::Relayed { cursor: next }
    }

    pub(super) fn trim(&mut self, to: ShardId, upto: u64) -> Outcome {
        if let Some(outbox) = self.outboxes.get_mut(&to) {
            self.backlog -= outbox.trim(upto);
        }
        Outcome::Done
    }

    /// What waits for another shard to take it.
    pub fn outbox_load(&self, to: ShardId) -> Load {
        let outbox = self.outboxes.get(&to);
        outbox.map_or(Load::default(), |outbox| Load {
            bytes: outbox.bytes,
            gone: outbox.first,
        })
    }

    /// The numbers of the first unconfirmed item for `to` and of the next one to come.
    pub fn outbox_range(&self, to: ShardId) -> (u64, u64) {
        self.outboxes
            .get(&to)
            .map_or((1, 1), |o| (o.first, o.first + o.items.len() as u64))
    }

    /// Items for `to` from number `from` (or the first there is) on, at most `max_items` and `max_bytes` of them as
    /// they are encoded, or one, with the number of the first.
    pub fn outbox(
        &self,
        to: ShardId,
        from: u64,
        max_items: usize,
        max_bytes: usize,
    ) -> (u64, Vec<Relay>) {
        let Some(outbox) = self.outboxes.get(&to) else {
            return (from, Vec::new());
        };
        let first = from.max(outbox.first);
        let skip = usize::try_from(first - outbox.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let next = outbox.items.from(skip).take(max_items);
        let items = next.enumerate().take_while(|(n, relay)| {
            bytes += codec::size(&**relay);
            *n == 0 || bytes <= max_bytes
        });
        (first, items.map(|(_, relay)| Relay::clone(relay)).collect())
    }
}

impl Action {
    /// Shows each account that it reaches beside the session's own.
    pub(crate) fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Send(relay) => relay.each_account(show),
            Self::Directed(packet) => addressee(packet, show),
            Self::Presence(update) => {
                update.subscribers.iter().for_each(&mut *show);
                update.probes.iter().for_each(show);
            }
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::Push(_)
            | Self::Result { .. } => {}
        }
    }

    /// About how many bytes it takes where it waits, but for the names of many accounts.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Send(Relay::Message(message)) => 128 + message.packet.size(),
            Self::Send(relay) => relay.size(),
            Self::Directed(packet) => 96 + packet.payload.len(),
            Self::Presence(update) => 96 + update.packet.payload.len(),
            Self::Reply(_)
            | Self::Carbons(_)
            | Self::Interested
            | Self::Push(_)
            | Self::Result { .. } => 0,
        }
    }
}

fn addressee(packet: &Packet, show: &mut impl FnMut(&BareJid)) {
    if let Some(to) = &packet.header.to {
        show(&to.bare());
    }
}

impl Relay {
    fn each_account(&self, show: &mut impl FnMut(&BareJid)) {
        match self {
            Self::Message(message) => addressee(&message.packet, show),
            Self::Iq { packet, .. } | Self::Subscription(packet) => addressee(packet, show),
            Self::Presence { to, .. } => to.iter().for_each(|to| show(&to.bare())),
            Self::Probe { to, .. } => to.iter().for_each(show),
            Self::Push { account, .. }
            | Self::Notice { account, .. }
            | Self::Hidden { account, .. }
            | Self::NoPush { account, .. }
            | Self::EndAll { account, .. }
            | Self::Unkept { account, .. } => show(account),
        }
    }

    /// About how many bytes the item takes while it waits.
    pub fn size(&self) -> usize {
        match self {
            Self::Message(m) => 128 + m.packet.payload.len(),
            Self::Iq { packet, .. }
            | Self::Subscription(packet)
            | Self::Push { packet, .. }
            | Self::Notice { packet, .. } => 96 + packet.payload.len(),
            Self::Presence { packet, to } => 96 + packet.payload.len() + 32 * to.len(),
            Self::Probe { to, .. } => 48 + 32 * to.len(),
            Self::Hidden { mids, .. } => 48 + 16 * mids.len(),
            Self::Unkept { packet, .. } => 96 + packet.payload.len(),
            Self::EndAll { .. } | Self::NoPush { .. } => 48,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::stanza::{IqType, Kind, MessageType, PresenceType};

    use super::super::stage::{Stage, message, packet, stanzas};
    use super::*;

    const SHARDS: u16 = 2;

    /// A session of this shard, an account of the other and one of our own.
    fn parties() -> (Stage, String, String, String) {
        let mut stage = Stage::new();
        stage.state = ShardState::new(ShardId(0), SHARDS);
        let of = |shard| {
            let mut all = (0..).map(|n| format!("user{n}@example.org"));
            let lives = |user: &String| {
                let user = BareJid::new(user).expect("valid");
                shard_of(&user, SHARDS) == ShardId(shard)
            };
            all.find(lives).expect("every shard has accounts")
        };
        let (near, far) = (of(0), of(1));
        let session = format!("{near}/desk");
        stage.bind(&session, Some(0));
        (stage, session, far, near)
    }

    /// Sends messages until so many bytes wait for the other shard.
    fn fill(stage: &mut Stage, session: &str, far: &str, bytes: u64) {
        let mut mid = 1;
        while stage
            .state
            .outboxes
            .values()
            .all(|outbox| outbox.bytes < bytes)
        {
            let mut large = message(MessageType::Chat, session, far, mid);
            large.packet.payload = vec![b'x'; 200_000].into();
            stage.act(session, Action::Send(Relay::Message(large)));
            mid += 1;
        }
    }

    fn waiting(stage: &Stage) -> usize {
        stage
            .state
            .outboxes
            .values()
            .map(|outbox| outbox.items.len())
            .sum()
    }

    #[test]
    fn what_goes_to_a_shard_that_takes_nothing_comes_back_before_it_is_acknowledged() {
        let (mut stage, session, far, near) = parties();
        stage.settings.max_backlog_bytes = 0;
        fill(&mut stage, &session, &far, FULL);
        let before = waiting(&stage);
        let far_session = format!("{far}/x");
        let chat = Relay::Message(message(MessageType::Chat, &session, &far, 9));
        let question = Relay::Iq {
            packet: packet(Kind::Iq(IqType::Get), &session, Some(&far_session)),
            permitted: true,
        };
        let subscribe = Kind::Presence(PresenceType::Subscribe);
        let available = Kind::Presence(PresenceType::Available);
        let mut broadcast = packet(available, &session, None);
        broadcast.payload = b"<show>away</show>".as_slice().into();
        let actions = [
            Action::Send(chat),
            Action::Send(question),
            Action::Send(Relay::Subscription(packet(subscribe, &session, Some(&far)))),
            Action::Directed(packet(available, &session, Some(&far_session))),
            Action::Presence(PresenceUpdate {
                packet: broadcast,
                priority: 0,
                subscribers: vec![BareJid::new(&far).expect("valid")],
                probes: Vec::new(),
                requests: Vec::new(),
            }),
        ];
        for action in actions {
            let told = format!("{action:?}");
            let outputs = stage.act(&session, action);
            let errors = [
                Kind::Message(MessageType::Error),
                Kind::Iq(IqType::Error),
                Kind::Presence(PresenceType::Error),
            ];
            let came = stanzas(&outputs);
            assert!(
                matches!(&came[..], [(to, kind)] if *to == session && errors.contains(kind)),
                "{told}: {came:?}"
            );
        }
        assert_eq!(waiting(&stage), before);
        // Answers were asked for, an end is an end, and others are not concerned.
        let answer = Relay::Iq {
            packet: packet(Kind::Iq(IqType::Error), &session, Some(&far_session)),
            permitted: true,
        };
        assert!(!stage.state.turns_back(&answer, &mut Vec::new()));
        let home = Relay::Message(message(MessageType::Chat, &session, &near, 10));
        assert!(!stage.state.turns_back(&home, &mut Vec::new()));
    }
}
