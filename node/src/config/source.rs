//! Collects values from file, environment and flags, each with its origin; later ones win.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::Config;
use super::error::{ConfigError, Origin, UnknownVariable};
use super::keys::{self, Keys, Known};
use super::table::{Configured, Tables};

const PREFIX: &str = "HOLDFAST_";
/// Variables with our prefix that are no keys.
const NOT_KEYS: &[&str] = &["HOLDFAST_CONFIG"];

/// The values given so far.
pub(super) struct Layers<'a> {
    tables: &'a Tables,
    keys: Keys,
    values: Table,
    origins: HashMap<String, Origin>,
}

impl<'a> Layers<'a> {
    /// No values yet, for the keys of the server and these of its services.
    pub(super) fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            keys: Keys::new(tables),
            values: Table::new(),
            origins: HashMap::new(),
        }
    }

    /// Adds the values of a file.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let origin = |span: Range<usize>| Origin::File {
            path: path.to_owned(),
            line: line(&text, span.start),
        };
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            origin: origin(error.span().unwrap_or(0..0)),
            message: error.message().to_owned(),
        };
        let table = DeTable::parse(&text).map_err(syntax)?;
        for (name, value) in table.get_ref() {
            let at = origin(name.span());
            match (self.keys.top(name.get_ref()), value.get_ref()) {
                (Known::Section, DeValue::Table(section)) => {
                    for (key, value) in section {
                        let at = origin(key.span());
                        let path = KeyPath {
                            section: Some(name.get_ref()),
                            key: key.get_ref(),
                        };
                        self.insert(path, owned(value).map_err(syntax)?, at)?;
                    }
                    // Even an empty section counts: `[cluster]` says that there is a cluster.
                    let entry = self.values.entry(name.get_ref().as_ref());
                    entry.or_insert_with(|| Value::Table(Table::new()));
                    self.origins.entry(name.get_ref().to_string()).or_insert(at);
                }
                _ => {
                    let path = KeyPath {
                        section: None,
                        key: name.get_ref(),
                    };
                    self.insert(path, owned(value).map_err(syntax)?, at)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the values of `HOLDFAST_SECTION__KEY` and `HOLDFAST_KEY`.
    ///
    /// Variables that orchestrators make for a service of our name, such as `HOLDFAST_SERVICE_HOST`, are ignored, and
    /// so are those that the command line reads itself. Every other unknown name is refused, like an unknown key.
    pub(super) fn add_env(
        &mut self,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in env {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let rest = rest.to_ascii_lowercase();
            let path = match rest.split_once("__") {
                Some((section, key)) => KeyPath {
                    section: Some(section),
                    key,
                },
                None if self.keys.top(&rest) == Known::Key => KeyPath {
                    section: None,
                    key: &rest,
                },
                None if is_made_up(&rest) || NOT_KEYS.contains(&name.as_str()) => continue,
                None => return Err(ConfigError::Variable(self.variable(&name, &rest))),
            };
            self.insert_text(path, &value, Origin::Variable(name.clone()))?;
        }
        Ok(())
    }

    /// Adds the values of `section.key=value` and `key=value`.
    pub(super) fn add_sets(&mut self, sets: &[String]) -> Result<(), ConfigError> {
        for set in sets {
            let malformed = || ConfigError::Set(set.clone());
            let (name, value) = set.split_once('=').ok_or_else(malformed)?;
            let name = name.trim();
            if name.is_empty() {
                return Err(malformed());
            }
            let path = match name.split_once('.') {
                Some((section, key)) => KeyPath {
                    section: Some(section),
                    key,
                },
                None => KeyPath {
                    section: None,
                    key: name,
                },
            };
            self.insert_text(path, value.trim(), Origin::Flag)?;
        }
        Ok(())
    }

    /// Reads everything into typed structs: the tables of services each by itself, and all the rest.
    pub(super) fn finish(mut self) -> Result<Config, ConfigError> {
        let mut configured = Configured::default();
        for known in self.tables.iter() {
            let own = self.take(known.section, known.keys);
            let read = configured.read(known, own);
            read.map_err(|misfit| {
                let key = match misfit.key.as_str() {
                    "." => known.section.to_owned(),
                    key => format!("{}.{key}", known.section),
                };
                self.misfit(key, misfit.reason)
            })?;
        }
        let values = std::mem::take(&mut self.values);
        let config = serde_path_to_error::deserialize(Value::Table(values));
        let config: Config = config.map_err(|error| {
            let key = error.path().to_string();
            self.misfit(key, error.into_inner().message().trim().to_owned())
        })?;
        Ok(Config {
            configured,
            ..config
        })
    }

    /// Takes the values of some keys out. A section is gone with the last of its values.
    fn take(&mut self, section: &str, keys: &[&str]) -> Table {
        let Some(Value::Table(all)) = self.values.get_mut(section) else {
            return Table::new();
        };
        let own = keys.iter().filter_map(|key| all.remove_entry(*key));
        let own = own.collect();
        // Only `[cluster]` says something without a value, and it is no section of services.
        if all.is_empty() {
            self.values.remove(section);
        }
        own
    }

    /// The error for a value that does not fit its key.
    fn misfit(&self, key: String, reason: String) -> ConfigError {
        // The path of an element is the path of its list, with an index.
        let known = key.split('[').next().unwrap_or_default();
        let origin = self.origins.get(known).cloned().unwrap_or(Origin::Absent);
        ConfigError::Value {
            origin,
            key,
            reason,
        }
    }

    fn insert_text(
        &mut self,
        path: KeyPath<'_>,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        if let Some(section) = path.section
            && self.keys.top(section) != Known::Section
        {
            return Err(unknown(section, self.keys.top_names(), origin));
        }
        self.insert(path, text_value(text), origin)
    }

    fn insert(
        &mut self,
        path: KeyPath<'_>,
        value: Value,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let KeyPath { section, key } = path;
        if !self.keys.of(section).any(|known| known == key) {
            return Err(match section {
                Some(section) => {
                    let known = self.keys.of(Some(section));
                    prefixed(section, unknown(key, known, origin))
                }
                None if self.keys.top(key) == Known::Section => ConfigError::Value {
                    origin,
                    key: key.to_owned(),
                    reason: "is a section, not a key".to_owned(),
                },
                None => unknown(key, self.keys.top_names(), origin),
            });
        }
        let name = section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"));
        self.origins.insert(name, origin);
        let table = match section {
            None => &mut self.values,
            Some(section) => {
                let entry = self
                    .values
                    .entry(section)
                    .or_insert_with(|| Value::Table(Table::new()));
                let Value::Table(table) = entry else {
                    // Sections are only ever inserted as tables, above and here.
                    return Ok(());
                };
                table
            }
        };
        table.insert(key.to_owned(), value);
        Ok(())
    }

    /// Makes the error for a variable that names no key, with the one that was probably meant: an underscore or the
    /// section is easily forgotten.
    fn variable(&self, name: &str, rest: &str) -> UnknownVariable {
        let likeness = |known: &str| strsim::jaro_winkler(rest, known);
        let in_sections = self.keys.sections.iter().flat_map(|(section, keys)| {
            keys.iter().map(move |key| {
                let alike = likeness(&format!("{section}_{key}")).max(likeness(key));
                (alike, format!("{section}__{key}"))
            })
        });
        let top = self.keys.top.iter();
        let top = top.map(|key| (likeness(key), (*key).to_owned()));
        let nearest = in_sections
            .chain(top)
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let nearest = nearest.filter(|(likeness, _)| *likeness > 0.75);
        UnknownVariable {
            name: name.to_owned(),
            nearest: nearest.map(|(_, key)| format!("{PREFIX}{}", key.to_ascii_uppercase())),
        }
    }
}

/// A key and the section it is in.
#[derive(Clone, Copy)]
struct KeyPath<'a> {
    section: Option<&'a str>,
    key: &'a str,
}

fn unknown(key: &str, known: impl Iterator<Item = &'static str>, origin: Origin) -> ConfigError {
    ConfigError::UnknownKey {
        origin,
        key: key.to_owned(),
        nearest: keys::nearest(key, known),
    }
}

fn prefixed(section: &str, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::UnknownKey {
            origin,
            key,
            nearest,
        } => ConfigError::UnknownKey {
            origin,
            key: format!("{section}.{key}"),
            nearest,
        },
        other => other,
    }
}

/// Whether Kubernetes makes such a variable for a Service (its name, upper case, in front of these).
fn is_made_up(rest: &str) -> bool {
    let is_port = |tail: &str| {
        let mut parts = tail.split('_');
        let number = parts.next().is_some_and(|n| n.parse::<u16>().is_ok());
        let protocol = matches!(parts.next(), Some("tcp" | "udp" | "sctp"));
        number && protocol && matches!(parts.next(), None | Some("addr" | "port" | "proto"))
    };
    let ends = |end: &str| rest == end || rest.ends_with(&format!("_{end}"));
    let service = ends("service_host") || ends("service_port") || rest.contains("service_port_");
    let port = rest
        .strip_prefix("port_")
        .or(rest.split_once("_port_").map(|(_, tail)| tail));
    service || ends("port") || port.is_some_and(is_port)
}

/// Turns a text without quotes into a value: a number, truth value or list if it is one in TOML, else a text.
fn text_value(text: &str) -> Value {
    let parsed = DeValue::parse(text)
        .ok()
        .and_then(|value| owned(&value).ok());
    match parsed {
        Some(
            value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::String(_)),
        ) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn owned(value: &Spanned<DeValue<'_>>) -> Result<Value, toml::de::Error> {
    use serde::Deserialize as _;
    use serde::de::IntoDeserializer as _;
    Value::deserialize(value.clone().into_deserializer())
}

fn line(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
