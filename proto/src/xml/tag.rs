//! A start tag: its names, attributes and the namespaces in scope.
//!
//! quick-xml splits the attributes; what it lets pass is refused here (T-2). It never sees a tag that
//! [`super::token`] did not complete.

use std::borrow::Cow;

use quick_xml::events::attributes::Attributes;

use super::element::{Attribute, Element};
use super::error::{ReadError, Shape};
use super::grammar::{is_space, qualified};
use super::name::Name;
use super::text;
use crate::limit::Limits;
use crate::ns;

/// The namespace declarations in scope, innermost last, and how many each open element found there.
#[derive(Debug)]
pub(super) struct Scope {
    declared: Vec<(Box<str>, Name)>,
    marks: Vec<usize>,
}

/// An attribute of a tag whose prefix is not resolved yet.
struct Raw<'a> {
    local: &'a str,
    prefix: &'a str,
    value: String,
}

impl Scope {
    /// A scope with a default namespace.
    pub(super) fn new(default: &str) -> Self {
        let declared = match default {
            "" => Vec::new(),
            default => vec![("".into(), Name::namespace(default))],
        };
        Self {
            declared,
            marks: Vec::new(),
        }
    }

    /// The default namespace, empty for none.
    pub(super) fn default_ns(&self) -> &str {
        self.lookup("").map_or("", |ns| ns)
    }

    /// Reads a start tag and enters its scope; its name as written, and the element.
    pub(super) fn enter<'a>(
        &mut self,
        tag: &'a str,
        limits: &Limits,
    ) -> Result<(&'a str, Element), ReadError> {
        let length = tag.bytes().position(is_space).unwrap_or(tag.len());
        let name = &tag[..length];
        let (local, prefix) = split_name(name, limits)?;
        self.marks.push(self.declared.len());
        let attributes = self.attributes(tag, length, limits)?;
        let ns = self.resolve(prefix)?;
        let mut resolved = Vec::with_capacity(attributes.len());
        for raw in attributes {
            resolved.push(Attribute {
                ns: match raw.prefix {
                    "" => Name::from(""),
                    prefix => self.resolve(prefix)?,
                },
                name: Name::local(raw.local),
                value: raw.value,
            });
        }
        if !all_differ(&resolved) {
            return Err(ReadError::NotWellFormed);
        }
        Ok((name, Element::from_tag(Name::local(local), ns, resolved)))
    }

    /// Leaves the scope of the innermost element.
    pub(super) fn leave(&mut self) {
        if let Some(mark) = self.marks.pop() {
            self.declared.truncate(mark);
        }
    }

    /// Declares namespaces; the other attributes of the tag, behind a name of `length` bytes.
    fn attributes<'a>(
        &mut self,
        tag: &'a str,
        length: usize,
        limits: &Limits,
    ) -> Result<Vec<Raw<'a>>, ReadError> {
        let outer = self.declared.len();
        let mut attributes = Vec::new();
        for pair in pairs(tag, length) {
            let (name, value) = pair?;
            let (local, prefix) = split_name(name, limits)?;
            let value = text::value(&value)?;
            match (prefix, local) {
                ("", "xmlns") => self.declare("", &value, outer, limits)?,
                ("xmlns", prefix) => self.declare(prefix, &value, outer, limits)?,
                _ if attributes.len() == limits.attributes => {
                    return Err(ReadError::PolicyViolation(Shape::Attributes));
                }
                _ => attributes.push(Raw {
                    local,
                    prefix,
                    value,
                }),
            }
        }
        Ok(attributes)
    }

    /// Adds a declaration of the element that found `outer` of them.
    fn declare(
        &mut self,
        prefix: &str,
        uri: &str,
        outer: usize,
        limits: &Limits,
    ) -> Result<(), ReadError> {
        let twice = self.declared[outer..].iter().any(|(p, _)| **p == *prefix);
        let reserved = match prefix {
            "xml" => uri != ns::XML,
            "xmlns" => true,
            "" => uri == ns::XML || uri == ns::XMLNS,
            _ => uri.is_empty() || uri == ns::XML || uri == ns::XMLNS,
        };
        if twice || reserved {
            return Err(ReadError::NotWellFormed);
        }
        if self.declared.len() - outer >= limits.declarations
            || self.declared.len() >= limits.declarations_in_scope
        {
            return Err(ReadError::PolicyViolation(Shape::Declarations));
        }
        self.declared.push((prefix.into(), Name::namespace(uri)));
        Ok(())
    }

    fn lookup(&self, prefix: &str) -> Option<&Name> {
        let declared = |(p, _): &&(Box<str>, Name)| **p == *prefix;
        self.declared.iter().rev().find(declared).map(|(_, ns)| ns)
    }

    fn resolve(&self, prefix: &str) -> Result<Name, ReadError> {
        match (prefix, self.lookup(prefix)) {
            ("xml", _) => Ok(Name::from(ns::XML)),
            (_, Some(ns)) => Ok(ns.clone()),
            ("", None) => Ok(Name::from("")),
            (_, None) => Err(ReadError::NotWellFormed),
        }
    }
}

fn split_name<'a>(name: &'a str, limits: &Limits) -> Result<(&'a str, &'a str), ReadError> {
    if name.len() > limits.name_bytes {
        return Err(ReadError::PolicyViolation(Shape::Name));
    }
    qualified(name).ok_or(ReadError::NotWellFormed)
}

/// Names and raw values of the attributes behind a name of `length` bytes.
fn pairs(
    tag: &str,
    length: usize,
) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), ReadError>> {
    let mut attributes = Attributes::new(tag, length);
    // Names are compared after their prefixes are resolved, which finds more.
    attributes.with_checks(false);
    attributes.map(|attribute| match attribute {
        Ok(attribute) => Ok((attribute.key.0, attribute.value)),
        Err(_) => Err(ReadError::NotWellFormed),
    })
}

/// Whether no two attributes have one expanded name.
fn all_differ(attributes: &[Attribute]) -> bool {
    if attributes.len() < 2 {
        return true;
    }
    let mut names: Vec<_> = attributes.iter().map(|a| (a.name(), a.ns())).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// Checks the content of an XML declaration (ST-85).
pub(super) fn check_declaration(content: &str) -> Result<(), ReadError> {
    let mut names = Vec::new();
    for pair in pairs(content, "xml".len()) {
        let (name, value) = pair?;
        match name {
            "version" if value != "1.0" => return Err(ReadError::NotWellFormed),
            "encoding" if !value.eq_ignore_ascii_case("utf-8") => {
                return Err(ReadError::UnsupportedEncoding);
            }
            "standalone" if !matches!(&*value, "yes" | "no") => {
                return Err(ReadError::NotWellFormed);
            }
            _ => names.push(name),
        }
    }
    match names[..] {
        ["version"]
        | ["version", "encoding"]
        | ["version", "standalone"]
        | ["version", "encoding", "standalone"] => Ok(()),
        _ => Err(ReadError::NotWellFormed),
    }
}
