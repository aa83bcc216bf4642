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
    let seen = edge.visibility.sees(&edge.storage, viewer, account).await;
    seen.map_err(|error| failure(&error))
}

/// A request of `account`, or of the server in its name, on its way to a session of somebody: it carries
/// what the rosters say about it, so that none is sent without (IM-D).
pub async fn request(
    edge: &Edge,
    account: &BareJid,
    to: &BareJid,
    packet: Packet,
) -> Result<Relay, StorageError> {
    let seen = edge.visibility.sees(&edge.storage, account, to);
    let permitted = to == account || seen.await?;
    Ok(Relay::Iq { packet, permitted })
}
