//! Stream Management (XEP-0198): the elements and the counting.
//!
//! Counters are 32 bits wide and wrap (SM-21). What a queue holds, and whether it survives its node, is
//! not decided here: the server's queues are replicated elsewhere, a client keeps an [`Outbound`].

pub mod elements;
pub mod inbound;
pub mod origin;
pub mod outbound;
pub mod pace;

pub use elements::{Enabled, Failed, Malformed, SmElement};
pub use inbound::Inbound;
pub use origin::{CountTooHigh, Origin};
pub use outbound::Outbound;
pub use pace::{Next, Pace, Terms};
