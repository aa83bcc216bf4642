//! What the edge decides for one client's connection, without any I/O.
//!
//! The node's actor of a session gives these parts what has happened, and does what they say. None of them reads a
//! clock or draws a random number: times and names are arguments.

pub mod count;
pub mod inbox;
pub mod liveness;
pub mod outbox;
pub mod write;
