//! Deliberate breakage: each mutant does what a wrong build would do, and must be caught.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The system as it is.
    None,
    /// A node votes before it has caught up.
    VotesUnready,
    /// A removal takes whoever has the seat by now.
    RemovedTwice,
    /// A change is begun while the last one is not committed.
    ChangeUnderWay,
    /// Voters are exchanged at once, and not by way of a joint membership.
    WithoutJoint,
    /// Who has lost its seat to another is taken for one that is away.
    BothIncarnations,
    /// A node that is about to stop is given votes.
    DrainedVotes,
    /// A node stops while shards need it.
    StopsAtOnce,
    /// A node stops as soon as others are to vote in its place, and does not wait until they do.
    NeededLater,
    /// A node that is about to stop goes on leading.
    DrainedLeads,
    /// What is decided about a node that is back changes nothing.
    Heedless,
    /// Greetings of nodes that were removed are answered, as if they were new.
    RemovedReturns,
    /// An emptied disk comes back under the name that it had.
    SameName,
    /// Each shard's voters are chosen without regard to the others.
    Uneven,
    /// Voters are chosen without regard to zones.
    Zoneless,
    /// Voters are chosen as if nobody voted yet.
    Forgetful,
    /// What was seen long ago is acted upon.
    OldLook,
    /// Who is away for good is waited for.
    Patient,
}

impl Mutant {
    /// All that must be caught, each with the invariants that may say so.
    pub(super) const BROKEN: [(Self, &[&str]); 17] = [
        (Self::VotesUnready, &["M-3"]),
        (Self::RemovedTwice, &["M-4"]),
        (Self::ChangeUnderWay, &["M-5"]),
        (Self::WithoutJoint, &["M-1", "M-2"]),
        (Self::BothIncarnations, &["M-6"]),
        (Self::DrainedVotes, &["M-8"]),
        (Self::StopsAtOnce, &["M-9"]),
        (Self::NeededLater, &["M-9"]),
        (Self::DrainedLeads, &["M-8"]),
        (Self::Heedless, &["M-13"]),
        (Self::RemovedReturns, &["M-7"]),
        (Self::SameName, &["M-1", "M-2"]),
        (Self::Uneven, &["M-10"]),
        (Self::Zoneless, &["M-12"]),
        (Self::Forgetful, &["M-11"]),
        (Self::OldLook, &["M-4"]),
        (Self::Patient, &["M-4"]),
    ];
}
