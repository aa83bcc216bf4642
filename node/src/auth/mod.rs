//! Who may log in, and which accounts exist.

mod store;

pub use store::{Accounts, Rejected, derive_keys};
