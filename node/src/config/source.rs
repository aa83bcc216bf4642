//! Collects values from file, environment and flags, each with its origin; later ones win.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::error::{ConfigError, Origin, UnknownVariable};
use super::keys::{self, Known};

const PREFIX: &str = "HOLDFAST_";
/// Variables with our prefix that are no keys.
const NOT_KEYS: &[&str] = &["HOLDFAST_CONFIG"];

/// The values given so far.
#[derive(Default)]
pub(super) struct Layers {
    values: Table,
    origins: HashMap<String, Origin>,
}

impl Layers {
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
            match (keys::top(name.get_ref()), value.get_ref()) {
                (Known::Section(known), DeValue::Table(section)) => {
                    for (key, value) in section {
                        let at = origin(key.span());
                        let path = KeyPath {
                            section: Some(name.get_ref()),
                            key: key.get_ref(),
                        };
                        self.insert(path, known, owned(value).map_err(syntax)?, at)?;
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
                    self.insert(path, keys::TOP, owned(value).map_err(syntax)?, at)?;
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
                None if keys::TOP.contains(&rest.as_str()) => KeyPath {
                    section: None,
                    key: &rest,
                },
                None if is_made_up(&rest) || NOT_KEYS.contains(&name.as_str()) => continue,
                None => return Err(ConfigError::Variable(variable(&name, &rest))),
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

    /// Deserialises everything into a typed struct.
    pub(super) fn finish<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        let Self { values, origins } = self;
        serde_path_to_error::deserialize(Value::Table(values)).map_err(|error| {
            let key = error.path().to_string();
            // The path of an element is the path of its list, with an index.
            let known = key.split('[').next().unwrap_or_default();
            let origin = origins.get(known).cloned().unwrap_or(Origin::Absent);
            let reason = error.into_inner().message().trim().to_owned();
            ConfigError::Value {
                origin,
                key,
                reason,
            }
        })
    }

    fn insert_text(
        &mut self,
        path: KeyPath<'_>,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let known = match path.section {
            None => keys::TOP,
            Some(section) => match keys::top(section) {
                Known::Section(known) => known,
                Known::Key | Known::Unknown => {
                    return Err(unknown(section, keys::top_names(), origin));
                }
            },
        };
        self.insert(path, known, text_value(text), origin)
    }

    fn insert(
        &mut self,
        path: KeyPath<'_>,
        known: &'static [&'static str],
        value: Value,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let KeyPath { section, key } = path;
        if !known.contains(&key) {
            let known = known.iter().copied();
            return Err(match section {
                Some(section) => prefixed(section, unknown(key, known, origin)),
                None => match keys::top(key) {
                    Known::Section(_) => ConfigError::Value {
                        origin,
                        key: key.to_owned(),
                        reason: "is a section, not a key".to_owned(),
                    },
                    Known::Key | Known::Unknown => unknown(key, keys::top_names(), origin),
                },
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

/// Makes the error for a variable that names no key, with the one that was probably meant: an underscore or the section
/// is easily forgotten.
fn variable(name: &str, rest: &str) -> UnknownVariable {
    let likeness = |known: &str| strsim::jaro_winkler(rest, known);
    let in_sections = keys::SECTIONS.iter().flat_map(|(section, keys)| {
        keys.iter().map(move |key| {
            let alike = likeness(&format!("{section}_{key}")).max(likeness(key));
            (alike, format!("{section}__{key}"))
        })
    });
    let top = keys::TOP
        .iter()
        .map(|key| (likeness(key), (*key).to_owned()));
    let nearest = in_sections
        .chain(top)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let nearest = nearest.filter(|(likeness, _)| *likeness > 0.75);
    UnknownVariable {
        name: name.to_owned(),
        nearest: nearest.map(|(_, key)| format!("{PREFIX}{}", key.to_ascii_uppercase())),
    }
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
