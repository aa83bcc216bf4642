//! Deliberate breakage: each mutant does what a wrong build would do, and must be caught.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The system as it is.
    None,
    /// A connection acknowledges before the commit.
    EarlyAck,
    /// That there is nothing to resume is read from the nearest replica, however late it is.
    ResumeFromLocalRead,
    /// Commands of an older epoch are taken.
    EpochUnchecked,
    /// A repeated stanza counts as a new one.
    PositionUnchecked,
    /// The counter wraps one number early, so that a resume across it covers one stanza too few.
    WrapOffByOne,
    /// The queue is sent again from the stanza with number h, which the client has.
    ResendFromH,
    /// The same in the other direction: a resume covers one stanza more than the client has.
    ResumeOffByOne,
    /// The queue is sent again in the wrong order.
    ReplayReversed,
    /// A snapshot lacks the queues.
    SnapshotWithoutQueue,
    /// An archive row that is written again is there twice.
    ArchiveTwice,
    /// What waits for the user counts as delivered before it is read back.
    MarkerEarly,
    /// An ended session's queue is dropped.
    EndDropsQueue,
    /// A flush of what is counted outside lifts the limits.
    LimitsLifted,
    /// Questions to a session end with it.
    EndDropsQuestions,
    /// An SM-ID opens sessions of any account.
    IdentifierForAll,
    /// A snapshot lacks the counts of old sessions.
    SnapshotWithoutOld,
    /// A completion that comes again is told to the subscribers again.
    GoneTwice,
    /// Subscribers are told that a session is gone when it only hibernates.
    GoneWhenLost,
    /// Subscribers are not told of an end.
    GoneUnsaid,
    /// Each ended session leaves an entry of its own that says when it is forgotten.
    ForgetsPile,
    /// Of a lost node's sessions the first slice is given up, and the rest forgotten.
    SliceForgetsRest,
    /// Of a broadcast the first slice is shown, and the rest forgotten.
    FanForgetsRest,
    /// What nobody acts for is not looked for.
    GhostsUnswept,
    /// One replica applies entries in another way, and only the hashes can tell.
    OneApartFromOthers,
    /// Who got presence directed is told of an end besides the subscribers.
    GoneApart,
    /// That one session has acknowledged a message, or its copy, does not count for the other that holds it.
    CopyUncounted,
    /// When outputs come from another replica, nobody looks for those that were skipped.
    SkippedUnread,
}

impl Mutant {
    /// All that must be caught, each with the invariants that may say so.
    pub(super) const BROKEN: [(Self, &[&str]); 27] = [
        (Self::EarlyAck, &["I-1", "I-6"]),
        (Self::ResumeFromLocalRead, &["I-10", "I-11"]),
        (Self::EpochUnchecked, &["I-3", "I-5", "I-6", "I-8", "IM-16"]),
        (Self::PositionUnchecked, &["I-3", "I-5", "I-6", "IM-16"]),
        // A client counts what comes again: of presence nobody minds, but the next count covers too much.
        (Self::WrapOffByOne, &["I-3", "I-1"]),
        (Self::ResendFromH, &["I-3"]),
        (Self::ResumeOffByOne, &["I-1", "I-22", "IM-16"]),
        (Self::ReplayReversed, &["I-5", "I-3", "I-1", "I-2", "IM-16"]),
        (Self::SnapshotWithoutQueue, &["I-16"]),
        (Self::ArchiveTwice, &["I-13"]),
        (Self::MarkerEarly, &["I-1", "I-14"]),
        (Self::EndDropsQueue, &["I-1", "I-14"]),
        (Self::LimitsLifted, &["I-12"]),
        (Self::EndDropsQuestions, &["IM-16"]),
        (Self::IdentifierForAll, &["I-9"]),
        (Self::SnapshotWithoutOld, &["I-16"]),
        (Self::GoneTwice, &["I-15"]),
        (Self::GoneWhenLost, &["I-15"]),
        (Self::GoneUnsaid, &["I-15"]),
        (Self::ForgetsPile, &["I-12"]),
        (Self::SliceForgetsRest, &["I-8"]),
        (Self::FanForgetsRest, &["I-15"]),
        (Self::GhostsUnswept, &["I-8"]),
        (Self::OneApartFromOthers, &["I-16"]),
        (Self::GoneApart, &["I-15"]),
        (Self::CopyUncounted, &["IM-14", "I-3"]),
        (Self::SkippedUnread, &["I-1", "I-22", "IM-16"]),
    ];
}
