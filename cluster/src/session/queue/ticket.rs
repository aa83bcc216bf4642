//! What stands for a stanza whose body the archive holds: 24 bytes instead of all of it (SM-34).

use std::num::NonZeroU64;
use std::sync::Arc;

use proto::stanza::Kind;
use serde::{Deserialize, Serialize};

use crate::id::{ArchiveId, Order};
use crate::session::effect::Fetched;
use crate::session::output::{Copied, Direction, Item};

/// Orders are milliseconds since 1970 and 16 bits: this is enough until the year 2109.
const ORDER_BITS: u32 = 58;
const SIZE_SHIFT: u32 = ORDER_BITS;
const BODY_SHIFT: u32 = ORDER_BITS + 3;

/// What is known of a stanza without its body.
///
/// Packed, because a session may hold tens of thousands: the archive id in two halves (the upper one
/// inverted, so that it is never zero and [`Later`] needs no word for telling its variants apart), and in
/// the third word 58 bits of order, 3 of size and 3 of [`Body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::session) struct Ticket {
    pub(in crate::session) high: NonZeroU64,
    pub(in crate::session) low: u64,
    pub(in crate::session) rest: u64,
}

/// What the stanza is that a [`Ticket`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Body {
    /// A message of which the archive has all that is to be kept.
    Shown,
    /// One that waits for the user's next session if this one ends without it.
    Kept,
    /// The same, and other sessions of the account got it too.
    Shared,
    /// One that was stored while nobody was there, and goes back there whatever `on_timeout` says.
    Waited,
    /// A carbon copy of what the account sent or received.
    Carbon(Direction),
    /// A carbon copy of a message that waits for the user's next session if nobody acknowledges it.
    Copied,
}

impl Body {
    const ALL: [Self; 7] = [
        Self::Shown,
        Self::Kept,
        Self::Shared,
        Self::Waited,
        Self::Carbon(Direction::Sent),
        Self::Carbon(Direction::Received),
        Self::Copied,
    ];

    /// See [`Item::keep`].
    pub(in crate::session) fn keep(self) -> bool {
        matches!(
            self,
            Self::Kept | Self::Shared | Self::Waited | Self::Copied
        )
    }

    /// See [`Item::shared`].
    pub(in crate::session) fn is_shared(self) -> bool {
        matches!(self, Self::Shared | Self::Copied)
    }

    /// See [`Item::copy`].
    pub(in crate::session) fn copy(self) -> Option<Copied> {
        match self {
            Self::Shown | Self::Kept | Self::Shared | Self::Waited => None,
            Self::Carbon(direction) => Some(Copied::Carbon(direction)),
            Self::Copied => Some(Copied::Carbon(Direction::Received)),
        }
    }
}

impl Ticket {
    /// For the stanza with this id and place; `size` in bytes, or less if it is not known.
    pub(in crate::session) fn new(mid: ArchiveId, order: Order, size: u64, body: Body) -> Self {
        // Quarters of magnitudes: enough to know how many fit into an entry.
        let class = (0..7).find(|class| size <= 256 << (2 * class)).unwrap_or(7);
        let body = Body::ALL
            .iter()
            .position(|b| *b == body)
            .unwrap_or_default() as u64;
        let order = order.0 & ((1 << ORDER_BITS) - 1);
        Self {
            // Zero would be an id of the year 10889.
            high: NonZeroU64::new(!((mid.0 >> 64) as u64)).unwrap_or(NonZeroU64::MIN),
            low: mid.0 as u64,
            rest: order | class << SIZE_SHIFT | body << BODY_SHIFT,
        }
    }

    pub(in crate::session) fn archive_id(self) -> ArchiveId {
        ArchiveId(u128::from(!self.high.get()) << 64 | u128::from(self.low))
    }

    pub(in crate::session) fn order(self) -> Order {
        Order(self.rest & ((1 << ORDER_BITS) - 1))
    }

    /// No less than the size of the stanza, if that is within what a client may send.
    pub(in crate::session) fn size(self) -> u64 {
        256 << (2 * ((self.rest >> SIZE_SHIFT) & 7))
    }

    /// The stanza that it stood for, as it was read back.
    pub(super) fn stanza(self, message: &Fetched) -> Item {
        let body = self.body();
        Item {
            packet: message.packet.clone(),
            stamp: message.stamp,
            mid: Some(message.mid),
            archived: message.archived,
            offline: true,
            keep: body.keep(),
            shared: body.is_shared(),
            order: self.order(),
            copy: body.copy(),
        }
    }

    pub(in crate::session) fn body(self) -> Body {
        let index = (self.rest >> BODY_SHIFT) as usize;
        *Body::ALL.get(index).unwrap_or(&Body::Shown)
    }
}

impl Item {
    /// What may stand for it, if the archive shows it or is to keep it for the user.
    pub(in crate::session) fn ticket(&self) -> Option<Ticket> {
        let mid = self.mid?;
        let message = matches!(self.packet.header.kind, Kind::Message(_));
        let body = match (self.copy, self.keep, self.shared) {
            (None, true, true) => Body::Shared,
            (None, true, false) => Body::Kept,
            (None, false, _) if self.archived => Body::Shown,
            (Some(Copied::Carbon(_)), true, _) => Body::Copied,
            (Some(Copied::Carbon(direction)), false, _) if self.archived => Body::Carbon(direction),
            (None | Some(_), ..) => return None,
        };
        message.then(|| Ticket::new(mid, self.order, self.size(), body))
    }

    /// Bytes that it takes, about.
    pub(in crate::session) fn size(&self) -> u64 {
        self.packet.size() as u64
    }
}

/// Something behind the numbered part of a session's queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::session) enum Later {
    /// With its body.
    Whole(Arc<Item>),
    /// The body is to be read back.
    Ticket(Ticket),
}

impl Later {
    pub(in crate::session) fn archive_id(&self) -> Option<ArchiveId> {
        match self {
            Self::Whole(item) => item.mid,
            Self::Ticket(ticket) => Some(ticket.archive_id()),
        }
    }

    #[cfg(test)]
    pub(in crate::session) fn is_shared(&self) -> bool {
        match self {
            Self::Whole(item) => item.shared,
            Self::Ticket(ticket) => ticket.body().is_shared(),
        }
    }

    /// Bytes that it takes beside its place.
    pub(in crate::session) fn size(&self) -> u64 {
        match self {
            Self::Whole(item) => item.size(),
            Self::Ticket(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_keeps_what_it_was_made_of_in_24_bytes() {
        assert_eq!(std::mem::size_of::<Later>(), 24);
        for body in Body::ALL {
            let mid = ArchiveId::new(1_700_000_000_000, 77 << 60);
            let order = Order(1_795_000_000_000 << 16 | 3);
            for (size, least) in [(0, 256), (300, 1024), (262_144, 262_144)] {
                let ticket = Ticket::new(mid, order, size, body);
                assert_eq!((ticket.archive_id(), ticket.order()), (mid, order));
                assert_eq!((ticket.body(), ticket.size()), (body, least));
            }
        }
    }
}
