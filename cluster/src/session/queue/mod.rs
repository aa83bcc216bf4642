//! What one session holds for its client: stanzas with numbers, and behind them those that have none yet.
//!
//! The numbered part is what the client may have been sent: whole stanzas, each with a number that never changes.
//! What comes when that part is full, or while something is being read back, is deferred: it stands behind without a
//! number, whole or as a [`Ticket`], and moves up in order. The shard decides what goes where and what becomes of it;
//! the queue keeps order, numbers and bytes.

mod deferred;
mod ticket;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) use deferred::{Deferred, Fetching};
use proto::Jid;
use proto::stanza::{Kind, Packet, PresenceType};
pub(super) use ticket::{Body, Later, Ticket};

use super::effect::Fetched;
use super::output::{Copied, Item};
use super::settings::Settings;
use crate::id::{ArchiveId, EffectId};

/// Stanzas read back at a time.
const CHUNK: usize = 128;
/// Their bytes, about, if it is more than one.
const CHUNK_BYTES: u64 = 128 << 10;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    /// The absolute number of the first stanza in `numbered`.
    base: u64,
    /// Stanzas with lower numbers may have been written.
    sent: u64,
    numbered: VecDeque<Arc<Item>>,
    /// Bytes of `numbered`.
    bytes: u64,
    deferred: Deferred,
}

/// Where a stanza has gone.
#[derive(Debug)]
pub(super) enum Pushed {
    /// It is numbered.
    Numbered(u64, Arc<Item>),
    /// It stands behind others that have no number yet.
    Deferred,
    /// The queue is over its bounds and has not taken it.
    Refused(Arc<Item>),
}

/// What goes on behind the numbered part, where there is room again.
#[derive(Debug)]
pub(super) enum Progress {
    /// The first of what was deferred is numbered.
    Numbered(u64, Arc<Item>),
    /// These bodies are to be read back, so that so many deferred stanzas can move up.
    Bodies(Vec<ArchiveId>, usize),
}

/// What bodies that were read back have brought.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Stanzas that have moved up, with their numbers, in order.
    pub(super) numbered: Vec<(u64, Arc<Item>)>,
    /// Messages among them that the archive does not show.
    pub(super) hidden: Vec<ArchiveId>,
    /// The archive does not have them any more.
    pub(super) gone: Vec<Ticket>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self::of(1, 1, VecDeque::new(), Deferred::default())
    }

    /// A queue that was written down.
    pub(super) fn of(
        base: u64,
        sent: u64,
        numbered: VecDeque<Arc<Item>>,
        deferred: Deferred,
    ) -> Self {
        let bytes = numbered.iter().map(|item| item.size()).sum();
        Self {
            base,
            sent,
            numbered,
            bytes,
            deferred,
        }
    }

    /// The number of the first stanza that the client is not known to have.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The number up to which stanzas may have been written, without it.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The number that the next stanza gets.
    pub(super) fn next(&self) -> u64 {
        self.base + self.numbered.len() as u64
    }

    /// Stanzas and bytes that it holds.
    pub(super) fn load(&self) -> (usize, u64) {
        (
            self.numbered.len() + self.deferred.later.len(),
            self.bytes + self.deferred.bytes,
        )
    }

    /// Bytes of what is numbered.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of what is deferred whole.
    pub(super) fn deferred_bytes(&self) -> u64 {
        self.deferred.bytes
    }

    pub(super) fn deferred(&self) -> &Deferred {
        &self.deferred
    }

    /// Stanzas and their numbers, in order.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u64, &Arc<Item>)> {
        (self.base..).zip(&self.numbered)
    }

    /// As it is written down.
    pub(super) fn stanzas(&self) -> &VecDeque<Arc<Item>> {
        &self.numbered
    }

    /// Everything that is here whole, in order.
    pub(super) fn whole(&self) -> impl Iterator<Item = &Arc<Item>> {
        let later = self.deferred.later.iter().filter_map(|later| match later {
            Later::Whole(item) => Some(item),
            Later::Ticket(_) => None,
        });
        self.numbered.iter().chain(later)
    }

    /// The messages that it holds, whole or not.
    pub(super) fn mids(&self) -> impl Iterator<Item = ArchiveId> {
        let queue = self.numbered.iter().filter_map(|item| item.mid);
        queue.chain(self.deferred.later.iter().filter_map(Later::archive_id))
    }

    /// Those of them that several sessions hold.
    #[cfg(test)]
    pub(super) fn shared(&self) -> impl Iterator<Item = ArchiveId> {
        let queue = self.numbered.iter().filter(|item| item.shared);
        let later = self.deferred.later.iter().filter(|l| l.is_shared());
        let queue = queue.filter_map(|item| item.mid);
        queue.chain(later.filter_map(Later::archive_id))
    }

    /// Takes a stanza within these bounds. If somebody owns the session, what is numbered is on its way from now on.
    pub(super) fn push(&mut self, item: Arc<Item>, bounds: &Settings, is_owned: bool) -> Pushed {
        let (stanzas, bytes) = self.load();
        if bounds.is_over(stanzas, bytes) {
            return Pushed::Refused(item);
        }
        if self.defers() {
            self.defer(Later::Whole(item));
            return Pushed::Deferred;
        }
        Pushed::Numbered(self.number(item.clone(), is_owned), item)
    }

    /// The next thing to do for what is deferred, if anything can be done within these bounds.
    pub(super) fn go_on(&mut self, bounds: &Settings, is_owned: bool) -> Option<Progress> {
        if !self.is_stuck(bounds) {
            return None;
        }
        if let Some(Later::Ticket(_)) = self.deferred.later.front() {
            let (mids, count) = self.next_chunk();
            return Some(Progress::Bodies(mids, count));
        }
        let Some(Later::Whole(item)) = self.advance() else {
            return None;
        };
        Some(Progress::Numbered(
            self.number(item.clone(), is_owned),
            item,
        ))
    }

    /// Bodies have been read: their stanzas move up, in order. What is gone from the archive is left out. If `rest`
    /// brings more of them, what stands behind the last one that is here waits for it. None if nobody waits for the
    /// effect.
    pub(super) fn arrive(
        &mut self,
        effect: EffectId,
        messages: Vec<Fetched>,
        rest: Option<EffectId>,
        is_owned: bool,
    ) -> Option<Arrived> {
        let fetching = self.deferred.fetching.take_if(|f| f.effect == effect)?;
        let found: BTreeMap<ArchiveId, Fetched> =
            messages.into_iter().map(|m| (m.mid, m)).collect();
        let count = match rest {
            None => fetching.count,
            Some(_) => self.reach(&found, fetching.count),
        };
        let mut arrived = Arrived::default();
        for _ in 0..count {
            let item = match self.advance() {
                None => break,
                Some(Later::Whole(item)) => item,
                // Two tickets may be of one message: its original and a carbon.
                Some(Later::Ticket(ticket)) => match found.get(&ticket.archive_id()) {
                    None => {
                        arrived.gone.push(ticket);
                        continue;
                    }
                    Some(message) => {
                        let hidden = (!message.archived).then_some(message.mid);
                        arrived.hidden.extend(hidden);
                        Arc::new(ticket.stanza(message))
                    }
                },
            };
            let number = self.number(item.clone(), is_owned);
            arrived.numbered.push((number, item));
        }
        if let Some(effect) = rest {
            self.await_bodies(effect, fetching.count - count);
        }
        Some(arrived)
    }

    /// Gives a stanza its number.
    fn number(&mut self, item: Arc<Item>, is_owned: bool) -> u64 {
        let number = self.next();
        self.bytes += item.size();
        self.numbered.push_back(item);
        if is_owned {
            self.sent = number + 1;
        }
        number
    }

    /// A new owner gets everything that has a number.
    pub(super) fn hand_over(&mut self) {
        self.sent = self.next();
    }

    /// The client has everything below `upto`: what that frees, in order.
    pub(super) fn acknowledge(&mut self, upto: u64) -> Vec<Arc<Item>> {
        let count = upto
            .saturating_sub(self.base)
            .min(self.numbered.len() as u64);
        // No more than the queue is long.
        let freed: Vec<_> = self.numbered.drain(..count as usize).collect();
        self.base += count;
        self.bytes -= freed.iter().map(|item| item.size()).sum::<u64>();
        freed
    }

    /// Something is deferred.
    pub(super) fn defers(&self) -> bool {
        !self.deferred.later.is_empty()
    }

    /// Something is deferred that could move up, and nobody is at it.
    pub(super) fn is_stuck(&self, settings: &Settings) -> bool {
        self.deferred.fetching.is_none()
            && self.defers()
            && settings.has_room(self.numbered.len(), self.bytes)
    }

    pub(super) fn defer(&mut self, later: Later) {
        self.deferred.bytes += later.size();
        self.deferred.later.push_back(later);
    }

    /// Takes the first of what is deferred.
    fn advance(&mut self) -> Option<Later> {
        let later = self.deferred.later.pop_front()?;
        self.deferred.bytes -= later.size();
        Some(later)
    }

    /// The bodies that are to be read back next, and how many deferred stanzas that lets move up.
    fn next_chunk(&self) -> (Vec<ArchiveId>, usize) {
        let (mut mids, mut count, mut bytes) = (Vec::new(), 0, 0);
        for later in self.deferred.later.iter().take(CHUNK) {
            if let Later::Ticket(ticket) = later {
                bytes += ticket.size();
                if !mids.is_empty() && bytes > CHUNK_BYTES {
                    break;
                }
                mids.push(ticket.archive_id());
            }
            count += 1;
        }
        (mids, count)
    }

    /// The first `count` of what is deferred wait for the effect that reads them back.
    pub(super) fn await_bodies(&mut self, effect: EffectId, count: usize) {
        self.deferred.fetching = Some(Fetching { effect, count });
    }

    /// The effect that is waited for.
    pub(super) fn awaits(&self) -> Option<EffectId> {
        self.deferred.fetching.map(|fetching| fetching.effect)
    }

    /// How many of the first `count` that are deferred go up to the last one which was found.
    fn reach(&self, found: &BTreeMap<ArchiveId, Fetched>, count: usize) -> usize {
        let fetched = |later: &Later| match later {
            Later::Ticket(ticket) => found.contains_key(&ticket.archive_id()),
            Later::Whole(_) => false,
        };
        let mut asked = self.deferred.later.iter().take(count);
        asked.rposition(fetched).map_or(0, |last| last + 1)
    }

    /// Takes away availability of this contact that nobody has seen yet and that is not on its way: the newest is
    /// all there is to know (SM-40).
    pub(super) fn forget_presence(&mut self, from: Option<&Jid>) {
        let busy = self.deferred.fetching.as_ref().map_or(0, |f| f.count);
        let same = |later: &Later| match later {
            Later::Whole(item) => {
                is_availability(&item.packet) && item.packet.header.from.as_ref() == from
            }
            Later::Ticket(_) => false,
        };
        // At most one, because each that came was looked for.
        let mut waiting = self.deferred.later.iter().skip(busy);
        if let Some(place) = waiting.position(same) {
            let found = self.deferred.later.remove(busy + place);
            self.deferred.bytes -= found.map_or(0, |later| later.size());
        }
    }

    /// Takes away the event of this account that has the same key, if the client cannot have seen it: the newest is
    /// all there is to know.
    pub(super) fn forget_event(&mut self, from: &Jid, key: u64) {
        let same = |item: &Item| {
            item.copy == Some(Copied::Event(key)) && item.packet.header.from.as_ref() == Some(from)
        };
        let written = (self.sent - self.base) as usize;
        let mut unwritten = self.numbered.iter().skip(written);
        if let Some(place) = unwritten.position(|item| same(item)) {
            let found = self.numbered.remove(written + place);
            self.bytes -= found.map_or(0, |item| item.size());
            return;
        }
        let busy = self.deferred.fetching.as_ref().map_or(0, |f| f.count);
        let mut waiting = self.deferred.later.iter().skip(busy);
        let whole = |later: &Later| matches!(later, Later::Whole(item) if same(item));
        if let Some(place) = waiting.position(whole) {
            let found = self.deferred.later.remove(busy + place);
            self.deferred.bytes -= found.map_or(0, |later| later.size());
        }
    }

    /// Changes what is here whole, and puts what `ticket` says in the place of tickets.
    pub(super) fn change(
        &mut self,
        mut whole: impl FnMut(&mut Arc<Item>),
        mut ticket: impl FnMut(Ticket) -> Option<Later>,
    ) {
        self.numbered.iter_mut().for_each(&mut whole);
        // Most queues defer nothing, and have no place for it.
        if !self.defers() {
            return;
        }
        let deferred = &mut *self.deferred;
        for later in &mut deferred.later {
            match later {
                Later::Whole(item) => whole(item),
                Later::Ticket(known) => {
                    if let Some(now) = ticket(*known) {
                        deferred.bytes += now.size();
                        *later = now;
                    }
                }
            }
        }
    }

    /// Everything that is left when the session ends: what is numbered, and what is deferred.
    pub(super) fn into_stanzas(mut self) -> (VecDeque<Arc<Item>>, VecDeque<Later>) {
        let later = match self.defers() {
            true => std::mem::take(&mut self.deferred.later),
            false => VecDeque::new(),
        };
        (self.numbered, later)
    }

    /// Gives back memory that the numbered part does not need.
    pub(super) fn shrink(&mut self) {
        self.numbered.shrink_to_fit();
    }

    /// Gives back memory that holds nothing deferred.
    pub(super) fn shrink_deferred(&mut self) {
        self.deferred.shrink();
    }

    /// What is wrong with it, if anything is. `is_owned` says whether a connection acts for the session.
    #[cfg(test)]
    pub(super) fn broken(&self, is_owned: bool) -> Option<&'static str> {
        let next = self.next();
        if self.base > self.sent || self.sent > next {
            return Some("numbers of its queue are out of order");
        }
        if is_owned && self.sent != next {
            return Some("an owned session has stanzas without a number");
        }
        let bytes: u64 = self.numbered.iter().map(|item| item.size()).sum();
        let deferred: u64 = self.deferred.later.iter().map(Later::size).sum();
        if (bytes, deferred) != (self.bytes, self.deferred.bytes) {
            return Some("the bytes of its queue are miscounted");
        }
        let fetching = self.deferred.fetching;
        let nothing = fetching.is_some_and(|f| f.count > self.deferred.later.len());
        nothing.then_some("it waits for nothing")
    }

    /// For broken builds: what is numbered is gone.
    #[cfg(test)]
    pub(super) fn lose_numbered(&mut self) {
        self.numbered.clear();
    }
}

/// Availability, of which the newest is all there is to know.
pub(super) fn is_availability(packet: &Packet) -> bool {
    matches!(
        packet.header.kind,
        Kind::Presence(PresenceType::Available | PresenceType::Unavailable)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::stage::packet;

    fn item() -> Arc<Item> {
        let kind = Kind::Presence(PresenceType::Available);
        Arc::new(Item::plain(packet(kind, "alice@example.org/a", None), 1))
    }

    #[test]
    fn sm_34_a_stanza_is_numbered_or_stands_behind_others_or_is_refused() {
        let bounds = Settings {
            max_queue_stanzas: 2,
            ..Settings::default()
        };
        let mut queue = Queue::new();
        for number in 1..=2 {
            let pushed = queue.push(item(), &bounds, true);
            assert!(matches!(pushed, Pushed::Numbered(n, _) if n == number));
        }
        let Pushed::Refused(refused) = queue.push(item(), &bounds, true) else {
            panic!("there is no room");
        };
        queue.defer(Later::Whole(refused));
        assert!(queue.go_on(&bounds, true).is_none(), "nothing is free yet");
        assert_eq!(queue.acknowledge(3).len(), 2);
        let pushed = queue.push(item(), &bounds, true);
        assert!(matches!(pushed, Pushed::Deferred), "another is before it");
        for number in 3..=4 {
            let next = queue.go_on(&bounds, true);
            assert!(matches!(next, Some(Progress::Numbered(n, _)) if n == number));
        }
        assert!(queue.go_on(&bounds, true).is_none());
        assert_eq!((queue.sent(), queue.broken(true)), (5, None));
    }
}
