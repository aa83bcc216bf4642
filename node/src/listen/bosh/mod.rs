//! BOSH: streams in requests of HTTP (XEP-0124, XEP-0206), beside the WebSocket on the same listener.
//!
//! A session of BOSH outlives its connections, and may have several at a time. So it stands between them: a
//! [`Connection`] carries requests to the [`Session`] that they name and answers back, and a [`Socket`] is the session as
//! the stream sees it, which is negotiated and pumped as any other. What is answered when is decided by
//! [`proto::stream::bosh`]; this does the I/O.
//!
//! A session is known to its own node only. What another node is asked about it, it does not find: its client begins
//! anew there and resumes by Stream Management, as after the loss of any other connection (BO-8).

mod body;
mod call;
mod connection;
mod session;
mod sessions;
mod socket;

pub use call::is_asked;
pub use connection::Connection;
pub use sessions::Sessions;
pub use socket::Socket;

/// Where clients send their requests.
pub const PATH: &str = "/http-bind";
