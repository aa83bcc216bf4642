//! How a stanza is refused.

use cluster::session::Action;
use proto::stanza::Header;
use proto::stanza::error::{self, Condition, ErrorType, StanzaError};

use crate::storage::StorageError;

/// The error reply, if the stanza may have one (ST-77).
pub fn refuse(header: &Header, error: &StanzaError) -> Vec<Action> {
    error::reply(header, error)
        .map(Action::Reply)
        .into_iter()
        .collect()
}

/// A condition with its usual type.
pub(crate) fn fail<T>(condition: Condition) -> Result<T, StanzaError> {
    Err(StanzaError::new(condition))
}

/// What the client is told when the database has not done its part: nothing has happened, and unless
/// there is too much of something, the same may succeed later.
pub(crate) fn failure(error: &StorageError) -> StanzaError {
    match error {
        StorageError::Full(full) => {
            StanzaError::new(Condition::ResourceConstraint).with_text(full.clone())
        }
        StorageError::Oversize(_) => StanzaError::new(Condition::ResourceConstraint),
        _ => {
            tracing::warn!(%error, "a stanza cannot be resolved");
            StanzaError::new(Condition::InternalServerError).with_type(ErrorType::Wait)
        }
    }
}
