//! How a session is written down: in one row of fields, as version 2 of the formats has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::Jid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Available, Session, Sm};
use crate::id::{ArchiveId, Epoch, NodeId, Order, Owner};
use crate::session::attachment::{Attachment, Hibernation};
use crate::session::clock::ShardTime;
use crate::session::interest::Interest;
use crate::session::output::Item;
use crate::session::question::Question;
use crate::session::queue::{Deferred, Fetching, Later, Queue};
use crate::session::rare::{Parts, Rare};

/// What is read.
#[derive(Debug, Deserialize)]
pub(in crate::session) struct Row {
    pub(in crate::session) owner: Option<Owner>,
    pub(in crate::session) epoch: Epoch,
    pub(in crate::session) next_in: u64,
    pub(in crate::session) base: u64,
    pub(in crate::session) sent: u64,
    pub(in crate::session) queue: VecDeque<Arc<Item>>,
    /// It is summed up anew.
    pub(in crate::session) _queue_bytes: u64,
    pub(in crate::session) behind: Option<Box<Behind>>,
    pub(in crate::session) sm: Option<Sm>,
    pub(in crate::session) presence: Option<Available>,
    pub(in crate::session) carbons: bool,
    pub(in crate::session) interested: bool,
    pub(in crate::session) directed: BTreeSet<Jid>,
    pub(in crate::session) hibernation: Option<Hibernation>,
    pub(in crate::session) overdue: bool,
    pub(in crate::session) follows_blocklist: bool,
    pub(in crate::session) interest: Interest,
}

#[derive(Debug, Default, Deserialize)]
pub(in crate::session) struct Behind {
    pub(in crate::session) later: VecDeque<Later>,
    /// It is summed up anew.
    pub(in crate::session) _later_bytes: u64,
    pub(in crate::session) fetching: Option<Fetching>,
    pub(in crate::session) questions: VecDeque<Question>,
    pub(in crate::session) read: BTreeMap<Order, ArchiveId>,
    pub(in crate::session) asked: VecDeque<u64>,
}

/// What is written.
#[derive(Serialize)]
struct RowRef<'a> {
    owner: Option<Owner>,
    epoch: Epoch,
    next_in: u64,
    base: u64,
    sent: u64,
    queue: &'a VecDeque<Arc<Item>>,
    queue_bytes: u64,
    behind: Option<BehindRef<'a>>,
    sm: &'a Option<Sm>,
    presence: &'a Option<Available>,
    carbons: bool,
    interested: bool,
    directed: &'a BTreeSet<Jid>,
    hibernation: Option<Hibernation>,
    overdue: bool,
    follows_blocklist: bool,
    interest: &'a Interest,
}

#[derive(Serialize)]
struct BehindRef<'a> {
    later: &'a VecDeque<Later>,
    later_bytes: u64,
    fetching: &'a Option<Fetching>,
    questions: &'a VecDeque<Question>,
    read: &'a BTreeMap<Order, ArchiveId>,
    asked: &'a VecDeque<u64>,
}

impl Row {
    pub(in crate::session) fn session(self) -> Session {
        let behind = self.behind.map(|behind| *behind).unwrap_or_default();
        let attachment = match (self.owner, self.hibernation) {
            (Some(owner), _) => Attachment::Attached {
                owner,
                overdue: self.overdue,
            },
            (None, Some(hibernation)) => Attachment::Hibernated(hibernation),
            // No build has written such a one. Its time is over.
            (None, None) => Attachment::Hibernated(Hibernation {
                patient: false,
                since: ShardTime::default(),
                until: ShardTime::default(),
                node: NodeId(0),
            }),
        };
        let deferred = Deferred::of(behind.later, behind.fetching);
        Session {
            attachment,
            epoch: self.epoch,
            next_in: self.next_in,
            queue: Queue::of(self.base, self.sent, self.queue, deferred),
            rare: Rare::of(Parts {
                questions: behind.questions,
                read: behind.read,
                asked: behind.asked,
            }),
            sm: self.sm,
            presence: self.presence,
            carbons: self.carbons,
            interested: self.interested,
            directed: self.directed,
            follows_blocklist: self.follows_blocklist,
            interest: self.interest,
        }
    }
}

impl<'de> Deserialize<'de> for Session {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Row::deserialize(deserializer).map(Row::session)
    }
}

impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            attachment,
            epoch,
            next_in,
            queue,
            rare,
            sm,
            presence,
            carbons,
            interested,
            directed,
            follows_blocklist,
            interest,
        } = self;
        let overdue = matches!(attachment, Attachment::Attached { overdue: true, .. });
        let line = queue.deferred();
        let behind = BehindRef {
            later: &line.later,
            later_bytes: line.bytes,
            fetching: &line.fetching,
            questions: &rare.questions,
            read: &rare.read,
            asked: &rare.asked,
        };
        let nothing = Deferred::default() == *line && Rare::default() == *rare;
        let row = RowRef {
            owner: attachment.owner(),
            epoch: *epoch,
            next_in: *next_in,
            base: queue.base(),
            sent: queue.sent(),
            queue: queue.stanzas(),
            queue_bytes: queue.bytes(),
            behind: (!nothing).then_some(behind),
            sm,
            presence,
            carbons: *carbons,
            interested: *interested,
            directed,
            hibernation: attachment.hibernation(),
            overdue,
            follows_blocklist: *follows_blocklist,
            interest,
        };
        row.serialize(serializer)
    }
}
