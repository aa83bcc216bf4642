//! Authentication: the accounts, and the limits on failed attempts.

pub mod change;
mod failures;
pub mod invite;
pub mod offer;
pub mod registration;
pub mod revoke;
mod store;
mod throttle;
mod tokens;

pub use failures::{Failures, Told};
pub use offer::StreamSettings;
pub use store::{Accounts, Rejected, derive_keys, derive_sha512};
pub use throttle::Throttle;
pub use tokens::{Known, TokenWish, Tokens, read_key};
