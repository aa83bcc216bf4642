//! Who may see whom, and hence ask; and who has blocked whom.

use cluster::session::Relay;
use proto::payload::blocking::refusal;
use proto::stanza::Packet;
use proto::stanza::error::{Condition, StanzaError};
use proto::{BareJid, Jid};

use super::barrier::Barrier;
use super::edge::Edge;
use super::refusal::{fail, failure};
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

/// Refuses what passes between two of whom one has blocked the other: the sender hears of its own block, and of that
/// of the other one no more than that nobody answers (IM-69, IM-70).
pub async fn unblocked(edge: &Edge, sender: &Jid, to: &Jid) -> Result<(), StanzaError> {
    let between = edge.blocking.between(&edge.storage, sender, to).await;
    match between.map_err(|error| failure(&error))? {
        None => Ok(()),
        Some(Barrier::Own) => Err(refusal()),
        Some(Barrier::Other) => fail(Condition::ServiceUnavailable),
    }
}
