//! XEP-0092: Software Version. The operating system is nobody's business (DI-5).

use proto::stanza::error::StanzaError;
use proto::{Element, ns};

use crate::empty_payload;
use crate::hooks::{Request, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("version", &[Xep(92, "1.1")], register);

fn register(setup: &mut Setup<'_>) {
    setup.iq_get(&[Scope::Host], version);
}

async fn version(_: Request<Version>) -> Result<Element, StanzaError> {
    let name = Element::new("name", ns::VERSION).with_text("Holdfast");
    let version = Element::new("version", ns::VERSION).with_text(env!("CARGO_PKG_VERSION"));
    Ok(Element::new("query", ns::VERSION)
        .with_child(name)
        .with_child(version))
}

empty_payload! {
    /// The question.
    Version, ns::VERSION, "query"
}
