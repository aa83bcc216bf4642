//! Why a text is no address, and the one reason that needs no look at its letters.

use crate::limit::JID_PART_BYTES;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// A part is absent although its separator stands, or the domain is.
    #[error("a part of the address is empty")]
    Empty,
    /// A part has more than 1023 bytes (ST-93).
    #[error("a part of the address is too long")]
    TooLong,
    /// The localpart is not one (ST-95).
    #[error("the localpart is not valid")]
    Local,
    /// The domain is not one (ST-94).
    #[error("the domain is not valid")]
    Domain,
    /// The resource is not one (ST-96).
    #[error("the resource is not valid")]
    Resource,
    /// A resource stands where only a bare address may.
    #[error("a bare address has no resource")]
    NotBare,
    /// A password that cannot be prepared.
    #[error("the password is not valid")]
    Password,
}

/// A part of an address has its bounds before it is prepared, and after that (ST-93).
pub(super) fn check_length(part: &str) -> Result<(), JidError> {
    match part.len() {
        0 => Err(JidError::Empty),
        1..=JID_PART_BYTES => Ok(()),
        _ => Err(JidError::TooLong),
    }
}
