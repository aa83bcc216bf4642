//! The processes of the cluster that this node sees, and the formats that all of them read, as the links report them.

use std::collections::BTreeMap;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::format::Version;
use crate::link::{Absence, Links};
use crate::{BootId, NodeId};

/// The processes that this node is or was connected with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// The connected processes.
    pub up: BTreeMap<NodeId, BootId>,
    /// How many processes would be connected if all nodes were up.
    pub expected: usize,
    /// The processes that were connected and are not any more.
    pub away: BTreeMap<NodeId, Away>,
}

/// A process that is not connected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The run of the process.
    pub boot: BootId,
    /// Since when nothing was heard of it.
    pub since: Instant,
    /// Whether it is known to be gone, and not only silent.
    pub gone: bool,
}

fn away(absence: Absence) -> (NodeId, Away) {
    let away = Away {
        boot: absence.process.boot,
        since: absence.since,
        gone: absence.gone,
    };
    (absence.process.node, away)
}

/// Updates `peers` whenever the links report a change. Runs until they are shut down.
pub async fn watch_peers(links: Links, peers: watch::Sender<Peers>) {
    let mut events = links.subscribe();
    loop {
        let up = links
            .up()
            .into_iter()
            .map(|process| (process.node, process.boot))
            .collect();
        let now = Peers {
            up,
            expected: links.seats().len(),
            away: links.absent().into_iter().map(away).collect(),
        };
        peers.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
            return;
        }
    }
}

/// The newest version of the formats that every member reads, as far as it is known when the node starts.
pub fn formats(links: Option<&Links>) -> (watch::Sender<Version>, watch::Receiver<Version>) {
    watch::channel(links.map_or(Version::CURRENT, Links::common_format))
}

/// Raises `formats` to the newest version that all members read. It is never lowered: a member that comes back with an
/// older build cannot read what was written meanwhile anyway. Runs until the links are shut down.
pub async fn watch_formats(links: Links, formats: watch::Sender<Version>) {
    let mut events = links.subscribe();
    loop {
        let common = links.common_format();
        let raised = formats.send_if_modified(|known| {
            let raised = common > *known;
            *known = common.max(*known);
            raised
        });
        if raised {
            tracing::info!("all members read format {common}: it is written from now on");
        }
        if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
            return;
        }
    }
}
