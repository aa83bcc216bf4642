//! One session: who acts for it, how far both counts are, what its client wants and what it is yet to get.

pub(super) mod row;

use std::collections::BTreeSet;

use proto::sm::{CountTooHigh, Origin};
use proto::stanza::Packet;
use proto::{BareJid, Jid};
use serde::{Deserialize, Serialize};

use super::attachment::{Attachment, Hibernation};
use super::interest::Interest;
use super::output::{Enabled, Resumed};
use super::queue::Queue;
use super::rare::Rare;
use super::settings::Settings;
use crate::id::{Epoch, Owner, SmId};

/// One bound resource. How it is written down is in `row`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    attachment: Attachment,
    /// Rises whenever the session gets or loses an owner.
    epoch: Epoch,
    /// The absolute number of the next stanza from the client.
    next_in: u64,
    pub(super) queue: Queue,
    pub(super) rare: Rare,
    sm: Option<Sm>,
    presence: Option<Available>,
    carbons: bool,
    interested: bool,
    /// To whom directed presence was sent (IM-46).
    directed: BTreeSet<Jid>,
    follows_blocklist: bool,
    pub(super) interest: Interest,
}

/// Stream management of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sm {
    /// Present if the session may be resumed.
    pub smid: Option<SmId>,
    /// Inbound stanzas up to this number preceded `<enable/>`.
    pub after: u64,
    /// The number of the first stanza that counted after `<enabled/>`.
    pub start: u64,
    /// Where both counters started.
    pub seed: u32,
    /// Hibernation time in seconds.
    pub max: u32,
}

impl Sm {
    /// How long the session hibernates, in milliseconds.
    pub(super) fn hibernation(&self) -> u64 {
        u64::from(self.max) * 1000
    }

    /// What the connection that asked for it is told.
    pub(super) fn enabled(&self) -> Enabled {
        Enabled {
            smid: self.smid.clone(),
            max: self.max,
            next: self.start,
            seed: self.seed,
        }
    }

    fn inbound(&self) -> Origin {
        Origin::new(self.after + 1, self.seed)
    }

    fn outbound(&self) -> Origin {
        Origin::new(self.start, self.seed)
    }
}

/// A session's last broadcast presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Available {
    pub(super) packet: Packet,
    pub(super) priority: i8,
}

impl Session {
    pub(super) fn new(owner: Owner, epoch: Epoch) -> Self {
        Self {
            attachment: Attachment::to(owner),
            epoch,
            next_in: 1,
            queue: Queue::new(),
            rare: Rare::default(),
            sm: None,
            presence: None,
            carbons: false,
            interested: false,
            directed: BTreeSet::new(),
            follows_blocklist: false,
            interest: Interest::default(),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// It has got an owner, or lost one.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// A connection acts for it from now on; returns how it hibernated, if it did.
    pub(super) fn attach(&mut self, owner: Owner) -> Option<Hibernation> {
        let slept = self.hibernation();
        self.attachment = Attachment::to(owner);
        slept
    }

    /// It hibernates from now on, or until another time than it did; returns how it did.
    pub(super) fn hibernate(&mut self, sleep: Hibernation) -> Option<Hibernation> {
        let slept = self.hibernation();
        self.attachment = Attachment::Hibernated(sleep);
        slept
    }

    pub(super) fn hibernation(&self) -> Option<Hibernation> {
        self.attachment.hibernation()
    }

    /// What is sent now may not reach the client.
    pub(super) fn is_away(&self) -> bool {
        self.attachment.is_away()
    }

    /// The client has not answered for long.
    pub(super) fn fall_overdue(&mut self) {
        self.attachment.fall_overdue();
    }

    /// The client has answered; returns whether that was overdue.
    pub(super) fn answered(&mut self) -> bool {
        self.attachment.answered()
    }

    /// The absolute number of the next stanza from the client.
    pub(super) fn next_in(&self) -> u64 {
        self.next_in
    }

    /// A stanza with this number comes from the client: whether it is a new one.
    ///
    /// # Errors
    ///
    /// The number that is expected, if one is missing before it.
    pub(super) fn take_in(&mut self, number: u64) -> Result<bool, u64> {
        if number > self.next_in {
            return Err(self.next_in);
        }
        let is_new = number == self.next_in;
        self.next_in += u64::from(is_new);
        Ok(is_new)
    }

    pub(super) fn sm(&self) -> Option<&Sm> {
        self.sm.as_ref()
    }

    /// Stream management is switched on, by the first request.
    pub(super) fn enable(&mut self, sm: Sm) {
        self.sm.get_or_insert(sm);
    }

    /// Its last broadcast, while it is available.
    pub(super) fn presence(&self) -> Option<&Available> {
        self.presence.as_ref()
    }

    pub(super) fn is_available(&self) -> bool {
        self.presence.is_some()
    }

    /// Returns the priority that it was available with.
    pub(super) fn set_presence(&mut self, presence: Option<Available>) -> Option<i8> {
        let before = std::mem::replace(&mut self.presence, presence);
        before.map(|before| before.priority)
    }

    /// Its client gets copies of what goes to others (XEP-0280).
    pub(super) fn has_carbons(&self) -> bool {
        self.carbons
    }

    pub(super) fn set_carbons(&mut self, on: bool) {
        self.carbons = on;
    }

    /// Its client has asked for the roster and gets pushes.
    pub(super) fn is_interested(&self) -> bool {
        self.interested
    }

    pub(super) fn set_interested(&mut self) {
        self.interested = true;
    }

    /// Its client has asked for the account's blocklist and is told of changes.
    pub(super) fn follows_blocklist(&self) -> bool {
        self.follows_blocklist
    }

    pub(super) fn follow_blocklist(&mut self) {
        self.follows_blocklist = true;
    }

    /// To whom it has directed its presence.
    pub(super) fn directed(&self) -> &BTreeSet<Jid> {
        &self.directed
    }

    /// It has shown itself to somebody.
    pub(super) fn direct_to(&mut self, to: Jid) {
        self.directed.insert(to);
    }

    /// Somebody has seen its end, or is gone.
    pub(super) fn take_back_from(&mut self, to: &Jid) {
        self.directed.remove(to);
    }

    pub(super) fn take_directed(&mut self) -> BTreeSet<Jid> {
        std::mem::take(&mut self.directed)
    }

    /// It is here when the farewell of its predecessor goes out: to whom it shows itself hears of both with its own.
    pub(super) fn go_on(&mut self, subscribers: &mut Vec<Jid>, directed: &mut Vec<Jid>) {
        let mut both: BTreeSet<BareJid> = subscribers.iter().map(Jid::bare).collect();
        if self.presence.is_none() {
            let shown: BTreeSet<BareJid> = self.directed.iter().map(Jid::bare).collect();
            both.retain(|account| shown.contains(account));
        }
        let known = self.directed.clone();
        let mut stays = |to: &Jid| {
            let both = both.contains(&to.bare());
            if both {
                self.directed.insert(to.clone());
            }
            !both && !known.contains(to)
        };
        subscribers.retain(&mut stays);
        directed.retain(&mut stays);
    }

    /// Whose connection acts for it.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.attachment.owner()
    }

    /// Its identifier, if it may be resumed.
    pub(super) fn smid(&self) -> Option<&SmId> {
        self.sm.as_ref()?.smid.as_ref()
    }

    pub(super) fn is_resumable(&self) -> bool {
        self.smid().is_some()
    }

    /// Available with a priority that takes part in delivery to the bare JID.
    pub(super) fn is_non_negative(&self) -> bool {
        self.presence.as_ref().is_some_and(|p| p.priority >= 0)
    }

    pub(super) fn priority(&self) -> i8 {
        self.presence.as_ref().map_or(i8::MIN, |p| p.priority)
    }

    /// Our inbound count, as the client knows it (SM-14).
    pub(super) fn h(&self) -> u32 {
        let sm = self.sm.as_ref();
        sm.map_or(0, |sm| sm.inbound().h(self.next_in))
    }

    /// What the connection that has just taken it over needs to know.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        let sm = self.sm.as_ref()?;
        Some(Resumed {
            smid: sm.smid.clone()?,
            h: self.h(),
            next_in: self.next_in,
            next_out: self.queue.base(),
            acked: sm.outbound().h(self.queue.base()),
            late: self.queue.sent(),
        })
    }

    /// The number below which everything is covered by the client's count `h` (SM-28).
    pub(super) fn covered(&self, h: u32) -> Result<u64, CountTooHigh> {
        match &self.sm {
            Some(sm) => {
                let (acked, sent) = (self.queue.base(), self.queue.sent());
                sm.outbound().covered(h, acked, sent)
            }
            None => Err(CountTooHigh { h, sent: 0 }),
        }
    }

    /// The client has acknowledged more than `h` already.
    pub(super) fn is_behind(&self, h: u32) -> bool {
        let sm = self.sm.as_ref();
        sm.is_some_and(|sm| sm.outbound().is_behind(h, self.queue.base()))
    }

    /// Its address `jid`, out of its presence if that has it: then the text is in memory once.
    pub(super) fn name<'a>(&'a self, jid: &'a Jid) -> &'a Jid {
        let presence = self.presence.as_ref();
        let own = presence.and_then(|p| p.packet.header.from.as_ref());
        own.filter(|from| *from == jid).unwrap_or(jid)
    }

    /// Somebody owns it, and something is deferred that could move up.
    pub(super) fn is_stuck(&self, settings: &Settings) -> bool {
        self.owner().is_some() && self.queue.is_stuck(settings)
    }

    /// Whether directed presence to this address can be remembered (T-51).
    pub(super) fn has_place(&self, to: &Jid, settings: &Settings) -> bool {
        let bytes = || self.directed.iter().map(|jid| jid.as_str().len() as u64);
        self.directed.contains(to)
            || (self.directed.len() < settings.max_directed as usize
                && bytes().sum::<u64>() + to.as_str().len() as u64 <= settings.max_directed_bytes)
    }

    /// Gives back memory that a session needs only while it is busy.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink();
        self.queue.shrink_deferred();
        self.rare.shrink();
    }
}
