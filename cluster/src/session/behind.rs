//! What few sessions have: something behind their queue, or questions that are open.
//!
//! It takes memory only while there is any of it, for most sessions hibernate without.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::question::Question;
use super::state::Fetching;
use super::ticket::Later;
use crate::id::Mid;

/// Read as [`Rare`]; written to only where there is something to write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Behind(Option<Box<Rare>>);

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rare {
    /// What has no number yet, because the queue is full or something before it is being read back.
    pub(super) later: VecDeque<Later>,
    /// Bytes of whole stanzas in `later`.
    pub(super) later_bytes: u64,
    pub(super) fetching: Option<Fetching>,
    /// Requests that the client has not answered yet.
    pub(super) questions: VecDeque<Question>,
    /// What the client has read in its archive before it became available, by order.
    pub(super) read: BTreeMap<u64, Mid>,
    /// Requests of the client itself that others have not answered yet, each as a hash.
    pub(super) asked: VecDeque<u64>,
}

impl Rare {
    const NOTHING: Self = Self {
        later: VecDeque::new(),
        later_bytes: 0,
        fetching: None,
        questions: VecDeque::new(),
        read: BTreeMap::new(),
        asked: VecDeque::new(),
    };
}

impl Behind {
    /// Gives back memory that holds nothing.
    pub(super) fn shrink(&mut self) {
        if **self == Rare::NOTHING {
            self.0 = None;
        }
    }
}

impl Deref for Behind {
    type Target = Rare;

    fn deref(&self) -> &Rare {
        static NOTHING: Rare = Rare::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Behind {
    fn deref_mut(&mut self) -> &mut Rare {
        self.0.get_or_insert_with(|| Box::new(Rare::NOTHING))
    }
}
