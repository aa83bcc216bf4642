//! What few sessions have: requests that are open, and messages that were read before they were due.
//!
//! It takes memory only while there is any of it, for most sessions hibernate without.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use proto::Jid;
use proto::stanza::{Header, IqType, Kind};

use super::question::{ASKED, EACH, OPEN, Question, Standing, hash};
use crate::id::{ArchiveId, Order};

/// Read as [`Parts`]; written to only where there is something to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare(Option<Box<Parts>>);

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// Requests that the client has not answered yet.
    pub(super) questions: VecDeque<Question>,
    /// What the client has read in its archive before it became available, by order.
    pub(super) read: BTreeMap<Order, ArchiveId>,
    /// Requests of the client itself that others have not answered yet, each as a hash.
    pub(super) asked: VecDeque<u64>,
}

impl Parts {
    const NOTHING: Self = Self {
        questions: VecDeque::new(),
        read: BTreeMap::new(),
        asked: VecDeque::new(),
    };
}

impl Rare {
    pub(super) fn of(parts: Parts) -> Self {
        Self((parts != Parts::NOTHING).then(|| Box::new(parts)))
    }

    /// The client asks somebody else: whether it may.
    pub(super) fn note_asked(&mut self, header: &Header) -> bool {
        let Some(to) = &header.to else {
            return true;
        };
        let room = self.asked.len() < ASKED;
        if room {
            self.asked.push_back(hash(to, header.id.as_deref()));
        }
        room
    }

    /// An answer has come: whether the client waits for it.
    pub(super) fn note_answered(&mut self, header: &Header) -> bool {
        let Some(from) = header.from.as_ref().filter(|_| !self.asked.is_empty()) else {
            return false;
        };
        let hash = hash(from, header.id.as_deref());
        let Some(place) = self.asked.iter().position(|known| *known == hash) else {
            return false;
        };
        self.asked.remove(place);
        self.shrink();
        true
    }

    /// Whether the client may be asked one thing more.
    pub(super) fn may_be_asked(&self, header: &Header) -> bool {
        let Some(from) = header.from.as_ref().map(Jid::bare) else {
            return true;
        };
        let (all, same) = self.open().fold((0, 0), |(all, same), question| {
            (all + 1, same + usize::from(question.from.belongs_to(&from)))
        });
        all < OPEN && same < EACH
    }

    /// A request was queued for the client: its answer is owed from now on.
    pub(super) fn note_question(&mut self, header: &Header) {
        if let Some(question) = Question::new(header) {
            self.questions.push_back(question);
        }
    }

    /// The client sends an IQ: an answer settles its question.
    pub(super) fn note_answer(&mut self, header: &Header) -> Standing {
        if !matches!(header.kind, Kind::Iq(IqType::Result | IqType::Error)) || header.to.is_none() {
            return Standing::Request;
        }
        match self.take_question(header) {
            None => Standing::Unasked,
            Some(question) if question.answered => Standing::Settled,
            Some(_) => Standing::Awaited,
        }
    }

    /// The question that an answer settles.
    pub(super) fn take_question(&mut self, answer: &Header) -> Option<Question> {
        let to = answer.to.as_ref()?;
        let id = answer.id.as_deref().unwrap_or_default();
        let mut known = self.questions.iter();
        let place = known.position(|q| q.from == *to && *q.id == *id)?;
        self.questions.remove(place)
    }

    /// Requests that the client owes an answer.
    pub(super) fn open(&self) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(|question| !question.answered)
    }

    /// Gives back memory that holds nothing.
    pub(super) fn shrink(&mut self) {
        if **self == Parts::NOTHING {
            self.0 = None;
        }
    }
}

/// Memory that holds nothing makes no difference.
impl PartialEq for Rare {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Deref for Rare {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        static NOTHING: Parts = Parts::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Parts {
        self.0.get_or_insert_with(|| Box::new(Parts::NOTHING))
    }
}
