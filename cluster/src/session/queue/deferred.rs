//! What stands behind the numbered part of a queue.
//!
//! It takes memory only while there is any of it, for most sessions hibernate without.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use super::ticket::Later;
use crate::id::EffectId;

/// Read as a [`Line`]; written to only where there is something to write.
#[derive(Clone, Debug, Default)]
pub(in crate::session) struct Deferred(Option<Box<Line>>);

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::session) struct Line {
    /// What has no number yet, because the queue is full or something before it is being read back.
    pub(in crate::session) later: VecDeque<Later>,
    /// Bytes of whole stanzas in `later`.
    pub(in crate::session) bytes: u64,
    pub(in crate::session) fetching: Option<Fetching>,
}

/// The first `count` of what is deferred are being read back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::session) struct Fetching {
    pub(in crate::session) effect: EffectId,
    pub(in crate::session) count: usize,
}

impl Line {
    const NOTHING: Self = Self {
        later: VecDeque::new(),
        bytes: 0,
        fetching: None,
    };
}

impl Deferred {
    /// What was written down.
    pub(in crate::session) fn of(later: VecDeque<Later>, fetching: Option<Fetching>) -> Self {
        let bytes = later.iter().map(Later::size).sum();
        let line = Line {
            later,
            bytes,
            fetching,
        };
        Self((line != Line::NOTHING).then(|| Box::new(line)))
    }

    /// Gives back memory that holds nothing.
    pub(super) fn shrink(&mut self) {
        if **self == Line::NOTHING {
            self.0 = None;
        }
    }
}

/// Memory that holds nothing makes no difference.
impl PartialEq for Deferred {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Deref for Deferred {
    type Target = Line;

    fn deref(&self) -> &Line {
        static NOTHING: Line = Line::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Deferred {
    fn deref_mut(&mut self) -> &mut Line {
        self.0.get_or_insert_with(|| Box::new(Line::NOTHING))
    }
}
