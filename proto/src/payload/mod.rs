//! Payloads that more than one service reads or writes. Pure, like all of this crate.

pub mod blocking;
pub mod caps;
pub mod delay;
pub mod disco;
pub mod form;
pub mod forward;
pub mod hints;
pub mod register;
pub mod rsm;
pub mod stanza_id;
