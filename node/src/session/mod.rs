//! A client's connection, from the first byte to the last.
//!
//! [`negotiate`] leads a socket to a bound or resumed session; then [`pump`] carries bytes between the
//! socket and the stream machine, and [`actor`] acts for the session. What happens to a session is
//! decided in its shard: the actor proposes, and writes what comes back as outputs, in their order. It
//! never writes what was not committed.

pub mod actor;
mod admission;
pub mod depart;
pub mod directory;
pub mod journal;
pub mod negotiate;
mod output;
pub mod pump;
pub mod rate;
mod ration;
pub mod resume;
pub mod sweep;
mod times;
pub mod vigil;
mod work;

pub use directory::{Directory, Mail};
