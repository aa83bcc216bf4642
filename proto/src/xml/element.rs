//! The tree of one element.
//!
//! A name is a namespace and a local name, two values; prefixes do not exist here (T-4). Namespace
//! declarations are no attributes: the writer makes those that it needs.

use super::name::Name;

/// An element with its attributes and content.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    name: Name,
    ns: Name,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

/// An attribute; its namespace is empty for nearly all.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub(crate) name: Name,
    pub(crate) ns: Name,
    pub(crate) value: String,
}

impl Attribute {
    /// The local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace, empty without a prefix.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// A part of an element's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text; never empty, and never beside other text when it was read.
    Text(String),
}

impl Element {
    /// An element without attributes and content.
    pub fn new(local: impl Into<Name>, ns: impl Into<Name>) -> Self {
        Self {
            name: local.into(),
            ns: ns.into(),
            attributes: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// The local name.
    pub fn local(&self) -> &str {
        &self.name
    }

    /// The namespace, empty for none.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether it has this name in this namespace.
    pub fn is(&self, local: &str, ns: &str) -> bool {
        *self.name == *local && *self.ns == *ns
    }

    /// The value of an attribute without a namespace.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns(name, "")
    }

    /// The value of an attribute in a namespace.
    pub fn attr_ns(&self, name: &str, ns: &str) -> Option<&str> {
        let named = |a: &&Attribute| *a.name == *name && *a.ns == *ns;
        self.attributes.iter().find(named).map(Attribute::value)
    }

    /// Sets an attribute without a namespace.
    pub fn set_attr(&mut self, name: impl Into<Name>, value: impl Into<String>) {
        self.set_attr_ns(name, "", value);
    }

    /// Sets an attribute in a namespace.
    pub fn set_attr_ns(
        &mut self,
        name: impl Into<Name>,
        ns: impl Into<Name>,
        value: impl Into<String>,
    ) {
        let (name, ns, value) = (name.into(), ns.into(), value.into());
        let same = |a: &&mut Attribute| a.name == name && a.ns == ns;
        match self.attributes.iter_mut().find(same) {
            Some(attribute) => attribute.value = value,
            None => self.attributes.push(Attribute { name, ns, value }),
        }
    }

    /// The element with an attribute set.
    pub fn with_attr(mut self, name: impl Into<Name>, value: impl Into<String>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// Removes an attribute without a namespace; its value.
    pub fn remove_attr(&mut self, name: &str) -> Option<String> {
        let named = |a: &Attribute| *a.name == *name && a.ns.is_empty();
        let index = self.attributes.iter().position(named)?;
        Some(self.attributes.remove(index).value)
    }

    /// The attributes, in order.
    pub fn attrs(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter()
    }

    /// The first child element of this name.
    pub fn child(&self, local: &str, ns: &str) -> Option<&Element> {
        self.elements().find(|child| child.is(local, ns))
    }

    /// The child elements, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The child elements, taken out of it.
    pub fn into_elements(self) -> impl Iterator<Item = Element> {
        self.nodes.into_iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The whole content, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Appends a child element.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// The element with a child appended.
    pub fn with_child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// The element with text appended.
    pub fn with_text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    /// Appends text, joined with text that stands last.
    pub fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// Its own text, without that of its children.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().map(|node| match node {
            Node::Text(text) => text.as_str(),
            Node::Element(_) => "",
        });
        texts.collect()
    }

    /// Keeps the child elements that `keep` accepts, and all text.
    pub fn retain(&mut self, mut keep: impl FnMut(&Element) -> bool) {
        self.nodes.retain(|node| match node {
            Node::Element(element) => keep(element),
            Node::Text(_) => true,
        });
    }

    /// Puts it, and all below it that shares its namespace without a break, into another one (ST-79).
    ///
    /// What a foreign element embeds, such as a forwarded stanza, keeps its namespace.
    pub fn move_ns(&mut self, from: &str, to: &Name) {
        if *self.ns != *from {
            return;
        }
        self.ns = to.clone();
        for node in &mut self.nodes {
            if let Node::Element(child) = node {
                child.move_ns(from, to);
            }
        }
    }

    /// The parts of a tag that was read.
    pub(crate) fn from_tag(name: Name, ns: Name, attributes: Vec<Attribute>) -> Self {
        Self {
            name,
            ns,
            attributes,
            nodes: Vec::new(),
        }
    }
}
