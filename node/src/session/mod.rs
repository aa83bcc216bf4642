//! A client's connection, from the first byte to the last.
//!
//! [`arrival`] leads a socket to a stream over TLS, and [`negotiate`] that to a bound or resumed session; then [`pump`]
//! carries bytes between the socket and the stream machine, and [`actor`] carries a
//! [`cluster::connection::Connection`], which acts for the session. What happens to a session is decided in its shard: the connection proposes, and writes what comes back
//! as outputs, in their order. It never writes what was not committed.

pub mod actor;
mod admission;
mod along;
pub mod arrival;
pub mod depart;
pub mod directory;
pub mod entered;
pub mod journal;
pub mod negotiate;
pub mod pause_detector;
pub mod pump;
mod ration;
mod register;
mod requests;
mod resolve;
pub mod resume;
mod settings;
pub mod sweep;

pub use directory::Directory;
