//! Why a session ends.

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
    /// The same as [`Condition::RemoteConnectionFailed`], because the node stops serving: other nodes go on.
    #[error("system-shutdown")]
    SystemShutdown,
}
