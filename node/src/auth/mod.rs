//! Who may log in, and which accounts exist.

mod store;
mod throttle;

pub use store::{Accounts, Rejected, derive_keys};
pub use throttle::Throttle;
