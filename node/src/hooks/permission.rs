//! Who may see whom, and hence ask.

use cluster::session::Relay;
use proto::BareJid;
use proto::stanza::Packet;
use proto::stanza::error::StanzaError;

use super::edge::Edge;
use super::refusal::failure;
use crate::storage::StorageError;

/// `viewer` may see the presence of `account`.
pub async fn sees(edge: &Edge, viewer: &BareJid, account: &BareJid) -> Result<bool, StanzaError> {
    let seen = try_sees(edge, viewer, account).await;
    seen.map_err(|error| failure(&error))
}

async fn try_sees(edge: &Edge, viewer: &BareJid, account: &BareJid) -> Result<bool, StorageError> {
    let item = edge.storage.contact(account, viewer).await?;
    Ok(item.is_some_and(|item| item.subscription.from()))
}

/// A request of `account`, or of the server in its name, on its way to a session of somebody: it carries
/// what the rosters say about it, so that none is sent without (IM-D).
pub async fn request(
    edge: &Edge,
    account: &BareJid,
    to: &BareJid,
    packet: Packet,
) -> Result<Relay, StorageError> {
    let permitted = to == account || try_sees(edge, account, to).await?;
    Ok(Relay::Iq { packet, permitted })
}
