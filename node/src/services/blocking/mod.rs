//! XEP-0191: Blocking Command, with the reports of XEP-0377. The list is read and changed here.
//!
//! It is kept in the database, and the account's shard has a copy, by which it turns stanzas away where delivery is
//! decided. A change goes to both: the database first, so that what was promised outlives the shard.

mod compare;
mod gate;
mod items;
mod port;
mod report;
mod settings;
mod storage;

use cluster::session::{Action, BlocklistUpdate};
use proto::payload::blocking::is_blockable;
use proto::stanza::error::StanzaError;
use proto::stanza::{IqType, Kind, Stanza};
use proto::{Element, Jid, ns};

use self::items::{Block, Items, Unblock, within};
use self::settings::Quotas;
use self::storage::Changed;
use crate::empty_payload;
use crate::hooks::{EffectPhase, Phase, Reply, Request, Scope, Service, Setup, Xep, failure};

pub use compare::run as compare;

/// The service.
pub const SERVICE: Service =
    Service::new("blocking", &[Xep(191, "1.3"), Xep(377, "0.3.1")], register);

fn register(setup: &mut Setup<'_>) {
    let quotas: Quotas = setup.config();
    setup.stored(&storage::STORED);
    setup.portable(port::Blocklists { quotas });
    setup.blocking(gate::Lists);
    setup.iq_get(&[Scope::Account], read);
    setup.iq_set(&[Scope::Account], move |request| block(request, quotas));
    setup.iq_set(&[Scope::Account], unblock);
    // Clients look for both at the server.
    setup.feature(&[Scope::Host], ns::BLOCKING);
    setup.feature(&[Scope::Host, Scope::Account], ns::REPORTING);
    setup.presence(Phase::Limit, gate::requests);
    setup.presence(Phase::Follow, gate::logins);
    setup.effects(EffectPhase::Each, gate::Readings);
}

empty_payload! {
    /// Asks for the list.
    Asked, ns::BLOCKING, "blocklist"
}

/// From here on the session is told of changes, so that is declared before the list is given (IM-65).
async fn read(request: Request<Asked>) -> Result<Reply, StanzaError> {
    let list = request.edge.storage.blocklist(&request.account).await;
    let list = list.map_err(|error| failure(&error))?;
    let list = items::element("blocklist", &list.jids);
    Ok(Reply::new(list).after(Action::FollowsBlocklist))
}

async fn block(request: Request<Block>, quotas: Quotas) -> Result<Reply, StanzaError> {
    let (storage, revision) = (&request.edge.storage, revision(&request));
    let Items { jids, reports } = &request.payload.0;
    let changed = storage
        .block(&quotas, &request.account, revision, jids)
        .await;
    let changed = changed.map_err(|error| failure(&error))?;
    report::log(&request.account, reports);
    let push = items::element("block", jids);
    changed_to(&request, changed, (jids, &[]), push).await
}

async fn unblock(request: Request<Unblock>) -> Result<Reply, StanzaError> {
    let (storage, revision) = (&request.edge.storage, revision(&request));
    let Items { jids, .. } = &request.payload.0;
    let changed = storage.unblock(&request.account, revision, jids).await;
    let changed = changed.map_err(|error| failure(&error))?;
    let push = items::element("unblock", jids);
    // Of everybody it is found in the database who that was.
    let unblocked = match jids.is_empty() {
        true => changed.jids.clone(),
        false => jids.clone(),
    };
    changed_to(&request, changed, (&[], &unblocked), push).await
}

/// A number that no state of the list had, nor will have.
fn revision<P>(request: &Request<P>) -> u64 {
    // It fits into the signed numbers of the database, and is not that of no list.
    ((request.edge.random)() as u64 >> 1).max(1)
}

/// What follows from a change: the shard takes it over, and tells those whom it concerns (IM-66, IM-67).
async fn changed_to<P>(
    request: &Request<P>,
    changed: Changed,
    (block, unblock): (&[Jid], &[Jid]),
    push: Element,
) -> Result<Reply, StanzaError> {
    let (edge, account) = (&request.edge, &request.account);
    let covers = within(block.iter().chain(unblock));
    let is_concerned = |jid: &Jid| {
        jid.and_wider().any(|wider| covers.contains(wider)) && is_blockable(account, jid)
    };
    let viewers = edge.visibility.viewers(&edge.storage, account).await;
    let mut viewers = viewers.map_err(|error| failure(&error))?;
    viewers.retain(|viewer| edge.serves(viewer.domain()));
    // A session that is blocked by itself is told by itself.
    let seen = within(viewers.iter().map(|viewer| viewer.as_jid()));
    let named = block.iter().chain(unblock);
    let sessions = named.filter(|jid| !jid.is_bare() && seen.contains(jid.bare_str()));
    let sessions: Vec<Jid> = sessions.cloned().collect();
    let viewers = viewers.iter().map(Jid::from).filter(is_concerned);
    let mut probes = Vec::new();
    if !unblock.is_empty() {
        let visible = edge.visibility.visible(&edge.storage, account).await;
        probes = visible.map_err(|error| failure(&error))?;
        probes.retain(|jid| edge.serves(jid.domain()) && is_concerned(jid.as_jid()));
    }
    let push = Stanza::new(Kind::Iq(IqType::Set))
        .with_id(edge.stanza_id())
        .with_child(push);
    let update = BlocklistUpdate {
        found: changed.found,
        left: changed.left,
        block: block.to_vec(),
        unblock: unblock.to_vec(),
        viewers: viewers.chain(sessions).collect(),
        probes,
        push: push.pack(),
    };
    Ok(Reply::empty().then_all([Action::Blocklist(update)]))
}

#[cfg(test)]
mod tests;
