//! `[storage]`: the database.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::value::Secret;

/// `[storage]`: the database. Absent: SQLite in the data directory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    #[serde(deserialize_with = "url")]
    url: Option<StorageUrl>,
}

/// The database engine and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageUrl {
    /// A file, made if it is missing.
    Sqlite(PathBuf),
    /// A server; the URL may hold a password.
    Postgres(Secret),
}

impl StorageUrl {
    /// The engine's name.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }
}

impl Storage {
    /// A configuration with this database, for programs and tests that load no file.
    pub fn at(url: StorageUrl) -> Self {
        Self { url: Some(url) }
    }

    /// The database. [`super::Config::load`] sets the default, so the one here is for structs made by hand.
    pub fn url(&self) -> &StorageUrl {
        static FALLBACK: std::sync::LazyLock<StorageUrl> =
            std::sync::LazyLock::new(|| StorageUrl::Sqlite(PathBuf::from("data/holdfast.db")));
        self.url.as_ref().unwrap_or(&FALLBACK)
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.url(), StorageUrl::Postgres(_))
    }

    pub(super) fn anchor(&mut self, base: &Path, data_dir: &Path) {
        match &mut self.url {
            Some(StorageUrl::Sqlite(file)) => *file = base.join(&*file),
            Some(StorageUrl::Postgres(_)) => {}
            None => self.url = Some(StorageUrl::Sqlite(data_dir.join("holdfast.db"))),
        }
    }
}

impl std::str::FromStr for StorageUrl {
    type Err = NotAStorageUrl;

    fn from_str(text: &str) -> Result<Self, NotAStorageUrl> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(Secret::new(text)));
        }
        let file = text.strip_prefix("sqlite:").ok_or(NotAStorageUrl)?;
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.is_empty() || file.starts_with(':') || file.contains(['?', '\0']) {
            return Err(NotAStorageUrl);
        }
        Ok(Self::Sqlite(PathBuf::from(file)))
    }
}

/// The text names no database that is supported. It is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE")]
pub struct NotAStorageUrl;

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StorageUrl>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_of_two_engines() {
        let file = |path: &str| Ok(StorageUrl::Sqlite(PathBuf::from(path)));
        assert_eq!("sqlite:data/x.db".parse(), file("data/x.db"));
        assert_eq!("sqlite:///var/x.db".parse(), file("/var/x.db"));
        assert!(matches!(
            "postgres://u@h/d".parse(),
            Ok(StorageUrl::Postgres(_))
        ));
        for wrong in [
            "mysql://h",
            "sqlite:",
            "sqlite::memory:",
            "x.db",
            "sqlite:x?mode=rw",
        ] {
            assert_eq!(wrong.parse::<StorageUrl>(), Err(NotAStorageUrl), "{wrong}");
        }
    }
}
