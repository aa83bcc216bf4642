//! What the server does for its users, one file per extension. A new one is a file and a line here.

#![allow(
    clippy::result_large_err,
    reason = "a refusal is rare, and becomes one reply at once"
)]

mod administration;
mod announcements;
mod blocking;
mod caps;
mod carbons;
mod commands;
mod contact;
mod disco;
mod events;
mod external;
mod invitations;
mod last;
mod mam;
mod offline;
mod ping;
mod private;
mod pubsub;
mod push;
mod register;
mod roster;
mod time;
mod vcard;
mod version;

pub use announcements::{MOST_TEXT as MOST_ANNOUNCED, announcement};
pub use blocking::compare as compare_blocklists;
pub use mam::{archives_by_default, retention, tell_statements};

use crate::hooks::{Needs, Registry, Service, Xep};

/// Every service of this server.
pub const ALL: &[Service] = &[
    administration::SERVICE,
    announcements::SERVICE,
    blocking::SERVICE,
    caps::SERVICE,
    carbons::SERVICE,
    commands::SERVICE,
    contact::SERVICE,
    disco::SERVICE,
    events::SERVICE,
    external::SERVICE,
    invitations::SERVICE,
    last::SERVICE,
    mam::SERVICE,
    offline::SERVICE,
    ping::SERVICE,
    private::SERVICE,
    pubsub::SERVICE,
    push::SERVICE,
    register::SERVICE,
    roster::SERVICE,
    time::SERVICE,
    vcard::SERVICE,
    version::SERVICE,
];

/// Which extensions services implement: number, version of the document, and the service's name.
pub fn extensions() -> impl Iterator<Item = (u16, &'static str, &'static str)> {
    let of = |service: &'static Service| {
        let xeps = service.xeps.iter();
        xeps.map(|Xep(number, version)| (*number, *version, service.name))
    };
    ALL.iter().flat_map(of)
}

/// What all services want of the configuration and the database.
pub fn needs() -> Needs {
    Registry::needs(ALL)
}
