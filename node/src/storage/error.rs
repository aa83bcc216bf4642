//! Why the database did not do what it was asked.

use std::path::PathBuf;
use std::sync::Arc;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be asked now; the same request may succeed later.
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// It does not answer, and that is why.
    #[error("the database does not answer: {0}")]
    Away(Arc<String>),
    /// The node has started without it, and it has not answered since.
    #[error("the database has not answered yet")]
    NotYet,
    /// It will not take these values, however often it is asked.
    #[error("the database refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// A value is larger than anything that is stored.
    #[error(transparent)]
    Oversize(#[from] Oversize),
    /// What was stored cannot be read back.
    #[error("the database holds something that is not {0}")]
    Damaged(&'static str),
    /// The file or its directory cannot be made or opened.
    #[error("cannot open the database {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The URL cannot be understood. It is not repeated: it may hold a password.
    #[error("`storage.url` is not a usable PostgreSQL URL")]
    Url,
    /// A newer version of the server has changed the tables.
    #[error(
        "the database has schema {found}, this version knows up to {known}: use a newer version of Holdfast"
    )]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The account has no room for it. Clients are told in these words.
    #[error("{0}")]
    Full(String),
}

/// A value is larger than anything that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of {bytes} bytes is larger than the {limit} that are stored")]
pub struct Oversize {
    /// Its size.
    pub bytes: usize,
    /// The bound.
    pub limit: usize,
}

impl StorageError {
    /// Whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Away(_) | Self::NotYet)
    }

    /// Whether it is for what was to be written that it was not written: then it never will be.
    pub fn blames_values(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Oversize(_) | Self::Full(_) => true,
            Self::Unavailable(_)
            | Self::Away(_)
            | Self::NotYet
            | Self::Damaged(_)
            | Self::Open { .. }
            | Self::Url
            | Self::NewerSchema { .. } => false,
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let lasting = match &error {
            sqlx::Error::Database(refused) => refused.code().is_some_and(|code| blames(&code)),
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. } => true,
            // About the connection, whatever kinds there will be: a message must not go back for that.
            _ => false,
        };
        match lasting {
            true => Self::Refused(error),
            false => Self::Unavailable(error),
        }
    }
}

/// Whether an engine's code lays the blame on the values of the statement. Everything else is about the
/// database: however long it lasts, an operator can mend it, and what was to be written must be there then.
///
/// SQLite's codes are decimal numbers whose low byte is the kind: too big, constraint, mismatch, range.
/// PostgreSQL's are five characters whose first two are the class: data, constraint, limit of the program.
fn blames(code: &str) -> bool {
    if code.len() == 5 {
        return matches!(&code.as_bytes()[..2], b"22" | b"23" | b"54");
    }
    let kind = code.parse::<u32>().map(|code| code & 0xff);
    matches!(kind, Ok(18 | 19 | 20 | 25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_blames_the_values_is_refused_for_good() {
        // Among them a standby that takes no writes, a missing table, and a file that is read-only.
        for code in [
            "5", "261", "6", "8", "10", "1034", "13", "14", "1", "08006", "40001", "53300",
            "57P01", "55P03", "25006", "42P01", "42501", "x",
        ] {
            assert!(!blames(code), "{code}");
        }
        for code in ["18", "19", "1555", "20", "23505", "22021", "54000"] {
            assert!(blames(code), "{code}");
        }
    }

    #[test]
    fn only_an_absent_database_is_temporary() {
        assert!(StorageError::from(sqlx::Error::PoolTimedOut).is_temporary());
        let nested = sqlx::Error::InvalidSavePointStatement;
        assert!(StorageError::from(nested).is_temporary());
        assert!(!StorageError::from(sqlx::Error::RowNotFound).is_temporary());
        assert!(!StorageError::Damaged("x").is_temporary());
    }
}
