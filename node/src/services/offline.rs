//! XEP-0160: Offline Messages. Here it is said which messages wait for those who are away; that they do is the shard's
//! doing, and the archive keeps them meanwhile.

use cluster::session::Traits;
use proto::ns;

use crate::hooks::{Content, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new("offline", &[Xep(160, "1.0.1")], register);

fn register(setup: &mut Setup<'_>) {
    setup.feature(&[Scope::Host], ns::OFFLINE);
    setup.classify(classify);
}

/// Whatever says more than that somebody types (IM-60).
fn classify(content: Content, traits: &mut Traits) {
    traits.offline = content.converses() && content.says_anything() && !content.no_store;
}
