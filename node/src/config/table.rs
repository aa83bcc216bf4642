//! Tables of the file that belong to services.
//!
//! A service declares a struct, whose fields are the keys, and asks for it when it attaches itself
//! ([`crate::hooks::Setup::config`]). Nothing else names the table: what the file, the environment and `--set` may say
//! is found out by asking the services ([`Tables`]).

use std::any::{Any, TypeId};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ConfigError;

/// A table of the file, or the part of one that belongs to a service: several services may have keys in one.
///
/// It derives `Deserialize` with `#[serde(default)]`. A key that no table has is refused before that.
pub trait Table:
    Clone + Debug + Default + DeserializeOwned + PartialEq + Send + Sync + 'static
{
    /// The table's name in the file.
    const SECTION: &'static str;

    /// Refuses values that cannot work.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Files with secrets. Relative paths are taken from the configuration's directory.
    fn secrets(&self) -> Vec<&Path> {
        Vec::new()
    }

    /// The same, to be changed.
    fn secrets_mut(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }
}

/// The tables that services have asked for.
#[derive(Clone, Default)]
pub struct Tables(Vec<Known>);

/// A table whose type has been forgotten.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) section: &'static str,
    pub(super) keys: &'static [&'static str],
    id: TypeId,
    read: fn(toml::Table) -> Result<Arc<dyn Values>, Misfit>,
}

/// The value of a key that does not fit it.
pub(super) struct Misfit {
    pub(super) key: String,
    pub(super) reason: String,
}

/// Two services have the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedKey {
    /// The table.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
}

impl Tables {
    /// Adds a table. One that is there already stays; a key of another one is refused.
    pub fn add<T: Table>(&mut self) -> Result<(), SharedKey> {
        let id = TypeId::of::<T>();
        if self.0.iter().any(|known| known.id == id) {
            return Ok(());
        }
        let (section, keys) = (T::SECTION, fields::<T>());
        let same = self.0.iter().filter(|known| known.section == section);
        let taken = same.flat_map(|known| known.keys);
        let shared = taken.copied().find(|key| keys.contains(key));
        self.0.push(Known {
            section,
            keys,
            id,
            read: |values| {
                let found = serde_path_to_error::deserialize(toml::Value::Table(values));
                let found: T = found.map_err(|error| Misfit {
                    key: error.path().to_string(),
                    reason: error.into_inner().message().trim().to_owned(),
                })?;
                Ok(Arc::new(found))
            },
        });
        shared.map_or(Ok(()), |key| Err(SharedKey { section, key }))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.iter()
    }
}

/// The tables as they were configured. One that is missing has its defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct Configured(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    section: &'static str,
    id: TypeId,
    values: Arc<dyn Values>,
}

impl Configured {
    /// Reads a table from the values of its keys.
    pub(super) fn read(&mut self, known: &Known, values: toml::Table) -> Result<(), Misfit> {
        self.0.push(Entry {
            section: known.section,
            id: known.id,
            values: (known.read)(values)?,
        });
        Ok(())
    }

    /// Refuses values that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.0.iter().try_for_each(|entry| entry.values.check())
    }

    /// Takes relative paths from this directory.
    pub(super) fn anchor(&mut self, base: &Path) {
        let tables = self.0.iter_mut();
        // Nobody else has them yet.
        for values in tables.filter_map(|entry| Arc::get_mut(&mut entry.values)) {
            for file in values.secrets_mut() {
                *file = base.join(&*file);
            }
        }
    }

    /// Files with secrets of services.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().flat_map(|entry| entry.values.secrets())
    }

    /// A table's values.
    pub(super) fn get<T: Table>(&self) -> T {
        let found = self.values(TypeId::of::<T>());
        let found = found.and_then(|values| values.as_any().downcast_ref());
        found.cloned().unwrap_or_default()
    }

    /// In which sections the other one says something else.
    pub(super) fn changed<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'static str> + 'a {
        let changed = self.0.iter().filter(|entry| {
            let other = other.values(entry.id);
            other.is_some_and(|other| !entry.values.is_equal(other))
        });
        changed.map(|entry| entry.section)
    }

    fn values(&self, id: TypeId) -> Option<&dyn Values> {
        let found = self.0.iter().find(|entry| entry.id == id);
        found.map(|entry| &*entry.values)
    }
}

/// A [`Table`] behind a pointer.
trait Values: Debug + Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn check(&self) -> Result<(), ConfigError>;
    fn is_equal(&self, other: &dyn Values) -> bool;
    fn secrets(&self) -> Vec<&Path>;
    fn secrets_mut(&mut self) -> Vec<&mut PathBuf>;
}

impl<T: Table> Values for T {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        Table::check(self)
    }

    fn is_equal(&self, other: &dyn Values) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn secrets(&self) -> Vec<&Path> {
        Table::secrets(self)
    }

    fn secrets_mut(&mut self) -> Vec<&mut PathBuf> {
        Table::secrets_mut(self)
    }
}

/// The names of a struct's fields, as it tells them to whatever it is read from. So the keys of a section are written
/// down once.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It cannot succeed: there is no value.
    drop(T::deserialize(Asked(&mut names)));
    names
}

/// Notes which fields are asked for, and has no value for any.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = NoValue;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        *self.0 = fields;
        Err(NoValue::custom("only the names were asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct One {
        first: u32,
        second: u32,
    }

    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Other {
        second: u32,
    }

    impl Table for One {
        const SECTION: &'static str = "shared";
    }

    impl Table for Other {
        const SECTION: &'static str = "shared";
    }

    #[test]
    fn a_key_belongs_to_one_table_and_a_table_may_be_asked_for_twice() {
        let mut tables = Tables::default();
        assert_eq!(tables.add::<One>(), Ok(()));
        assert_eq!(tables.add::<One>(), Ok(()));
        let shared = SharedKey {
            section: "shared",
            key: "second",
        };
        assert_eq!(tables.add::<Other>(), Err(shared));
        assert_eq!(tables.iter().next().unwrap().keys, ["first", "second"]);
    }
}
