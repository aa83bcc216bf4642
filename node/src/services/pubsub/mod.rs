//! XEP-0060 and XEP-0163: publish-subscribe on the account, which everything rides on that people say of themselves
//! (moods, nicks, avatars, keys), and what is private to their clients (XEP-0223, XEP-0222).
//!
//! Nodes and their items are in the database. What is told of them goes through the shards: the shard of each contact
//! knows which of its sessions want to hear of a node, as `caps` has found out, and who has blocked whom.
//!
//! # Invariants
//!
//! 1. Only the account itself changes its nodes, and says who reads them.
//! 2. Whoever must not read a node hears nothing of it: access is judged whenever something is told or asked.
//! 3. What is published is in the database before anybody is told. A request that is made again after its node died
//!    comes to the same, but for what has gone meanwhile: of that it hears that it is not there.

mod access;
mod change;
mod config;
mod discovery;
mod error;
mod event;
mod last;
mod owner;
mod port;
mod read;
mod request;
mod settings;
mod storage;

use self::settings::Quotas;
use crate::hooks::{EffectPhase, Scope, Service, Setup, Xep};

/// The service.
pub const SERVICE: Service = Service::new(
    "pubsub",
    &[
        Xep(60, "1.30.0"),
        Xep(163, "1.2.2"),
        Xep(222, "1.0.1"),
        Xep(223, "1.1.1"),
    ],
    register,
);

/// What accounts can do of XEP-0060 (PE-1).
const FEATURES: &[&str] = &[
    "http://jabber.org/protocol/pubsub#access-open",
    "http://jabber.org/protocol/pubsub#access-presence",
    "http://jabber.org/protocol/pubsub#access-roster",
    "http://jabber.org/protocol/pubsub#access-whitelist",
    "http://jabber.org/protocol/pubsub#auto-create",
    "http://jabber.org/protocol/pubsub#auto-subscribe",
    "http://jabber.org/protocol/pubsub#config-node",
    "http://jabber.org/protocol/pubsub#config-node-max",
    "http://jabber.org/protocol/pubsub#create-and-configure",
    "http://jabber.org/protocol/pubsub#create-nodes",
    "http://jabber.org/protocol/pubsub#delete-items",
    "http://jabber.org/protocol/pubsub#delete-nodes",
    "http://jabber.org/protocol/pubsub#filtered-notifications",
    "http://jabber.org/protocol/pubsub#instant-nodes",
    "http://jabber.org/protocol/pubsub#item-ids",
    "http://jabber.org/protocol/pubsub#last-published",
    "http://jabber.org/protocol/pubsub#manage-subscriptions",
    "http://jabber.org/protocol/pubsub#member-affiliation",
    "http://jabber.org/protocol/pubsub#meta-data",
    "http://jabber.org/protocol/pubsub#modify-affiliations",
    "http://jabber.org/protocol/pubsub#multi-items",
    "http://jabber.org/protocol/pubsub#outcast-affiliation",
    "http://jabber.org/protocol/pubsub#persistent-items",
    "http://jabber.org/protocol/pubsub#presence-notifications",
    "http://jabber.org/protocol/pubsub#presence-subscribe",
    "http://jabber.org/protocol/pubsub#publish",
    "http://jabber.org/protocol/pubsub#publish-options",
    "http://jabber.org/protocol/pubsub#purge-nodes",
    "http://jabber.org/protocol/pubsub#retract-items",
    "http://jabber.org/protocol/pubsub#retrieve-affiliations",
    "http://jabber.org/protocol/pubsub#retrieve-default",
    "http://jabber.org/protocol/pubsub#retrieve-items",
    "http://jabber.org/protocol/pubsub#retrieve-subscriptions",
    "http://jabber.org/protocol/pubsub#rsm",
    "http://jabber.org/protocol/pubsub#subscribe",
];

/// Whoever has nodes, and whoever reads those of others.
const ACCOUNTS: [Scope; 2] = [Scope::Account, Scope::Contact];

fn register(setup: &mut Setup<'_>) {
    let quotas: Quotas = setup.config();
    setup.stored(&storage::STORED);
    setup.portable(port::Shelves { quotas });
    setup.identity(Scope::Account, "pubsub", "pep");
    for feature in FEATURES {
        setup.feature(&[Scope::Account], feature);
    }
    setup.nodes(discovery::Shelves { quotas });
    setup.iq_get(&ACCOUNTS, read::ask);
    setup.iq_set(&ACCOUNTS, move |request| change::change(request, quotas));
    setup.iq_get(&ACCOUNTS, owner::ask);
    setup.iq_set(&ACCOUNTS, move |request| owner::change(request, quotas));
    setup.effects(EffectPhase::Each, last::Readings);
}

#[cfg(test)]
mod tests;
