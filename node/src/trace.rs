//! Remembers the steps of messages that this process saw, for `holdfast trace`.
//!
//! A fixed number of the last steps is kept in memory. Neither addresses nor texts are kept.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster::ArchiveId;
use serde::{Deserialize, Serialize};

/// How many steps are kept, of 48 bytes each.
const STEPS: usize = 1 << 16;

/// A step of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Its sender's node has read and resolved it.
    Accepted,
    /// It is on the disks of a majority; its sender may be told.
    Committed,
    /// An archive holds it.
    Archived,
    /// It was written to a recipient's connection.
    Written,
    /// A recipient's client has acknowledged it.
    Acknowledged,
}

/// A step, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When, in milliseconds since 1970 by the clock of that node.
    pub at_ms: u64,
    /// The step.
    pub step: Step,
    /// The seat of the node that saw it.
    pub node: u64,
    /// The archive id.
    pub id: String,
}

struct Kept {
    mid: ArchiveId,
    at: u64,
    /// A digest of the id that the sender gave it, if this process saw that; else 0.
    id: u64,
    step: Step,
}

/// The steps that this process saw last.
pub struct Trail {
    seat: u64,
    now: fn() -> u64,
    // A lock that is held only to add a step, or to search when an operator asks.
    kept: Mutex<VecDeque<Kept>>,
}

impl Trail {
    /// An empty trail of the node in this seat.
    pub fn new(seat: u64, now: fn() -> u64) -> Self {
        Self {
            seat,
            now,
            kept: Mutex::default(),
        }
    }

    /// Records a step of a message.
    pub fn mark(&self, mid: ArchiveId, step: Step) {
        self.push(mid, step, 0);
    }

    /// Records that a message was accepted to which its sender gave `id`.
    pub fn accepted(&self, mid: ArchiveId, id: Option<&str>) {
        self.push(mid, Step::Accepted, id.map_or(0, digest));
    }

    fn push(&self, mid: ArchiveId, step: Step, id: u64) {
        let at = (self.now)();
        let mut kept = self.kept();
        if kept.len() == STEPS {
            kept.pop_front();
        }
        kept.push_back(Kept { mid, at, id, step });
    }

    /// The steps of messages, by their archive ids (`stanza-id`).
    pub fn of(&self, mids: &[ArchiveId]) -> Vec<Mark> {
        let kept = self.kept();
        let of = kept.iter().filter(|kept| mids.contains(&kept.mid));
        of.map(|kept| Mark {
            at_ms: kept.at,
            step: kept.step,
            node: self.seat,
            id: kept.mid.to_string(),
        })
        .collect()
    }

    /// The archive ids of messages that were accepted here with this id of their senders.
    pub fn called(&self, id: &str) -> Vec<ArchiveId> {
        let wanted = digest(id);
        let kept = self.kept();
        let called = kept.iter().filter(|kept| kept.id == wanted);
        called.map(|kept| kept.mid).collect()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest of a sender's id. It is never 0, which stands for none, and it is the same in all processes of one build.
fn digest(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_by_either_id_with_all_its_steps() {
        let trail = Trail::new(2, || 7);
        let (one, two) = (ArchiveId::new(1, 1), ArchiveId::new(1, 2));
        trail.accepted(one, Some("m1"));
        trail.accepted(two, None);
        trail.mark(one, Step::Committed);
        assert_eq!(trail.called("m1"), [one]);
        assert_eq!(trail.called("m2"), []);
        let steps: Vec<Step> = trail.of(&[one]).iter().map(|mark| mark.step).collect();
        assert_eq!(steps, [Step::Accepted, Step::Committed]);
        let mark = &trail.of(&[two])[0];
        assert_eq!((mark.node, mark.at_ms), (2, 7));
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let trail = Trail::new(1, || 0);
        for n in 0..=STEPS as u128 {
            trail.mark(ArchiveId::new(0, n), Step::Written);
        }
        assert_eq!(trail.kept().len(), STEPS);
        assert_eq!(trail.of(&[ArchiveId::new(0, 0)]), []);
    }
}
