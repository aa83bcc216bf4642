//! XEP-0049: Private XML Storage. One element for each name and namespace, for its owner only.

use proto::stanza::error::{Condition, StanzaError};
use proto::{Element, ns};

use crate::hooks::{Empty, Payload, Request, Scope, Service, Setup, Xep, fail, failure};

/// The service.
pub const SERVICE: Service = Service::new("private", &[Xep(49, "1.2")], register);

/// What an element may measure, written.
const MAX_BYTES: usize = 64 * 1024;

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Account], read);
    setup.iq_set(&[Scope::Account], write);
    setup.feature(&[Scope::Host], ns::PRIVATE);
}

/// What is not stored reads as the element that was asked for.
async fn read(request: Request<Private>) -> Result<Element, StanzaError> {
    let Private(wanted) = request.payload;
    let key = key(&wanted);
    let stored = request.edge.storage.private(&request.account, &key).await;
    let stored = stored.map_err(|error| failure(&error))?;
    let found = stored.and_then(|xml| Element::parse(xml.as_bytes()).ok());
    Ok(Element::new("query", ns::PRIVATE).with_child(found.unwrap_or(wanted)))
}

async fn write(request: Request<Private>) -> Result<Empty, StanzaError> {
    let Private(element) = request.payload;
    let mut xml = String::new();
    element.write("", &mut xml);
    if xml.len() > MAX_BYTES {
        return fail(Condition::ResourceConstraint);
    }
    let stored = request
        .edge
        .storage
        .set_private(&request.account, &key(&element), &xml)
        .await;
    stored.map(|()| Empty).map_err(|error| failure(&error))
}

fn key(element: &Element) -> String {
    format!("{{{}}}{}", element.ns(), element.local())
}

/// The element that is stored or asked for.
pub struct Private(Element);

impl Payload for Private {
    const NS: &'static str = ns::PRIVATE;
    const NAME: &'static str = "query";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let mut children = element.elements();
        match (children.next(), children.next()) {
            // Its own namespace, and not one that the protocol itself uses.
            (Some(child), None) if !matches!(child.ns(), ns::CLIENT | ns::PRIVATE | "") => {
                Ok(Self(child.clone()))
            }
            _ => fail(Condition::BadRequest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_element_of_a_foreign_namespace_is_stored() {
        let query = || Element::new("query", ns::PRIVATE);
        let child = || Element::new("storage", "storage:bookmarks");
        assert!(Private::decode(&query().with_child(child())).is_ok());
        assert!(Private::decode(&query()).is_err());
        assert!(Private::decode(&query().with_child(child()).with_child(child())).is_err());
        assert!(Private::decode(&query().with_child(Element::new("x", ns::PRIVATE))).is_err());
    }
}
