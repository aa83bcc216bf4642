//! The attacks that the server expects, by the codes that comments and test names cite.
//!
//! The text is that of `node/docs`. A test checks that every code that is cited anywhere is defined there, once.

pub mod threats {
    #![doc = include_str!("../docs/threats.md")]
}
