//! Authentication: the accounts, and the limits on failed attempts.

mod failures;
pub mod revoke;
mod store;
mod throttle;

pub use failures::{Failures, Told};
pub use store::{Accounts, Rejected, derive_keys};
pub use throttle::Throttle;
