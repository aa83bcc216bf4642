//! Deliberate breakage: each mutant does what a wrong build would do, and must be caught.

/// One way to be wrong; the numbers are those of the list of broken builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The system as it is.
    None,
    /// B-1: the edge acknowledges before the commit.
    EarlyAck,
    /// B-5: commands of an older epoch are taken.
    EpochUnchecked,
    /// B-6: a repeated stanza counts as a new one.
    PositionUnchecked,
    /// B-7, B-9: a resume covers one stanza more than the client has.
    ResumeOffByOne,
    /// B-8: the queue is sent again in the wrong order.
    ReplayReversed,
    /// B-10: a snapshot lacks the queues.
    SnapshotWithoutQueue,
    /// B-12: what waits for the user counts as delivered before it is read back.
    MarkerEarly,
    /// B-13: an ended session's queue is dropped.
    EndDropsQueue,
    /// B-18: an SM-ID opens sessions of any account.
    IdentifierForAll,
    /// B-20: a snapshot lacks the counts of old sessions.
    SnapshotWithoutOld,
}

impl Mutant {
    /// All that must be caught.
    pub(super) const BROKEN: [Self; 10] = [
        Self::EarlyAck,
        Self::EpochUnchecked,
        Self::PositionUnchecked,
        Self::ResumeOffByOne,
        Self::ReplayReversed,
        Self::SnapshotWithoutQueue,
        Self::MarkerEarly,
        Self::EndDropsQueue,
        Self::IdentifierForAll,
        Self::SnapshotWithoutOld,
    ];
}
