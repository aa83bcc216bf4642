//! What is bound to statements of either engine.

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

use super::error::{Oversize, StorageError};

/// The largest value that is stored (T-72).
pub(crate) const MAX_VALUE: usize = 1 << 20;

/// A value for a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A text or nothing.
    Text(Option<String>),
    /// A number or nothing; also truth, as 0 and 1.
    Number(Option<i64>),
    /// Bytes or nothing.
    Bytes(Option<Vec<u8>>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<u64> for Value {
    /// Times and counters stay far below the bound; an absurd one is stored as the bound.
    fn from(number: u64) -> Self {
        Self::Number(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Number(Some(i64::from(truth)))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes)
    }
}

impl Value {
    /// Refuses what is larger than anything that is stored.
    pub(crate) fn check(&self) -> Result<(), Oversize> {
        let bytes = match self {
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
            Self::Number(_) => 0,
        };
        if bytes > MAX_VALUE {
            return Err(Oversize {
                bytes,
                limit: MAX_VALUE,
            });
        }
        Ok(())
    }
}

/// The values of a statement, added in place. A statement that is given them one by one is moved with each, which takes
/// longer than to bind hundreds of them.
macro_rules! arguments {
    ($values:expr, $arguments:ty) => {{
        #[cfg(test)]
        super::testing::count();
        let mut arguments = <$arguments>::default();
        for value in $values {
            value.check()?;
            let added = match value {
                Value::Text(text) => arguments.add(text),
                Value::Number(number) => arguments.add(number),
                Value::Bytes(bytes) => arguments.add(bytes),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }};
}

/// Values for SQLite.
pub(super) fn sqlite(values: Vec<Value>) -> Result<SqliteArguments, StorageError> {
    arguments!(values, SqliteArguments)
}

/// Values for PostgreSQL.
pub(super) fn postgres(values: Vec<Value>) -> Result<PgArguments, StorageError> {
    arguments!(values, PgArguments)
}
