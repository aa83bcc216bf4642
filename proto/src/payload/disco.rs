//! XEP-0030: what an entity is, can do and contains.

use super::form::Form;
use crate::ns;
use crate::xml::Element;

/// What an entity is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Such as `server` or `account`.
    pub category: String,
    /// Such as `im` or `registered`.
    pub kind: String,
    /// For humans.
    pub name: Option<String>,
}

impl Identity {
    /// An identity, with a name if it is not empty.
    pub fn new(category: &str, kind: &str, name: &str) -> Self {
        Self {
            category: category.to_owned(),
            kind: kind.to_owned(),
            name: (!name.is_empty()).then(|| name.to_owned()),
        }
    }

    fn to_element(&self) -> Element {
        let mut identity = Element::new("identity", ns::DISCO_INFO)
            .with_attr("category", &self.category)
            .with_attr("type", &self.kind);
        if let Some(name) = &self.name {
            identity.set_attr("name", name);
        }
        identity
    }
}

/// The answer to a question for information. Features are sorted and each is written once.
pub fn info<'a>(
    node: Option<&str>,
    identities: &[Identity],
    features: impl IntoIterator<Item = &'a str>,
    forms: &[Form],
) -> Element {
    let mut query = query(ns::DISCO_INFO, node);
    for identity in identities {
        query.push(identity.to_element());
    }
    let mut features: Vec<_> = features.into_iter().collect();
    features.sort_unstable();
    features.dedup();
    for feature in features {
        query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
    }
    for form in forms {
        query.push(form.to_element());
    }
    query
}

/// Something that an entity contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its address.
    pub jid: String,
    /// Its node at that address.
    pub node: Option<String>,
    /// For humans.
    pub name: Option<String>,
}

/// The answer to a question for items.
pub fn items(node: Option<&str>, items: &[Item]) -> Element {
    let mut query = query(ns::DISCO_ITEMS, node);
    for item in items {
        let mut element = Element::new("item", ns::DISCO_ITEMS).with_attr("jid", &item.jid);
        if let Some(node) = &item.node {
            element.set_attr("node", node);
        }
        if let Some(name) = &item.name {
            element.set_attr("name", name);
        }
        query.push(element);
    }
    query
}

fn query(ns: &'static str, node: Option<&str>) -> Element {
    let mut query = Element::new("query", ns);
    if let Some(node) = node {
        query.set_attr("node", node);
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xep_0030_each_feature_is_named_once_in_order() {
        let identities = [Identity::new("server", "im", "Holdfast")];
        let info = info(Some("n"), &identities, ["b", "a", "b"], &[]);
        assert_eq!(
            info.to_xml(ns::DISCO_INFO),
            "<query node='n'><identity category='server' type='im' name='Holdfast'/>\
             <feature var='a'/><feature var='b'/></query>"
        );
    }

    #[test]
    fn xep_0030_items_have_an_address() {
        let item = Item {
            jid: "a@example.org".into(),
            ..Item::default()
        };
        assert_eq!(
            items(None, &[item]).to_xml(ns::DISCO_ITEMS),
            "<query><item jid='a@example.org'/></query>"
        );
    }
}
