//! The elements of XEP-0198, read and built.
//!
//! Unknown attributes and children are ignored (SM-5). Which element is legal when is not known here:
//! that is the transition table's business.

use std::io::Write as _;

use crate::ns;
use crate::stanza::error::Condition;
use crate::xml::Element;

/// Any element of Stream Management.
#[derive(Clone, Debug, PartialEq)]
pub enum SmElement {
    /// `<r/>`: asks for an `<a/>`.
    Request,
    /// `<a/>`: so many stanzas are handled.
    Ack(u32),
    /// `<enable/>`
    Enable {
        /// Whether the session shall be resumable.
        resume: bool,
        /// The wished length of the window in seconds; absent if none or a useless one was given (SM-8).
        max: Option<u32>,
    },
    /// `<enabled/>`
    Enabled(Enabled),
    /// `<resume/>`
    Resume {
        /// The SM-ID.
        previd: String,
        /// How many stanzas the client handled.
        h: u32,
    },
    /// `<resumed/>`
    Resumed {
        /// The SM-ID, which stays valid (SM-46).
        previd: String,
        /// How many stanzas the server handled.
        h: u32,
    },
    /// `<failed/>`
    Failed(Failed),
}

/// What `<enabled/>` grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enabled {
    /// The SM-ID: there if and only if the session is resumable (SM-7).
    pub id: Option<String>,
    /// The length of the window in seconds (SM-8).
    pub max: Option<u32>,
}

/// Why enabling or resuming failed; the stream stays usable (SM-47).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// A stanza condition without an `<error/>` around it (SM-13).
    pub condition: Condition,
    /// How many stanzas of the ended session were handled, if that is still known.
    pub h: Option<u32>,
}

impl Failed {
    /// A failure that knows no count.
    pub fn new(condition: Condition) -> Self {
        Self { condition, h: None }
    }
}

/// An element that lacks what it must carry (SM-29, SM-47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No such element in this namespace.
    #[error("not an element of stream management")]
    Name,
    /// `h` is absent, or not an unsigned 32-bit number.
    #[error("the count is missing or not a number")]
    Count,
    /// `previd` is absent or empty.
    #[error("the identifier of the session is missing")]
    Id,
}

impl SmElement {
    /// Reads an element of the namespace `urn:xmpp:sm:3`.
    pub fn parse(element: &Element) -> Result<Self, Malformed> {
        if element.ns() != ns::SM {
            return Err(Malformed::Name);
        }
        let h = || element.attr("h").and_then(count).ok_or(Malformed::Count);
        let previd = || match element.attr("previd") {
            None | Some("") => Err(Malformed::Id),
            Some(id) => Ok(id.to_owned()),
        };
        Ok(match element.local() {
            "r" => Self::Request,
            "a" => Self::Ack(h()?),
            "enable" => Self::Enable {
                resume: is_true(element.attr("resume")),
                max: seconds(element.attr("max")),
            },
            "enabled" => {
                let resumable = is_true(element.attr("resume"));
                let id = element.attr("id").filter(|_| resumable).map(str::to_owned);
                // The length of a window says nothing where there is none.
                let max = id.as_ref().and_then(|_| seconds(element.attr("max")));
                Self::Enabled(Enabled { id, max })
            }
            "resume" => Self::Resume {
                previd: previd()?,
                h: h()?,
            },
            "resumed" => Self::Resumed {
                previd: previd()?,
                h: h()?,
            },
            "failed" => Self::Failed(Failed {
                condition: element
                    .elements()
                    .find_map(|child| condition(child.local()))
                    .unwrap_or(Condition::UndefinedCondition),
                h: element.attr("h").and_then(count),
            }),
            _ => return Err(Malformed::Name),
        })
    }

    /// The element to send.
    pub fn to_element(&self) -> Element {
        let named = |name: &'static str| Element::new(name, ns::SM);
        match self {
            Self::Request => named("r"),
            Self::Ack(h) => named("a").with_attr("h", h.to_string()),
            Self::Enable { resume, max } => {
                let element = optional(named("enable"), "max", *max);
                if *resume {
                    element.with_attr("resume", "true")
                } else {
                    element
                }
            }
            Self::Enabled(Enabled { id, max }) => match id {
                Some(id) => optional(
                    named("enabled")
                        .with_attr("id", id.clone())
                        .with_attr("resume", "true"),
                    "max",
                    *max,
                ),
                None => named("enabled"),
            },
            Self::Resume { previd, h } => with_session(named("resume"), previd, *h),
            Self::Resumed { previd, h } => with_session(named("resumed"), previd, *h),
            Self::Failed(failed) => optional(named("failed"), "h", failed.h)
                .with_child(Element::new(failed.condition.name(), ns::STANZAS)),
        }
    }

    /// Writes it into a stream.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut text = String::new();
        self.to_element().write(ns::CLIENT, &mut text);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Writes `<a/>`: sent too often for a detour over a tree.
pub fn write_ack(h: u32, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "<a xmlns='{}' h='{h}'/>", ns::SM);
}

/// Writes `<r/>`.
pub fn write_request(out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "<r xmlns='{}'/>", ns::SM);
}

fn with_session(element: Element, previd: &str, h: u32) -> Element {
    element
        .with_attr("previd", previd.to_owned())
        .with_attr("h", h.to_string())
}

fn optional(element: Element, name: &'static str, value: Option<u32>) -> Element {
    match value {
        Some(value) => element.with_attr(name, value.to_string()),
        None => element,
    }
}

/// An `xs:unsignedInt`: digits only, leading zeros are fine (SM-22). `parse` alone would take a `+`.
fn count(text: &str) -> Option<u32> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// The stanza condition of that name.
fn condition(name: &str) -> Option<Condition> {
    Condition::ALL
        .iter()
        .find(|known| known.name() == name)
        .copied()
}

/// A number of seconds, if it is a useful one (SM-8).
fn seconds(text: Option<&str>) -> Option<u32> {
    text.and_then(count).filter(|seconds| *seconds > 0)
}

/// An `xs:boolean`, false by default (SM-5).
fn is_true(text: Option<&str>) -> bool {
    matches!(text, Some("true" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Result<SmElement, Malformed> {
        SmElement::parse(&Element::parse(xml).expect("well-formed"))
    }

    fn sm(xml: &str) -> Result<SmElement, Malformed> {
        parse(&xml.replacen(['/', '>'], " xmlns='urn:xmpp:sm:3'/", 1))
    }

    #[test]
    fn sm_22_counts_are_digits_below_two_to_the_32() {
        let check = |h: &str, expect| {
            let result = parse(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            assert_eq!(result, expect, "{h:?}");
        };
        check("0", Ok(SmElement::Ack(0)));
        check("0007", Ok(SmElement::Ack(7)));
        check("4294967295", Ok(SmElement::Ack(u32::MAX)));
        for wrong in ["", "4294967296", "-1", "+1", "1.0", "0x1", "\u{661}", "one"] {
            check(wrong, Err(Malformed::Count));
        }
        assert_eq!(sm("<a/>"), Err(Malformed::Count));
    }

    #[test]
    fn sm_5_enable_has_defaults_and_ignores_what_it_does_not_know() {
        let check = |xml: &str, resume, max| {
            assert_eq!(sm(xml), Ok(SmElement::Enable { resume, max }), "{xml}");
        };
        check("<enable/>", false, None);
        check("<enable resume='true' max='900'/>", true, Some(900));
        check("<enable resume='1' max='0'/>", true, None);
        check("<enable resume='false' max='soon' other='x'/>", false, None);
        check("<enable resume='yes'/>", false, None);
    }

    #[test]
    fn sm_45_resume_needs_both_attributes() {
        let resume = SmElement::Resume {
            previd: "x".into(),
            h: 3,
        };
        assert_eq!(sm("<resume previd='x' h='3'/>"), Ok(resume));
        assert_eq!(sm("<resume previd='x'/>"), Err(Malformed::Count));
        assert_eq!(sm("<resume h='3'/>"), Err(Malformed::Id));
        assert_eq!(sm("<resume previd='' h='3'/>"), Err(Malformed::Id));
    }

    #[test]
    fn sm_1_only_the_third_version_is_known() {
        assert_eq!(parse("<r xmlns='urn:xmpp:sm:2'/>"), Err(Malformed::Name));
        assert_eq!(sm("<x/>"), Err(Malformed::Name));
    }

    #[test]
    fn every_element_is_read_as_it_was_written() {
        for element in [
            SmElement::Request,
            SmElement::Ack(u32::MAX),
            SmElement::Enable {
                resume: true,
                max: Some(5),
            },
            SmElement::Enabled(Enabled {
                id: Some("a'<&>".into()),
                max: Some(600),
            }),
            SmElement::Enabled(Enabled::default()),
            SmElement::Resume {
                previd: "q".into(),
                h: 1,
            },
            SmElement::Resumed {
                previd: "q".into(),
                h: 2,
            },
            SmElement::Failed(Failed {
                condition: Condition::ItemNotFound,
                h: Some(9),
            }),
        ] {
            let mut out = Vec::new();
            element.write(&mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            let parsed = Element::parse(&text).expect("well-formed");
            assert_eq!(SmElement::parse(&parsed), Ok(element), "{text}");
        }
        let mut fast = Vec::new();
        write_ack(7, &mut fast);
        write_request(&mut fast);
        assert_eq!(
            fast,
            b"<a xmlns='urn:xmpp:sm:3' h='7'/><r xmlns='urn:xmpp:sm:3'/>"
        );
    }
}
