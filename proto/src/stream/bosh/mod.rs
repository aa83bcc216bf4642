//! BOSH: a stream in requests of HTTP and their answers (XEP-0124, XEP-0206).
//!
//! [`RequestReader`] reads what a client sends; [`Session`] is one session of BOSH: it orders the requests, makes of them
//! the bytes that a [`Stream`](super::Stream) knows, makes answers of what that writes, and says which request gets
//! which answer when. It does no I/O and reads no clock.

mod answer;
mod condition;
mod outbox;
mod request;
mod session;
mod terms;
#[cfg(test)]
mod tests;
mod window;

pub use answer::terminal;
pub use condition::Condition;
pub use request::{Request, RequestReader};
pub use session::{Ready, Received, Session};
pub use terms::WAIT;
