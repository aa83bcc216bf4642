//! BOSH: a stream in requests of HTTP and their answers (XEP-0124, XEP-0206).
//!
//! [`RequestReader`] reads what a client sends; [`Session`] is one session of BOSH: it orders the requests, makes of them
//! the bytes that a [`Stream`](super::Stream) knows, makes answers of what that writes, and says which request gets
//! which answer when. It does no I/O and reads no clock.

mod answer;
mod request;
mod session;
#[cfg(test)]
mod tests;
mod window;

pub use answer::terminal;
pub use request::{Request, RequestReader};
pub use session::{Ready, Received, Session};

use std::time::Duration;

/// How long a request may wait for an answer.
pub const WAIT: Duration = Duration::from_secs(60);
/// How long a client may be without a request; then its connection is lost.
pub const INACTIVITY: Duration = Duration::from_secs(60);
/// The same at most, if it asks for it.
pub const MAX_PAUSE: Duration = Duration::from_secs(120);
/// Empty requests that follow each other faster than this are counted.
pub const POLLING: Duration = Duration::from_secs(1);
/// So many of them are too many.
pub const HASTE: u32 = 60;
/// How many requests a client may make before it is logged in.
pub const REQUESTS_BEFORE_AUTH: u32 = 100;
/// Bytes of whole elements that wait for a request.
pub const QUEUE_BYTES: usize = 64 * 1024;
/// How long a session is remembered whose end the client has not heard yet, or may not have.
pub const LINGER: Duration = Duration::from_secs(15);

/// Why a session ends (XEP-0124 §17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Condition {
    /// What came is no request.
    #[error("bad-request")]
    BadRequest,
    /// The domain is not served here.
    #[error("host-unknown")]
    HostUnknown,
    /// No domain is named where one must be.
    #[error("improper-addressing")]
    ImproperAddressing,
    /// There is no such session, or it knows no such request.
    #[error("item-not-found")]
    ItemNotFound,
    /// Too much, too often.
    #[error("policy-violation")]
    PolicyViolation,
    /// The stream went away without an end, so that its session can be resumed.
    #[error("remote-connection-failed")]
    RemoteConnectionFailed,
    /// The stream ended with an error.
    #[error("remote-stream-error")]
    RemoteStreamError,
}
