//! What a statement finds, row by row.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::error::StorageError;

/// A row of either engine; columns are counted from 0.
pub(crate) enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
}

macro_rules! column {
    ($row:expr, $index:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($index)?,
            Row::Postgres(row) => row.try_get($index)?,
        }
    };
}

impl Row {
    /// A text.
    pub(crate) fn text(&self, index: usize) -> Result<String, StorageError> {
        Ok(column!(self, index))
    }

    /// A text or nothing.
    pub(crate) fn text_or_none(&self, index: usize) -> Result<Option<String>, StorageError> {
        Ok(column!(self, index))
    }

    /// A number.
    pub(crate) fn number(&self, index: usize) -> Result<i64, StorageError> {
        Ok(column!(self, index))
    }

    /// A number or nothing.
    pub(crate) fn number_or_none(&self, index: usize) -> Result<Option<i64>, StorageError> {
        Ok(column!(self, index))
    }

    /// A number that was stored as an unsigned one.
    pub(crate) fn count(&self, index: usize) -> Result<u64, StorageError> {
        u64::try_from(self.number(index)?).map_err(|_| StorageError::Damaged("a count"))
    }

    /// Truth.
    pub(crate) fn truth(&self, index: usize) -> Result<bool, StorageError> {
        Ok(self.number(index)? != 0)
    }

    /// So many bytes.
    pub(crate) fn array<const N: usize>(&self, index: usize) -> Result<[u8; N], StorageError> {
        let bytes: &[u8] = column!(self, index);
        let array = bytes.try_into();
        array.map_err(|_| StorageError::Damaged("a value of a fixed length"))
    }

    /// Bytes or nothing.
    pub(crate) fn bytes_or_none(&self, index: usize) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(column!(self, index))
    }
}
