//! How much waits somewhere until somebody takes it.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Bytes, about.
    pub bytes: u64,
    /// Changes whenever something was taken, as far as this replica has seen.
    pub gone: u64,
}
