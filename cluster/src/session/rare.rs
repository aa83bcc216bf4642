//! What few sessions have: requests that are open, and messages that were read before they were due.
//!
//! It takes memory only while there is any of it, for most sessions hibernate without.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use super::question::Question;
use crate::id::Mid;

/// Read as [`Parts`]; written to only where there is something to write.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare(Option<Box<Parts>>);

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// Requests that the client has not answered yet.
    pub(super) questions: VecDeque<Question>,
    /// What the client has read in its archive before it became available, by order.
    pub(super) read: BTreeMap<u64, Mid>,
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
