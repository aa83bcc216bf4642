//! Writes elements as bytes: the only writer of the server (T-3).
//!
//! What it writes is read back as the same tree by any conforming parser. All five special characters
//! are escaped everywhere, and so is white space that a parser would normalise. A character that XML
//! cannot carry becomes U+FFFD.

use super::element::{Attribute, Element, Node};
use super::grammar::is_char;
use crate::ns;

/// Where written bytes go.
pub(crate) trait Sink {
    /// Appends text.
    fn put(&mut self, text: &str);
}

impl Sink for String {
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Element {
    /// Writes the element for a place where `parent_ns` is the default namespace.
    pub fn write(&self, parent_ns: &str, out: &mut String) {
        self.write_to(parent_ns, out);
    }

    /// The element as a string, for a place where `parent_ns` is the default namespace.
    pub fn to_xml(&self, parent_ns: &str) -> String {
        let mut out = String::new();
        self.write(parent_ns, &mut out);
        out
    }

    /// As [`Element::write`], into bytes or a string.
    ///
    /// It recurses as deep as the tree is: the reader refuses deep ones and the server adds few levels.
    pub(crate) fn write_to(&self, parent_ns: &str, out: &mut impl Sink) {
        let inner_ns = self.open(parent_ns, out);
        if self.nodes().is_empty() {
            out.put("/>");
            return;
        }
        out.put(">");
        for node in self.nodes() {
            match node {
                Node::Element(child) => child.write_to(inner_ns, out),
                Node::Text(text) => escape(text, Place::Text, out),
            }
        }
        out.put("</");
        self.put_name(out);
        out.put(">");
    }

    /// Writes the start tag up to its last attribute; the default namespace within the element.
    fn open<'a>(&'a self, parent_ns: &'a str, out: &mut impl Sink) -> &'a str {
        out.put("<");
        self.put_name(out);
        // The prefix `xml` is bound everywhere and its namespace can never be the default one.
        let inner_ns = match self.ns() {
            ns::XML => parent_ns,
            own => own,
        };
        if inner_ns != parent_ns {
            attribute("xmlns", inner_ns, out);
        }
        let mut prefixes = Vec::new();
        for a in self.attrs() {
            put_attribute(a, &mut prefixes, out);
        }
        inner_ns
    }

    fn put_name(&self, out: &mut impl Sink) {
        if self.ns() == ns::XML {
            out.put("xml:");
        }
        out.put(self.local());
    }
}

/// Writes an attribute, with a declaration before the first one of each namespace.
fn put_attribute<'a>(a: &'a Attribute, prefixes: &mut Vec<&'a str>, out: &mut impl Sink) {
    if a.ns().is_empty() {
        return attribute(a.name(), a.value(), out);
    }
    if a.ns() == ns::XML {
        out.put(" xml:");
    } else {
        let known = prefixes.iter().position(|ns| *ns == a.ns());
        let number = known.unwrap_or(prefixes.len());
        let prefix = format!("n{number}");
        if known.is_none() {
            prefixes.push(a.ns());
            out.put(" xmlns:");
            out.put(&prefix);
            put_value(a.ns(), out);
        }
        out.put(" ");
        out.put(&prefix);
        out.put(":");
    }
    out.put(a.name());
    put_value(a.value(), out);
}

/// Writes ` name='value'`.
pub(crate) fn attribute(name: &str, value: &str, out: &mut impl Sink) {
    out.put(" ");
    out.put(name);
    put_value(value, out);
}

fn put_value(value: &str, out: &mut impl Sink) {
    out.put("='");
    escape(value, Place::Attribute, out);
    out.put("'");
}

/// Where text stands; a parser turns line ends and tabs in attributes into spaces.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Text,
    Attribute,
}

fn escape(text: &str, place: Place, out: &mut impl Sink) {
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let replacement = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&apos;",
            '"' => "&quot;",
            '\r' => "&#13;",
            '\n' if place == Place::Attribute => "&#10;",
            '\t' if place == Place::Attribute => "&#9;",
            c if is_char(c) => continue,
            _ => "\u{FFFD}",
        };
        out.put(&text[plain..at]);
        out.put(replacement);
        plain = at + c.len_utf8();
    }
    out.put(&text[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_3_all_that_a_parser_would_change_is_escaped() {
        let e = Element::new("a", "x")
            .with_attr("v", "<&>'\"\r\n\t")
            .with_text("<&>'\"\r\n\t]]>");
        assert_eq!(
            e.to_xml("x"),
            "<a v='&lt;&amp;&gt;&apos;&quot;&#13;&#10;&#9;'>&lt;&amp;&gt;&apos;&quot;&#13;\n\t]]&gt;</a>"
        );
    }

    #[test]
    fn st_86_no_forbidden_character_is_emitted() {
        let e = Element::new("a", "").with_text("a\0b\u{FFFE}c");
        assert_eq!(e.to_xml(""), "<a>a\u{FFFD}b\u{FFFD}c</a>");
    }

    #[test]
    fn t_4_namespaces_are_declared_where_they_change() {
        let mut e = Element::new("a", "x").with_child(Element::new("b", "x"));
        e.push(Element::new("c", "").with_child(Element::new("d", "x")));
        assert_eq!(
            e.to_xml("y"),
            "<a xmlns='x'><b/><c xmlns=''><d xmlns='x'/></c></a>"
        );
    }

    #[test]
    fn t_4_attributes_of_a_namespace_get_a_prefix_of_ours() {
        let mut e = Element::new("a", "x");
        e.set_attr_ns("lang", ns::XML, "en");
        e.set_attr_ns("p", "u", "1");
        e.set_attr_ns("q", "u", "2");
        assert_eq!(
            e.to_xml("x"),
            "<a xml:lang='en' xmlns:n0='u' n0:p='1' n0:q='2'/>"
        );
    }
}
