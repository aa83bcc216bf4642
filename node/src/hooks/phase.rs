//! The order in which services have their turns.

/// When a service has its turn, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It may refuse the stanza, which is not acknowledged yet.
    Limit,
    /// It adds what else follows from the stanza, which no hook has refused. Lack of room may still refuse it.
    Follow,
}

/// When a service carries out effects, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EffectPhase {
    /// Rows, all together: other effects may read or delete them.
    Rows,
    /// Ends of sessions, all together.
    Ends,
    /// One by one, in the order in which the shard has them.
    Each,
}
