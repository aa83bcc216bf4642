//! Sessions as a pure, deterministic state machine: `apply(batch)` returns what follows.
//!
//! No clock, no randomness, no I/O and no unordered iteration. The leader's time and all ids arrive
//! inside commands, so that every replica computes the same, and a simulation runs millions of steps.

pub mod command;

pub use command::*;
