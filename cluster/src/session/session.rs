//! One session: who acts for it, how far both counts are, what its client wants and what it is yet to get.

use std::collections::BTreeSet;

use proto::Jid;
use proto::sm::{CountTooHigh, Origin};
use proto::stanza::Packet;
use serde::{Deserialize, Serialize};

use super::attachment::Attachment;
use super::queue::Queue;
use super::rare::Rare;
use super::settings::Settings;
use crate::id::{Owner, SmId};

/// One bound resource. How it is written down is in `session::format`.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub(super) attachment: Attachment,
    /// Rises whenever the session gets or loses an owner.
    pub(super) epoch: u64,
    /// The absolute number of the next stanza from the client.
    pub(super) next_in: u64,
    pub(super) queue: Queue,
    pub(super) rare: Rare,
    pub(super) sm: Option<Sm>,
    pub(super) presence: Option<Available>,
    pub(super) carbons: bool,
    pub(super) interested: bool,
    /// To whom directed presence was sent (IM-46).
    pub(super) directed: BTreeSet<Jid>,
}

/// Stream management of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sm {
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
    pub(super) fn new(owner: Owner, epoch: u64) -> Self {
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
        }
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
