//! Why a session ends.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// The client closed its stream.
    Closed,
    /// The connection was lost and the session could not be resumed.
    Lost,
    /// The hibernation time is over.
    Expired,
    /// Another connection claimed the resource.
    Conflict,
    /// Too many hibernated sessions; this was the oldest.
    Limit,
    /// An administrator ended it.
    Admin,
    /// The client broke the protocol.
    Violation,
    /// The account's credentials changed, or it is disabled.
    Credentials,
    /// More was queued for it than can be kept in any form.
    Overflow,
    /// The account was removed.
    Removed,
}
