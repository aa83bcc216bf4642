//! What always holds, and the faults that tests cause, by the codes that comments and test names cite.
//!
//! The text is that of `cluster/docs`. A test checks that every code that is cited anywhere is defined there, once.

pub mod invariants {
    #![doc = include_str!("../docs/invariants.md")]
}

pub mod members {
    #![doc = include_str!("../docs/members.md")]
}

pub mod faults {
    #![doc = include_str!("../docs/faults.md")]
}
