//! Sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use proto::Jid;
use serde::Deserialize;

use super::stanza::Packet;
use crate::id::{ArchiveId, EffectId, NodeId, Owner, SmId};
use crate::session::format::upgrade::{Upgrade, mirror_enum, mirror_struct};
use crate::session::session::row::{self, Row};
use crate::session::{self, attachment, output, question, queue, resources};

#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) struct Resources(Vec<(Box<str>, Box<Session>)>);

impl Upgrade<resources::Resources> for Resources {
    fn upgrade(self) -> resources::Resources {
        let mut now = resources::Resources::default();
        for (resource, session) in self.0 {
            now.insert(&resource, (*session).upgrade());
        }
        now
    }
}

/// By hand, because two of its fields are gone: which orders of the archive the client had asked for.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) struct Session {
    owner: Option<Owner>,
    epoch: u64,
    next_in: u64,
    base: u64,
    sent: u64,
    queue: VecDeque<Arc<Item>>,
    queue_bytes: u64,
    behind: Behind,
    sm: Option<Sm>,
    presence: Option<Available>,
    carbons: bool,
    interested: bool,
    #[expect(dead_code, reason = "it is read to get past it")]
    aware_upto: u64,
    #[expect(dead_code, reason = "it is read to get past it")]
    aware_from: u64,
    directed: BTreeSet<Jid>,
    hibernation: Option<Hibernation>,
    overdue: bool,
}

impl Upgrade<session::Session> for Session {
    fn upgrade(self) -> session::Session {
        let row = Row {
            owner: self.owner.upgrade(),
            epoch: self.epoch.upgrade(),
            next_in: self.next_in.upgrade(),
            base: self.base.upgrade(),
            sent: self.sent.upgrade(),
            queue: self.queue.upgrade(),
            _queue_bytes: self.queue_bytes,
            behind: self.behind.0.map(|rare| Box::new((*rare).upgrade())),
            sm: self.sm.upgrade(),
            presence: self.presence.upgrade(),
            carbons: self.carbons.upgrade(),
            interested: self.interested.upgrade(),
            directed: self.directed.upgrade(),
            hibernation: self.hibernation.upgrade(),
            overdue: self.overdue.upgrade(),
            follows_blocklist: false,
            interest: Default::default(),
        };
        row.session()
    }
}

mirror_struct!(Item => output::Item {
    packet: Packet,
    stamp: u64,
    mid: Option<ArchiveId>,
    archived: bool,
    offline: bool,
    keep: bool,
    shared: bool,
    order: u64,
} with {
    // Of a carbon it is the whole stanza, which has had its time when the session ends.
    copy: None,
});

mirror_struct!(Sm => session::Sm {
    smid: Option<SmId>,
    after: u64,
    start: u64,
    seed: u32,
    max: u32,
});

mirror_struct!(Available => session::session::Available {
    packet: Packet,
    priority: i8,
});

mirror_struct!(Hibernation => attachment::Hibernation {
    patient: bool,
    since: u64,
    until: u64,
    node: NodeId,
});

#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) struct Behind(Option<Box<Rare>>);

#[derive(Clone, Debug, Deserialize)]
pub(in crate::session) struct Rare {
    later: VecDeque<Later>,
    later_bytes: u64,
    fetching: Option<Fetching>,
    questions: VecDeque<Question>,
}

impl Upgrade<row::Behind> for Rare {
    fn upgrade(self) -> row::Behind {
        row::Behind {
            later: self.later.upgrade(),
            _later_bytes: self.later_bytes,
            fetching: self.fetching.upgrade(),
            questions: self.questions.upgrade(),
            read: BTreeMap::new(),
            asked: VecDeque::new(),
        }
    }
}

mirror_enum!(Later => queue::Later {
    Whole(Arc<Item>),
    Ticket(Ticket),
});

mirror_struct!(Ticket => queue::Ticket {
    high: NonZeroU64,
    low: u64,
    rest: u64,
});

mirror_struct!(Fetching => queue::Fetching {
    effect: EffectId,
    count: usize,
});

mirror_struct!(Question => question::Question {
    from: Jid,
    id: Box<str>,
    kind: Ask,
    answered: bool,
});

mirror_enum!(Ask => question::Ask { Get, Set });
